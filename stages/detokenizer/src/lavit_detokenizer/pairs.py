"""Training pairs: the decoded features of stored codes, and the images they came from, joined by key."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from lavit_core.data import Data
from lavit_core.errors import InputError
from lavit_core.progress import Progress
from lavit_core.seeds import epoch_batches
from lavit_core.tokens import TokenReader
from lavit_tokenizer.api import VisualTokenizer
from lavit_trainkit.distributed import all_reduce_, is_own_place
from lavit_trainkit.pixels import Pixels
from torch import Tensor

from lavit_detokenizer.network import latent_moments

BATCH = 128
"""Samples that are decoded or encoded together when a cache is filled."""


def image_paths(reader: TokenReader, images: Data, tokens: Path) -> list[Path]:
    """Return the image of every sample. Raises InputError naming the first key without one."""
    by_key = {record.key: record.path for record in images.records}
    keys = reader.keys(np.arange(len(reader)))
    missing = [key for key in keys if key not in by_key]
    if missing:
        more = f" (and {len(missing) - 1} more)" if missing[1:] else ""
        raise InputError(
            f"{images.root}: no image {missing[0]}{more}, which {tokens} holds codes of; "
            "give --images the folder that was tokenized"
        )
    return [by_key[key] for key in keys]


class CachedRows:
    """Rows of `compute(indices)` by index: computed once and kept when `row_bytes` of all fit, else every time."""

    def __init__(
        self,
        compute: Callable[[np.ndarray], Tensor],
        count: int,
        row_bytes: int,
        *,
        title: str,
        cache_bytes: int,
        quiet: bool,
    ) -> None:
        self._compute = compute
        self._cache = _fill(compute, count, title, quiet) if count * row_bytes <= cache_bytes else None

    def batch(self, indices: np.ndarray) -> Tensor:
        """Return the rows of `indices`."""
        return self._compute(indices) if self._cache is None else self._cache[torch.from_numpy(indices)]


def decoded_features(reader: TokenReader, tokenizer: VisualTokenizer, *, cache_bytes: int, quiet: bool) -> CachedRows:
    """Return the decoded features of every sample's codes, bfloat16 [B, P, D]."""

    def decode(indices: np.ndarray) -> Tensor:
        codes, counts = reader.codes(indices)
        return tokenizer.decode_codes(torch.from_numpy(codes), torch.from_numpy(counts)).cpu().bfloat16()

    row_bytes = tokenizer.config.num_patches * tokenizer.config.decoder_width * 2
    return CachedRows(decode, len(reader), row_bytes, title="decode codes", cache_bytes=cache_bytes, quiet=quiet)


def latents(vae: AutoencoderKL, pixels: Pixels, *, cache_bytes: int, quiet: bool) -> CachedRows:
    """Return the posterior moments of every image's latents, float32 [B, 2C, H, W]."""

    def encode(indices: np.ndarray) -> Tensor:
        return latent_moments(vae, pixels.batch(indices).to(vae.device)).cpu()

    row_bytes = encode(np.arange(1)).nbytes
    return CachedRows(encode, len(pixels), row_bytes, title="encode latents", cache_bytes=cache_bytes, quiet=quiet)


def _fill(compute: Callable[[np.ndarray], Tensor], count: int, title: str, quiet: bool) -> Tensor:
    cache: Tensor | None = None
    with Progress(title, count, unit="image", quiet=quiet) as progress:
        for place, rows in enumerate(epoch_batches(count, BATCH)):
            if place == 0 or is_own_place(place):
                part = compute(np.arange(rows.start, rows.stop))
            if cache is None:
                cache = torch.zeros((count, *part.shape[1:]), dtype=part.dtype)
            if is_own_place(place):
                cache[rows] = part
            progress.advance(rows.stop - rows.start)
    assert cache is not None
    all_reduce_(cache)
    return cache
