"""`lavit reconstruct`: images, the patches the tokenizer keeps of them, and the reconstructions from their codes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavit import LaVIT
from lavit_core.images import open_rgb, resize_whole
from lavit_core.shown_images import dim_dropped, enlarge, in_grid

from lavit_cli.image_files import save_image

if TYPE_CHECKING:
    from lavit import DrawSettings


def reconstruct(
    images: Sequence[Path],
    model: Path,
    out: Path,
    drawing: "DrawSettings",
    *,
    highres: bool = False,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
) -> dict[str, Any]:
    """Write original | kept patches | reconstruction as one image, a row for each of `images`; each is drawn as alone.

    Raises InputError for a bad image or model.
    """
    lavit = LaVIT.from_pretrained(
        model,
        parts=("tokenizer", "detokenizer"),
        device=device,
        precision=precision,
        low_memory=True,
        highres=highres,
    )
    opened = [open_rgb(image) for image in images]
    tokens = lavit.encode(opened)
    each_drawing = lavit.fitting_settings(opened, drawing)
    drawn = lavit.decode(tokens, seeds=[seed] * len(opened), settings=each_drawing)
    panels = []
    for image, keep_mask, back in zip(opened, tokens.keep_mask, drawn, strict=True):
        # The detokenizer may draw squares of another size than the encoder reads (published: 512 and 224).
        size_px = (lavit.image_px, lavit.image_px) if back.height == back.width else (back.height, back.width)
        original = resize_whole(image, size_px)
        panels += [original, dim_dropped(original, keep_mask, lavit.grid), resize_whole(back, size_px)]
    made = {
        "seed": seed,
        "model": lavit.metadata["model"],
        "draw": drawing.model_dump(mode="json"),
        "precision": precision,
    }
    shown = [str(image) for image in images]
    save_image(out, in_grid([enlarge(panel) for panel in panels], columns=3), {"images": shown, **made})
    each = [
        {"image": image, "kept": int(keep_mask.sum()), "patches": int(keep_mask.size), "codes": codes.tolist(),
         "size_px": [back.height, back.width]}
        for image, keep_mask, codes, back in zip(shown, tokens.keep_mask, tokens.codes, drawn, strict=True)
    ]  # fmt: skip
    return {"out": str(out), **made, "images": each}
