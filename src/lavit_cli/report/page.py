"""The page itself: what the template page.html shows of a run, with its images inside."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml
from lavit_core.files import check_out_file, write_text
from lavit_core.images import open_rgb
from lavit_core.shown_images import data_url, dim_dropped
from markupsafe import Markup
from PIL import Image

from lavit_cli.headline import foremost_of, headline_of
from lavit_cli.report.collect import Collected, Stage, collect
from lavit_cli.report.curves import charts, short
from lavit_cli.report.rates import rate_charts
from lavit_cli.report.reference import Reference, aligned, different_settings, load_reference
from lavit_cli.report.tables import is_share, score_tables

MOST_CARDS = 24

THUMB_PX = 192
"""Longest side of an embedded photo; smaller images are embedded as they are, and the browser enlarges them."""

PIXEL_ART_PX = 128


def write_report(
    run: Path, out: Path | None = None, *, against: str | None = None, reload_seconds: int | None = None
) -> Path:
    """Write the report of a run and return its path; its curves are drawn over those of `against`, if it is given.

    A browser reloads the page every `reload_seconds`, if they are given.
    Raises InputError if `run` is not a run directory, `against` is neither one nor `reference`, or `out` can't be
    written.
    """
    collected = collect(run)  # first: a RUN that cannot be read has nothing to do with --out
    file = out or run / "report.html"
    check_out_file(file)
    page = render(collected, None if against is None else load_reference(against), reload_seconds)
    write_text(file, page)
    return file


def render(run: Collected, reference: Reference | None = None, reload_seconds: int | None = None) -> str:
    """Return the page as HTML that loads nothing."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lavit_cli", "report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "short": short,
        "share": short_share,
        "duration": duration,
        "tables": score_tables,
        "thousands": "{:,}".format,
        "any": any,
        "words": lambda name: name.replace("_", " ").replace("blind", "no-image baseline"),
    }
    environment.tests["share"] = is_share
    total = {key: sum(cost[key] for cost in run.costs) for key in ("seconds", "cpu_seconds")}
    peak = max((cost["peak_memory_bytes"] for cost in run.costs), default=0)
    return environment.get_template("page.html").render(
        run=run,
        reload_seconds=reload_seconds,
        name=run.path.resolve().name,
        style=Markup((resources.files("lavit_cli") / "report" / "style.css").read_text(encoding="utf-8")),
        total={**total, "peak": peak},
        headline=headline_of(run.score),
        foremost=foremost_of(run.score),
        samples=_samples(run.samples),
        rates=rate_charts(run.score.get("figures", {})),
        reference=reference,
        stages=[_stage(stage, reference) for stage in run.stages if stage.rows],
        versions={**run.metadata.get("versions", {}), "git revision": run.metadata.get("git") or "none"},
        settings=yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True),
        kept=next((name for name in ("summary.json", "score.json") if (run.path / name).exists()), None),
    )


def _samples(rows_by_kind: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[Any]]:
    """Return the rows of each kind with their images; questions are grouped by their image."""
    first = {kind: rows[:MOST_CARDS] for kind, rows in rows_by_kind.items()}
    asked: dict[str, list[Mapping[str, Any]]] = {}
    for row in first.get("questions", ()):
        asked.setdefault(row["key"], []).append(row)
    return {
        "reconstruction": [{**row, "images": _reconstruction(row)} for row in first.get("reconstruction", ())],
        "generation": [{**row, "image": _image(row, row["prompt"])} for row in first.get("generation", ())],
        "questions": [
            [{**row, "image": _image(row, "image asked about")} for row in rows[:1]] + rows[1:]
            for rows in asked.values()
        ],
        "captions": [{**row, "image": _image(row, row["caption"])} for row in first.get("captions", ())],
        "random": [{**row, "prompt": "", "image": _image(row, "")} for row in first.get("random", ())],
    }


def _reconstruction(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return original, kept patches and, if it was drawn, the reconstruction."""
    kept = original = np.asarray(open_rgb(row["original"]))
    if row.get("kept"):
        kept = dim_dropped(original, np.asarray(row["kept"], dtype=bool), tuple(row["grid"]))
    images = [_thumbnail(original, "original"), _thumbnail(kept, "kept patches")]
    return [*images, _thumbnail(np.asarray(open_rgb(row["picture"])), "reconstruction")] if "picture" in row else images


def _image(row: Mapping[str, Any], alt: str) -> dict[str, Any]:
    return _thumbnail(np.asarray(open_rgb(row["picture"])), alt)


def _thumbnail(pixels: np.ndarray, alt: str) -> dict[str, Any]:
    """Return what an <img> needs to hold its image; small ones are shown with sharp pixels."""
    small = max(pixels.shape[:2]) <= PIXEL_ART_PX
    if not small:
        image = Image.fromarray(pixels)
        image.thumbnail((THUMB_PX, THUMB_PX))
        pixels = np.asarray(image)
    return {"url": data_url(pixels), "alt": alt, "small": small}


def _stage(stage: Stage, reference: Reference | None) -> tuple[Stage, str, list[str]]:
    other = None if reference is None else reference.stages.get(stage.kind)
    if other is None:
        return stage, "There are no such curves to compare with.", charts(stage.rows, values=True)
    changed = different_settings(stage.settings, other.settings)
    comparison = "Same settings." if stage.settings and other.settings else "It is unknown whether settings differ."
    if changed:
        comparison = f"Settings that differ (theirs → this run's): {'; '.join(changed)}."
    return stage, comparison, charts(stage.rows, aligned(other, stage), values=True)


def short_share(value: float) -> str:
    """Return a share without its leading zero, other numbers in three digits."""
    return f"{value:.2f}".removeprefix("0") if 0 <= value < 1 else short(value)


def duration(seconds: float) -> str:
    """Return a duration as a person reads it: 12.3 s, 4 min 05 s."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
