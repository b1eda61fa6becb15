"""The page itself: what the template page.html shows of a preview, with its images inside."""

from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from lavit_core.data_report import problem_lists
from lavit_core.files import write_text
from lavit_core.shown_images import data_url, dim_dropped
from markupsafe import Markup

from lavit_cli.preview.collect import Preview, Sample
from lavit_cli.preview.lengths import length_charts

if TYPE_CHECKING:
    from lavit_pretrain.api import Piece, ShownDocument

    from lavit_cli.preview.with_model import ModelView

SMALL_PX = 128
"""Smaller images are enlarged with sharp pixels."""

FIRST_CODES, LAST_CODES = 8, 3
"""Codes that are shown of a longer image in a document."""

KINDS = {
    "text_to_image": "caption, then image: learns to draw",
    "image_to_text": "image, then caption: learns to describe",
    "questions": "image, then questions: learns to answer",
}
"""Kinds of documents in words."""


def write_preview(out: Path, preview: Preview, view: "ModelView | None" = None) -> str:
    """Write the page and return its HTML, which loads nothing. Raises InputError if `out` can't be written."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lavit_cli", "preview"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"thousands": "{:,}".format}
    styles = [resources.files("lavit_cli") / folder / "style.css" for folder in ("report", "preview")]
    page = environment.get_template("page.html").render(
        preview=preview,
        report=preview.report,
        view=view,
        kinds=KINDS,
        sizes=", ".join(
            f"{one['width']} x {one['height']} ({one['images']:,})" for one in preview.report["sizes"]["common"]
        ),
        hides=any(piece.hidden for piece in _all_pieces(view)),
        style=Markup("\n".join(file.read_text(encoding="utf-8") for file in styles)),
        problems=problem_lists(preview.report),
        charts=[Markup(chart) for chart in length_charts(preview, view)],
        cards=[_card(place, sample, preview, view) for place, sample in enumerate(preview.samples)],
    )
    write_text(out, page)
    return page


def _card(place: int, sample: Sample, preview: Preview, view: "ModelView | None") -> dict[str, Any]:
    """Return what the page shows of one image."""
    images = [
        _image(sample.original, f"{sample.key} as it lies in its file"),
        _image(sample.square, f"{sample.key} at {preview.image_px} pixels a side"),
    ]
    card: dict[str, Any] = {"sample": sample, "images": images}
    if view is not None:
        mask = view.keep_mask[place]
        images.append(_image(dim_dropped(sample.square, mask, view.grid), "kept patches"))
        card |= {
            "codes": _code_grid(view.codes[place], mask, view.grid),
            "num_codes": len(view.codes[place]),
            "documents": [{"shown": one, "pieces": _shortened(one)} for one in view.documents[place]],
        }
    return card


def _image(pixels: np.ndarray, alt: str) -> dict[str, Any]:
    return {"url": data_url(pixels), "alt": alt, "small": max(pixels.shape[:2]) <= SMALL_PX}


def _code_grid(codes: np.ndarray, mask: np.ndarray, grid: tuple[int, int]) -> list[list[int | None]]:
    """Return rows of the patch grid: the code of each kept patch, None for dropped ones."""
    cells: list[int | None] = [None] * len(mask)
    for patch, code in zip(np.flatnonzero(mask).tolist(), codes.tolist(), strict=True):
        cells[patch] = code
    return [cells[row * grid[1] : (row + 1) * grid[1]] for row in range(grid[0])]


def _shortened(document: "ShownDocument") -> list[Any]:
    """Return a document's tokens; the number of those left out stands where an image has many codes."""
    shown: list[Any] = []
    run: list[Piece] = []
    for piece in (*document.pieces, None):
        if piece is not None and piece.kind == "code":
            run.append(piece)
            continue
        shown += _ends(run)
        run = []
        if piece is not None:
            shown.append(piece)
    return shown


def _all_pieces(view: "ModelView | None") -> Iterator["Piece"]:
    for documents in () if view is None else view.documents:
        for document in documents:
            yield from document.pieces


def _ends(codes: Sequence[Any]) -> list[Any]:
    left_out = len(codes) - FIRST_CODES - LAST_CODES
    return [*codes] if left_out < 2 else [*codes[:FIRST_CODES], left_out, *codes[-LAST_CODES:]]
