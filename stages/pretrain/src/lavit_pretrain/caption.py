"""`lavit caption`: what the model says about pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lavit_core.images import square_pixels
from lavit_core.progress import warn
from lavit_tokenizer.api import load_tokenizer

from lavit_pretrain.language_model import LanguageModel, load_llm, read_visual_about
from lavit_pretrain.reading import ImageInput, Selected, caption, merge_patches, select_patches


def look_at(
    model: Path, pictures: Sequence[Path], *, device: str = "auto", precision: str = "auto"
) -> tuple[LanguageModel, ImageInput]:
    """Return the language model and picture files as it reads them. Raises InputError for an unreadable file."""
    seen = _see_files(model, pictures, device=device)
    llm = load_llm(model, device=device, precision=precision)
    return llm, merge_patches(llm, seen)


def _see_files(model: Path, pictures: Sequence[Path], *, device: str) -> ImageInput | Selected:
    """The tokenizer is gone when this returns: at the published size there is no room for it beside a 7B model."""
    image_input = read_visual_about(model).image_input
    if image_input == "none":
        warn(f"{model}: this model was trained without pictures: it answers blind")
    tokenizer = load_tokenizer(model, device=device, use="encode")
    image_px = tokenizer.config.preprocessing.image_px
    pixels = np.stack([square_pixels(picture, image_px) for picture in pictures])
    return select_patches(image_input, tokenizer, pixels)


def caption_files(
    pictures: Sequence[Path], model: Path, *, max_tokens: int = 36, device: str = "auto", precision: str = "auto"
) -> list[dict[str, str]]:
    """Return one row {image, caption} a picture file."""
    llm, images = look_at(model, pictures, device=device, precision=precision)
    captions = caption(llm, images, max_tokens=max_tokens)
    return [{"image": str(picture), "caption": text} for picture, text in zip(pictures, captions, strict=True)]
