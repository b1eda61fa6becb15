"""Pictures of the page: what the tokenizer kept, what came back, what was drawn, what was said and answered."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.images import open_rgb
from PIL import Image

from lavit_cli.pictures import data_url, dim_dropped

THUMB_PX = 192
"""Longest side of an embedded photo; smaller pictures are embedded as they are, and the browser enlarges them."""

PIXEL_ART_PX = 128


def image_tag(pixels: np.ndarray, label: str) -> str:
    """Return an <img> that holds its picture; small ones are shown with sharp pixels."""
    small = max(pixels.shape[:2]) <= PIXEL_ART_PX
    if not small:
        picture = Image.fromarray(pixels)
        picture.thumbnail((THUMB_PX, THUMB_PX))
        pixels = np.asarray(picture)
    kind = ' class="pixels"' if small else ""
    return f'<img{kind} alt="{escape(label, quote=True)}" src="{data_url(pixels)}">'


def file_tag(file: Path, label: str) -> str:
    """Return an <img> of a picture file."""
    return image_tag(np.asarray(open_rgb(file)), label)


def reconstruction_card(row: Mapping[str, Any]) -> str:
    """Return original | kept patches | what came back."""
    original, back = (np.asarray(open_rgb(row[name])) for name in ("original", "picture"))
    kept, count = original, ""
    if row.get("kept"):
        mask = np.asarray(row["kept"], dtype=bool)
        kept = dim_dropped(original, mask, tuple(row["grid"]))
        count = f"{int(mask.sum())} of {mask.size} patches"
    labels = ("original", "kept patches", "what came back")
    pictures = "".join(image_tag(pixels, label) for pixels, label in zip((original, kept, back), labels, strict=True))
    note = f'<span class="note">{count}{_psnr(row)}</span>'
    return f'<figure><div class="row">{pictures}</div><figcaption>{note}{marks(row)}</figcaption></figure>'


def generation_card(row: Mapping[str, Any]) -> str:
    """Return a drawn picture beside its prompt, with the judge's marks where there is a judge."""
    codes = f'<span class="note">{row["num_codes"]} codes</span>' if "num_codes" in row else ""
    tag = file_tag(row["picture"], row["prompt"])
    return f"<figure>{tag}<figcaption>{escape(row['prompt'])}{codes}{marks(row)}</figcaption></figure>"


def answers_card(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a picture with its questions, what the model answered, and what it should have said."""
    items = []
    for row in rows:
        kind = "yes" if row["right"] else "no"
        said = f'<span class="mark {kind}">{_sign(row["right"])} {escape(str(row["answer"])) or "(nothing)"}</span>'
        notes = [] if row["right"] else [f"expected {escape(str(row['expected']))}"]
        notes += [f"blind: {escape(str(row['blind']))}"] if row.get("blind") else []
        line = f' <span class="note-line">{" · ".join(notes)}</span>' if notes else ""
        items.append(f"<dt>{escape(row['question'])}</dt><dd>{said}{line}</dd>")
    tag = file_tag(rows[0]["picture"], "picture asked about")
    return f'<figure class="side">{tag}<figcaption><dl class="qa">{"".join(items)}</dl></figcaption></figure>'


def caption_card(row: Mapping[str, Any]) -> str:
    """Return a picture with the model's caption and the one that was written for it."""
    other = f'<span class="note">written for it: {escape(row["expected"])}</span>' if row.get("expected") else ""
    tag = file_tag(row["picture"], row["caption"])
    said = escape(row["caption"]) or "(nothing)"
    return f'<figure class="side">{tag}<figcaption>“{said}”{other}{marks(row)}</figcaption></figure>'


def marks(row: Mapping[str, Any]) -> str:
    """Return the judge's verdicts as small marks; a criterion that does not apply is left out."""
    right = row.get("right")
    if not isinstance(right, Mapping):
        return ""
    shown = [
        f'<span class="mark {"yes" if value else "no"}">{_sign(value)} {escape(name.replace("_", " "))}</span>'
        for name, value in right.items()
        if value is not None
    ]
    return f'<div class="marks">{"".join(shown)}</div>'


def section(kind: str, title: str, lead: str, made: Sequence[str]) -> str:
    """Return a section of cards, or nothing when there are none."""
    if not made:
        return ""
    return (
        f'<section><h2>{escape(title)}</h2><p class="aside">{escape(lead)}</p>'
        f'<div class="cards {kind}">{"".join(made)}</div></section>'
    )


def by_picture(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Group rows that are about the same picture, in order."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["key"], []).append(row)
    return list(groups.values())


def _sign(right: bool) -> str:
    return "✓" if right else "✗"


def _psnr(row: Mapping[str, Any]) -> str:
    return f" · PSNR {row['psnr_db']:.1f} dB" if "psnr_db" in row else ""
