"""`lavit caption`: what the model says about pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lavit_core.images import square_pixels
from lavit_tokenizer.api import load_tokenizer

from lavit_pretrain.language_model import LanguageModel, load_llm
from lavit_pretrain.reading import ImageInput, caption, look


def look_at(model: Path, pictures: Sequence[Path], *, device: str = "auto") -> tuple[LanguageModel, ImageInput]:
    """Return the language model and picture files as it reads them. Raises InputError for an unreadable file."""
    tokenizer = load_tokenizer(model, device=device)
    image_px = tokenizer.config.preprocessing.image_px
    pixels = np.stack([square_pixels(picture, image_px) for picture in pictures])
    llm = load_llm(model, device=device)
    return llm, look(llm, tokenizer, pixels)


def caption_files(
    pictures: Sequence[Path], model: Path, *, max_tokens: int = 36, device: str = "auto"
) -> list[dict[str, str]]:
    """Return one row {image, caption} a picture file."""
    llm, images = look_at(model, pictures, device=device)
    captions = caption(llm, images, max_tokens=max_tokens)
    return [{"image": str(picture), "caption": text} for picture, text in zip(pictures, captions, strict=True)]
