"""`lavit reconstruct`: images, the patches the tokenizer keeps of them, and the reconstructions from their codes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavit import LaVIT
from lavit_core.images import open_rgb, resize_whole
from lavit_core.shown_images import dim_dropped, enlarge, enlargement, grid_px, in_grid

from lavit_cli.image_files import check_image_size, save_image

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
    dry_run: bool = False,
) -> dict[str, Any]:
    """Write original | kept patches | reconstruction as one image, a row for each of `images`; each is drawn as alone.

    With `dry_run` nothing is drawn or written. Raises InputError for a bad image or model, and for more images than the
    format of `out` holds.
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
    each_drawing = lavit.fitting_settings(opened, drawing)
    sizes_px = [_panel_px(lavit, settings) for settings in each_drawing]
    _check_sheet(out, sizes_px)
    if dry_run:
        return {}
    tokens = lavit.encode(opened)
    drawn = lavit.decode(tokens, seeds=[seed] * len(opened), settings=each_drawing)
    panels = []
    for image, size_px, keep_mask, back in zip(opened, sizes_px, tokens.keep_mask, drawn, strict=True):
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


def _panel_px(lavit: LaVIT, drawing: "DrawSettings") -> tuple[int, int]:
    """Return height and width in pixels at which an image and its reconstruction are shown, before enlarging.

    The detokenizer may draw squares of another size than the encoder reads (published: 512 and 224).
    """
    high, wide = lavit.draw_size(drawing)
    return (lavit.image_px, lavit.image_px) if high == wide else (high, wide)


def _check_sheet(out: Path, sizes_px: Sequence[tuple[int, int]]) -> None:
    """Raise InputError, before anything is drawn, if the format of `out` can't hold a row for each image."""
    enlarged = [(high * enlargement(size), wide * enlargement(size)) for size in sizes_px for high, wide in [size]]
    cell = (max(high for high, _ in enlarged), max(wide for _, wide in enlarged))
    check_image_size(out, grid_px(3 * len(sizes_px), cell, columns=3))
