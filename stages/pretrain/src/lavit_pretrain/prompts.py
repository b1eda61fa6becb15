"""Prompts of text and images in any order: the rows that stand before the first code that is drawn.

Source: the released code's `multimodal_synthesis`: images in a prompt are their codes, embedded by the language model's
own table; texts are tokenised one by one. Differs: an image stands in brackets, `[IMG] codes [/IMG]`, as in every
document of the training (`prompt_images: bare` leaves them out, as released), and prompts come in batches.
Letters: n tokens of a prompt, F continuous image rows, D merger width, H hidden width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from lavit_core.errors import UsageError
from lavit_core.images import resize_to_square, square_pixels
from lavit_core.seeds import epoch_batches
from PIL import Image

from lavit_pretrain.config import PromptImages
from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.reading import encode_images
from lavit_pretrain.sequence import Prompt

if TYPE_CHECKING:
    from lavit_tokenizer.api import VisualTokenizer

PicturePrompt = str | Sequence[str | Path | np.ndarray]
"""The same with pictures still to be read: files, or pixels uint8 [h, w, 3]."""

BATCH_PICTURES = 64
"""Pictures tokenised at the same time."""


def read_prompts(
    llm: LanguageModel,
    tokenizer: "VisualTokenizer | None",
    prompts: Sequence[PicturePrompt],
    prompt_images: PromptImages,
) -> list[Prompt]:
    """Return the prompts with each picture as codes or, where `prompt_images` is continuous, as the rows it is read by.

    The tokenizer may be left out where no prompt holds a picture.
    Raises InputError for an unreadable file, UsageError for a model that cannot see, or not in this way.
    """
    parts = [[one] if isinstance(one, str) else list(one) for one in prompts]
    # A picture that stands in several prompts is read once.
    pictures = {_name(part): part for own in parts for part in own if is_picture(part)}
    if pictures and llm.image_input == "none":
        raise UsageError("this model was trained without images; a prompt with images needs one that sees")
    if pictures and prompt_images == "continuous" and llm.image_input == "codes":
        raise UsageError(
            "setting prompt_images: continuous, but this model reads images as codes and has no projector; take codes"
        )
    names, rows = list(pictures), dict[object, np.ndarray]()
    for some in epoch_batches(len(names), BATCH_PICTURES):
        assert tokenizer is not None, "pictures to read, but no tokenizer"
        image_px = tokenizer.config.preprocessing.image_px
        pixels = np.stack([square(pictures[name], image_px) for name in names[some]])
        rows.update(zip(names[some], image_rows(llm, tokenizer, pixels, prompt_images), strict=True))
    return cast(list[Prompt], [[rows.get(_name(part), part) for part in own] for own in parts])


def _name(part: str | Path | np.ndarray) -> object:
    return part if isinstance(part, Path) else id(part)


def is_picture(part: str | Path | np.ndarray) -> bool:
    """Return whether a part is a picture that has to be read yet."""
    return isinstance(part, Path) or (isinstance(part, np.ndarray) and part.ndim == 3)


def square(picture: str | Path | np.ndarray, image_px: int) -> np.ndarray:
    """Return a picture as uint8 [image_px, image_px, 3], as the tokenizer reads it. Raises InputError."""
    if isinstance(picture, np.ndarray):
        return resize_to_square(Image.fromarray(picture), image_px)
    return square_pixels(Path(picture), image_px)


def image_rows(
    llm: LanguageModel, tokenizer: "VisualTokenizer", pixels: np.ndarray, prompt_images: PromptImages
) -> list[np.ndarray]:
    """Return what stands for each picture: codes int64 [n], or continuous rows float32 [n, D]."""
    if prompt_images == "continuous":
        seen = encode_images(llm, tokenizer, pixels)
        assert seen.features is not None, "a model that reads continuous rows gave none"
        return np.split(seen.features, np.cumsum(seen.counts)[:-1])
    encoded = tokenizer.encode(torch.from_numpy(pixels))
    return np.split(encoded.codes.cpu().numpy(), np.cumsum(encoded.counts.cpu().numpy())[:-1])
