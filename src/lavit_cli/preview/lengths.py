"""Histograms of a preview: words and tokens of captions, tokens of questions, codes of images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lavit_cli.preview.collect import Preview
from lavit_cli.report.curves import histogram, short

if TYPE_CHECKING:
    from lavit_cli.preview.with_model import ModelView

MOST_BARS = 48


def length_charts(preview: Preview, view: "ModelView | None") -> list[str]:
    """Return one SVG for each length of which there is something."""
    lengths: dict[str, Sequence[int]] = {"words of a caption": preview.caption_words}
    if view is not None:
        lengths |= {
            "text tokens of a caption": view.caption_tokens,
            "text tokens of a question with its answer": view.question_tokens,
            f"codes of an image (the {len(view.codes)} shown)": [len(codes) for codes in view.codes],
        }
    return [length_chart(name, values) for name, values in lengths.items() if values]


def length_chart(name: str, values: Sequence[int]) -> str:
    """Return a histogram of whole numbers with the least, the median and the most of them."""
    low, high = min(values), max(values)
    # Bars of equal width in whole numbers: a bar of 2 beside one of 3 would look like a gap in the data.
    width = max(1, -(-(high - low + 1) // MOST_BARS))
    heights = np.bincount((np.asarray(values) - low) // width)
    middle = f"median {short(float(np.median(values)))}, n={len(values):,}"
    return histogram(name, heights.tolist(), (f"{low:,}", middle, f"{high:,}"))
