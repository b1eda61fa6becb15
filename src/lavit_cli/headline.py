"""The few metrics of a score worth repeating in a summary and on top of a page."""

from collections.abc import Mapping
from typing import Any

HEADLINE = {
    "questions answered right": "questions.all",
    "questions, blind model": "blind.all",
    "questions, majority answer": "majority.all",
    "captions: everything right": "captions.everything",
    "reconstructions: colours": "reconstruction.colours",
    "reconstructions: place": "reconstruction.place",
    "reconstructions: everything": "reconstruction.everything",
    "reconstructions: PSNR in dB": "reconstruction.psnr_db",
    "drawn from prompts: colours": "generation.colours",
    "drawn from prompts: place": "generation.place",
    "drawn from prompts: everything": "generation.everything",
    "first of the drawings: everything": "generation_first.everything",
    "codebook in use": "tokens.code_usage",
    "patches kept on shapes": "tokens.kept_on_shapes",
    "patches kept on background": "tokens.kept_on_background",
}
"""Headline titles with the metrics of score.json that they show."""


def headline(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return a score's headline metrics with counts and intervals, beside each its seen and unseen combinations."""
    found = {}
    for title, name in HEADLINE.items():
        if name in metrics:
            parts = {part: metrics[f"{name}.{part}"] for part in ("seen", "unseen") if f"{name}.{part}" in metrics}
            found[title] = {**metrics[name], **parts}
    return found
