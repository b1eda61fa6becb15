"""The few metrics of a score worth repeating in a summary and on top of a page."""

from collections.abc import Mapping
from typing import Any

HEADLINE = {
    "questions answered correctly": "questions.all",
    "no-image baseline": "blind.all",
    "majority answer": "majority.all",
    "captions exactly correct": "captions.everything",
    "reconstructions, correct colours": "reconstruction.colours",
    "reconstructions, correct place": "reconstruction.place",
    "reconstructions, everything correct": "reconstruction.everything",
    "reconstructions, PSNR in dB": "reconstruction.psnr_db",
    "drawn from prompts, correct colours (better of two)": "generation.colours",
    "drawn from prompts, correct place (better of two)": "generation.place",
    "drawn from prompts, everything correct (better of two)": "generation.everything",
    "drawn from prompts, everything correct (first of two)": "generation_first.everything",
    "codebook in use": "tokens.code_usage",
    "patches kept on shapes": "tokens.kept_on_shapes",
    "patches kept on background": "tokens.kept_on_background",
}
"""Headline titles with the metrics of score.json that they show; two candidates are drawn of a prompt (`best_of`)."""


FOREMOST = frozenset(
    {"questions.all", "blind.all", "captions.everything", "reconstruction.everything", "generation.everything"}
)
"""The metrics of `HEADLINE` that a page shows large."""


def headline(metrics: Mapping[str, Any], best_of: int = 2) -> dict[str, Any]:
    """Return a score's headline metrics with counts and intervals, beside each its seen and unseen combinations."""
    found = {}
    for title, name in HEADLINE.items():
        if name in metrics:
            parts = {part: metrics[f"{name}.{part}"] for part in ("seen", "unseen") if f"{name}.{part}" in metrics}
            found[_for_candidates(title, best_of)] = {**metrics[name], **parts}
    return found


def headline_of(score: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headline of a whole score.json, or of {} an empty one."""
    return headline(score.get("figures", {}), score.get("settings", {}).get("best_of", 2))


def foremost_of(score: Mapping[str, Any]) -> set[str]:
    """Return the headline titles that a page shows large."""
    best_of = score.get("settings", {}).get("best_of", 2)
    return {_for_candidates(title, best_of) for title, name in HEADLINE.items() if name in FOREMOST}


def _for_candidates(title: str, best_of: int) -> str:
    if best_of == 1:
        return title.removesuffix(" (better of two)")
    return title if best_of == 2 else title.replace("better of two", f"best of {best_of}").replace("two", str(best_of))
