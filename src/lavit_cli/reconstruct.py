"""`lavit reconstruct`: an image, the patches the tokenizer keeps of it, and the reconstruction from their codes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lavit import LaVIT
from lavit_core.images import square_pixels
from lavit_core.shown_images import dim_dropped, enlarge, in_grid
from PIL import Image

from lavit_cli.image_files import save_image

if TYPE_CHECKING:
    from lavit import DrawSettings


def reconstruct(
    image: Path,
    model: Path,
    out: Path,
    drawing: "DrawSettings",
    *,
    highres: bool = False,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
) -> dict[str, Any]:
    """Write original | kept patches | reconstruction as one image. Raises InputError for a bad image or model."""
    lavit = LaVIT.from_pretrained(
        model,
        parts=("tokenizer", "detokenizer"),
        device=device,
        precision=precision,
        low_memory=True,
        highres=highres,
    )
    pixels = square_pixels(image, lavit.image_px)
    tokens = lavit.encode(pixels)
    drawn = lavit.decode(tokens, seeds=seed, settings=drawing)[0]
    if drawn.size != (lavit.image_px, lavit.image_px):
        # The detokenizer may draw at another size than the encoder reads (published: 512 and 224).
        drawn = drawn.resize((lavit.image_px, lavit.image_px), Image.Resampling.BICUBIC)
    keep_mask = tokens.keep_mask[0]
    panels = [enlarge(panel) for panel in (pixels, dim_dropped(pixels, keep_mask, lavit.grid), np.asarray(drawn))]
    made = {
        "image": str(image),
        "seed": seed,
        "model": lavit.metadata["model"],
        "draw": drawing.model_dump(mode="json"),
        "precision": precision,
    }
    save_image(out, in_grid(panels, columns=3), made)
    return {
        "out": str(out),
        **made,
        "kept": int(keep_mask.sum()),
        "patches": int(keep_mask.size),
        "codes": tokens.codes[0].tolist(),
    }
