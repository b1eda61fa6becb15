"""From codes to pixels with a model directory's own parts: what generate and reconstruct share."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lavit_core.config import load_preset, resolve
from lavit_core.errors import InputError

if TYPE_CHECKING:
    from lavit_detokenizer.api import Detokenizer, DrawSettings
    from lavit_pretrain.api import SampleSettings
    from lavit_tokenizer.api import VisualTokenizer

BATCH = 16
"""Pictures drawn at once; a picture depends on its own seed only, whatever the number."""


def sample_settings(preset: str, **given: Any) -> "SampleSettings":
    """Return how codes are drawn: the preset of `lavit sample`, with the values given (None: not given)."""
    from lavit_pretrain.config import SampleSettings

    return resolve(SampleSettings, preset=load_preset("lavit_pretrain", "sample", preset), flags=given)


def draw_settings(preset: str, **given: Any) -> "DrawSettings":
    """Return how pixels are drawn: the preset of `lavit detokenize`, with the values given (None: not given)."""
    from lavit_detokenizer.config import DrawSettings

    return resolve(DrawSettings, preset=load_preset("lavit_detokenizer", "detokenize", preset), flags=given)


def draw_codes(
    tokenizer: "VisualTokenizer",
    detokenizer: "Detokenizer",
    codes: Sequence[np.ndarray],
    seeds: Sequence[int],
    settings: "DrawSettings",
) -> np.ndarray:
    """Return uint8 pictures [N, px, px, 3] of N code sequences, each with its own seed."""
    import torch
    from lavit_detokenizer.api import draw

    drawn = []
    for start in range(0, len(codes), BATCH):
        some = codes[start : start + BATCH]
        counts = torch.tensor([len(one) for one in some])
        with torch.inference_mode():
            codes_T = torch.from_numpy(np.concatenate(some))
            condition = tokenizer.decode_codes(codes_T, counts, decoder=detokenizer.decoder)
        drawn.append(draw(detokenizer, condition, seeds=seeds[start : start + BATCH], settings=settings))
    return np.concatenate(drawn)


@contextlib.contextmanager
def stages_for(command: str) -> Iterator[None]:
    """Turn the import of a stage that is not installed into the line that installs it. Raises InputError."""
    from lavit_cli.plugins import INSTALL

    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0].replace("_", "-")
        if missing not in INSTALL:
            raise
        raise InputError(f"lavit {command} needs {missing}, which is not installed; run `{INSTALL[missing]}`") from None


def require_png(out: Path) -> None:
    """Refuse a name that is no PNG's before any work is done. Raises InputError."""
    if out.suffix.lower() != ".png":
        raise InputError(f"--out {out}: expected a file name that ends in .png")
