"""Disk space of a tokenization, estimated before its first image is read."""

import shutil
from pathlib import Path

from lavit_core.data_plan import DataPlan
from lavit_core.errors import InputError
from lavit_core.progress import note

from lavit_tokenizer.config import TokenizeConfig, TokenizerConfig
from lavit_tokenizer.selector import topk_tokens

OFFSETS_BYTES = 16
"""Of an image in a shard: where its codes and its key end."""

FEATURE_BYTES = 2
"""Of a number of a stored feature."""


def needed_bytes(images: int, shape: TokenizerConfig, config: TokenizeConfig) -> tuple[int, int]:
    """Return (least, most) bytes of the shards of so many images, without keys and captions.

    How many tokens an image has is known beforehand of `topk` alone; else it is any number from one to all patches.
    """
    few, many = 1, shape.num_patches
    if config.selection == "topk":
        few = many = topk_tokens(shape, config.tokens)
    code = (2 if shape.codebook_size <= 1 << 16 else 4) + (FEATURE_BYTES * shape.feature_dim if config.features else 0)
    fixed = OFFSETS_BYTES + -(-shape.num_patches // 8)
    return images * (fixed + few * code), images * (fixed + many * code)


def check_space(out: Path, images: int, plan: DataPlan, shape: TokenizerConfig, config: TokenizeConfig) -> None:
    """Say on stderr if the disk of `out` may be too small for the shards of so many images.

    Raises InputError if it certainly is.
    """
    least, most = needed_bytes(images, shape, config)
    texts = plan.records.stat().st_size if isinstance(plan.records, Path) else 0
    most += texts * images // max(1, plan.num_records)
    free = shutil.disk_usage(out).free
    if free < least:
        raise InputError(
            f"{out}: the tokens of {images} images take at least {_size(least)}, and {_size(free)} are free; free some "
            "space there, or give an --out on another disk"
        )
    if free < most:
        note(
            f"{out}: the tokens of {images} images take {_size(least)} to {_size(most)}, and {_size(free)} are free; "
            "if the disk is full before the end, the same command goes on once there is space"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
