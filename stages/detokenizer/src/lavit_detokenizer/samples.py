"""Sample images of a detokenizer in training, and pixels for the sample images of other trainings."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from lavit_core.shown_images import enlarge, in_grid
from lavit_core.tokens import TokenReader
from lavit_tokenizer.api import load_tokenizer
from lavit_trainkit.samples import SHOWN, Sheets

from lavit_detokenizer.config import DrawSettings
from lavit_detokenizer.draw import draw, draw_codes
from lavit_detokenizer.folder import load_detokenizer
from lavit_detokenizer.network import Detokenizer
from lavit_detokenizer.pairs import TrainingPairs
from lavit_detokenizer.sizes import size_name

SETTINGS = DrawSettings(guidance_scale=1.5, batch_size=SHOWN)


def detokenizer_sheets(detokenizer: Detokenizer, pairs: TrainingPairs, reader: TokenReader) -> Sheets:
    """Return the sheet `reconstructions`: images of the token directory, and beside each what is drawn of its codes.

    Drawn with seed 0, 25 steps of DDIM (or as many as there are levels of noise) and guidance 1.5.
    """
    shown, panels = shown_samples(reader), []
    most = int(detokenizer.scheduler.config.num_train_timesteps)
    settings = SETTINGS.model_copy(update={"num_steps": min(SETTINGS.num_steps, most)})
    for bucket in np.unique(pairs.bucket_N[shown]):
        indices = shown[pairs.bucket_N[shown] == bucket]
        sized = settings.model_copy(update={"size": size_name(pairs.size_px(indices))})
        drawn = draw(detokenizer, pairs.features(indices), seeds=[0] * len(indices), settings=sized)
        panels += [panel for both in zip(pairs.pixels(indices), drawn, strict=True) for panel in both]
    return {"reconstructions": in_grid([enlarge(panel, 128) for panel in panels], columns=4)}


def shown_samples(reader: TokenReader) -> np.ndarray:
    """Return the indices of the samples that are shown: spread evenly, always the same ones."""
    return np.unique(np.linspace(0, len(reader) - 1, SHOWN).astype(np.int64))


def open_drawer(model: Path, device: str) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    """Return a function from code sequences int64 [n] to images uint8 [B, h, w, 3], by a model's detokenizer.

    Other stages find it through the entry point `lavit.codes_to_images`.
    """
    tokenizer = load_tokenizer(model, device=device, use="decode")
    detokenizer = load_detokenizer(model, device=device)

    def draw_images(codes: Sequence[np.ndarray]) -> np.ndarray:
        return draw_codes(detokenizer, tokenizer, codes, seeds=[0] * len(codes), settings=SETTINGS)

    return draw_images
