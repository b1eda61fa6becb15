"""Images to tokens and codes to images, by the parts that are held."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from lavit_core.errors import InputError, UsageError
from lavit_core.seeds import epoch_batches
from PIL import Image

from lavit.images import square_images
from lavit.parts import Parts
from lavit.steps import GenerationStep
from lavit.tokens import ImageTokens

if TYPE_CHECKING:
    from lavit_detokenizer.api import DrawSettings

BATCH_IMAGES = 64
"""Images encoded at the same time."""


def encode_images(
    parts: Parts,
    images: Sequence[Any],
    *,
    selection: str | None = None,
    tokens: int | None = None,
    seed: int = 0,
    keys: Sequence[str] | None = None,
) -> ImageTokens:
    """Return images as tokens.

    Raises InputError for an unreadable image, UsageError for an unknown selection, `tokens` that do not fit, or another
    number of keys than of images.
    """
    import torch

    if keys is not None and (isinstance(keys, str) or len(keys) != len(images)):
        found = "a text" if isinstance(keys, str) else f"{len(keys)}"
        raise UsageError(f"keys: found {found}, expected {len(images)}, one an image")
    encoder, image_px = parts.encoder(), parts.tokenizer_config().preprocessing.image_px
    encoded = []
    for rows in epoch_batches(len(images), BATCH_IMAGES):
        squares = square_images(images[rows], image_px, first=rows.start)
        pixels = torch.from_numpy(squares)
        own = None if keys is None else keys[rows]
        if keys is None and selection == "sample":
            own = [hashlib.sha256(square.tobytes()).hexdigest() for square in squares]
        with torch.inference_mode():
            encoded.append(encoder.encode(pixels, selection=selection, tokens=tokens, seed=seed, keys=own))
    codes, counts, keep_mask, features = (
        np.concatenate([getattr(batch, name).cpu().numpy() for batch in encoded])
        for name in ("codes", "counts", "keep_mask", "merged")
    )
    return ImageTokens(
        codes=np.split(codes, np.cumsum(counts)[:-1]), counts=counts, keep_mask=keep_mask, features=features
    )


def decode_steps(
    parts: Parts, codes: Sequence[np.ndarray], seeds: Sequence[int], settings: "DrawSettings"
) -> Iterator[GenerationStep]:
    """Draw the images of codes int64 [n], and yield after each denoising step; the last step has the images."""
    parts.draw_size(settings)  # refuses what can't be drawn before anything is loaded
    with parts.using("detokenizer"):
        from lavit_detokenizer.api import draw_codes_steps
    images: list[Image.Image] = []
    tokenizer, detokenizer = parts.decoder(), parts.detokenizer()
    for step in draw_codes_steps(detokenizer, tokenizer, codes, seeds=seeds, settings=settings):
        if step.pixels is not None:
            images += [Image.fromarray(pixels) for pixels in step.pixels]
        own = [codes[place] for place in step.images]
        yield GenerationStep(
            stage="pixels", indices=step.images, step=step.step, num_steps=step.num_steps, read_codes=own.copy
        )
    everything = range(len(codes))
    yield GenerationStep(
        stage="done",
        indices=everything,
        step=len(images),
        num_steps=len(images),
        read_codes=list(codes).copy,
        images=images,
    )


def decode_each(
    parts: Parts, codes: Sequence[np.ndarray], seeds: Sequence[int], settings: Sequence["DrawSettings"]
) -> list[Image.Image]:
    """Return the images of codes int64 [n], each drawn by its own settings; those of equal ones are drawn together."""
    drawn: dict[int, Image.Image] = {}
    for own in dict.fromkeys(settings):
        places = [place for place, one in enumerate(settings) if one == own]
        *_, last = decode_steps(parts, [codes[place] for place in places], [seeds[place] for place in places], own)
        assert last.images is not None
        drawn |= dict(zip(places, last.images, strict=True))
    return [drawn[place] for place in range(len(codes))]


def check_codes(codes: Sequence[Any], codebook_size: int) -> list[np.ndarray]:
    """Return codes as int64 [n] an image. Raises InputError for another kind, or values outside the codebook."""
    try:
        checked = [np.asarray(own) for own in codes]
    except TypeError:  # None, a number, an array without axes
        raise InputError(f"codes: found {type(codes).__name__}, expected integers [n] an image") from None
    except ValueError:  # lists of different depths
        raise InputError("codes: found lists inside of one's codes, expected integers [n] an image") from None
    for place, own in enumerate(checked):
        if own.ndim != 1 or not np.issubdtype(own.dtype, np.integer):
            raise InputError(f"codes[{place}]: found {own.dtype} {list(own.shape)}, expected integers [n]")
        if own.size and not 0 <= int(own.min()) <= int(own.max()) < codebook_size:
            found = f"[{int(own.min())}, {int(own.max())}]"
            raise InputError(f"codes[{place}]: they lie in {found}, expected [0, {codebook_size})")
    return [own.astype(np.int64) for own in checked]
