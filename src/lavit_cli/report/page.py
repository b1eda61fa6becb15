"""The page itself: pictures first, then figures, curves, costs and versions, in one HTML file."""

from collections.abc import Mapping
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from lavit_core.files import check_out_file, write_text

from lavit_cli.headline import headline
from lavit_cli.report import cards, tables
from lavit_cli.report.collect import Collected, Stage, collect
from lavit_cli.report.curves import charts, short
from lavit_cli.report.reference import Reference, aligned, different_settings, load_reference

MOST_CARDS = 24


def write_report(run: Path, out: Path | None = None, *, against: str | None = None) -> Path:
    """Write the report of a run and return its path; its curves are drawn over those of `against`, if it is given.

    Raises InputError when `run` is no run directory, `against` neither one nor `reference`, or `out` can't be written.
    """
    file = out or run / "report.html"
    check_out_file(file)
    page = render(collect(run), None if against is None else load_reference(against))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, page)
    return file


def render(run: Collected, reference: Reference | None = None) -> str:
    """Return the page as HTML that loads nothing."""
    style = (resources.files("lavit_cli") / "report" / "style.css").read_text(encoding="utf-8")
    sections = [_header(run), _warnings(run), _pictures(run), _scores(run), _curves(run, reference), _costs(run)]
    body = "".join([*sections, _provenance(run)])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(run.path.resolve().name)} · lavit report</title><style>{style}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _header(run: Collected) -> str:
    command = run.config.get("command", "run")
    lead = "Figures and pictures are of held-out data that no step was trained on." if run.score else ""
    return (
        f'<header><p class="kicker">lavit {escape(command)} · {escape(run.path.resolve().name)}</p>'
        f'<h1>{escape(_title(run))}</h1><p class="lead">{lead} {escape(_size(run))}</p>{_tiles(run)}</header>'
    )


def _title(run: Collected) -> str:
    if run.config.get("command") != "quickstart":
        return run.path.resolve().name
    drawn = run.config.get("inputs", {}).get("data") == "drawn shapes"
    return "Images as words, learned from drawn shapes" if drawn else "Images as words, learned from your pictures"


def _size(run: Collected) -> str:
    pictures = ""
    if run.data:
        held = ", ".join(f"{count:,} {name}" for name, count in run.data.items() if count)
        pictures = f"Trained on {held}:"
    cost = run.costs
    if not cost:
        return pictures
    wall, cpu = (tables.seconds(sum(row[key] for row in cost)) for key in ("seconds", "cpu_seconds"))
    peak = max(row["peak_memory_bytes"] for row in cost) / 1e9
    spent = f"{wall} on the clock, {cpu} of CPU, {peak:.1f} GB at the peak."
    return f"{pictures} {spent}".strip()


def _tiles(run: Collected) -> str:
    found = headline(run.score.get("figures", {}))
    tiles = []
    for title, figure in found.items():
        if figure["value"] is None:
            continue
        shown = (
            f"{figure['value']:.1%}".replace("%", "&thinsp;%") if tables.is_share(figure) else short(figure["value"])
        )
        tiles.append(
            f"<div class='tile'><b>{shown}</b><span>{escape(title)}</span><small>{_interval(figure)}</small></div>"
        )
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _interval(figure: Mapping[str, Any]) -> str:
    low, high = figure.get("low"), figure.get("high")
    between = (
        f"{tables.short_share(low)} to {tables.short_share(high)} · " if low is not None and high is not None else ""
    )
    return f"{between}n = {figure['count']:,}"


def _pictures(run: Collected) -> str:
    samples = {kind: rows[:MOST_CARDS] for kind, rows in run.samples.items()}
    judged = any("right" in row for row in samples.get("generation", ()))
    drawn_lead = "Text to codes by the language model, codes to pixels by the detokenizer. "
    drawn_lead += (
        "The marks are what a judge that looks at pixels alone, and knows no model, finds right."
        if judged
        else "Nothing judges these: look at them. A model of this size paints colours and layout, not objects."
    )
    return "".join([
        cards.section(
            "three", "Kept patches, and what comes back",
            "Left: a held-out picture. Middle: the patches the selector kept; the others are dark, what they held "
            "lives on only as far as the merger took it in. Right: drawn again from the codes of the kept patches.",
            [cards.reconstruction_card(row) for row in samples.get("reconstruction", ())],
        ),
        cards.section("small", "Drawn from prompts", drawn_lead,
                      [cards.generation_card(row) for row in samples.get("generation", ())]),
        cards.section(
            "wide", "Questions answered",
            "Exact match. The blind model is the same language model, trained and asked without any picture.",
            [cards.answers_card(rows) for rows in cards.by_picture(samples.get("questions", ()))],
        ),
        cards.section("wide", "Captions", "Written by the model for held-out pictures, greedily.",
                      [cards.caption_card(row) for row in samples.get("captions", ())]),
        cards.section("small", "Drawn from random codes",
                      "What the detokenizer paints when the codes say nothing: the floor of every drawing's figure.",
                      [cards.generation_card({**row, "prompt": ""}) for row in samples.get("random", ())]),
    ])  # fmt: skip


def _scores(run: Collected) -> str:
    if not run.score.get("figures"):
        return ""
    skipped = "".join(f"<li>{escape(name)}: {escape(why)}</li>" for name, why in run.score.get("skipped", {}).items())
    left_out = f'<details><summary>Not computed</summary><ul class="aside">{skipped}</ul></details>' if skipped else ""
    lead = "Each figure with its 95 % interval and the number of cases it rests on."
    figures = tables.score_tables(run.score["figures"])
    return f'<section><h2>Scores</h2><p class="aside">{lead}</p>{figures}{left_out}</section>'


def _warnings(run: Collected) -> str:
    said = [(stage.name, row) for stage in run.stages for row in stage.warnings]
    if not said:
        return ""
    items = "".join(
        f"<li><b>{escape(str(row['kind']))}</b> ({escape(name)}, step {row['step']:,}): "
        f"{escape(str(row['message']))}</li>"
        for name, row in said
    )
    lead = "Said while it trained, each kind once a stage: what was seen, why it matters, what to change."
    return f'<section><h2>Warnings</h2><p class="aside">{lead}</p><ul class="warned">{items}</ul></section>'


def _curves(run: Collected, reference: Reference | None) -> str:
    parts = [_stage(stage, reference) for stage in run.stages if stage.rows]
    lead = ""
    if reference is not None:
        lead = (
            f'<p class="aside">The grey line behind a curve is {escape(reference.title)}, each phase stretched to '
            "the steps of this run's.</p>"
        )
    return f"<section><h2>Training curves</h2>{lead}{''.join(parts)}</section>" if parts else ""


def _stage(stage: Stage, reference: Reference | None) -> str:
    last = "".join(
        f"<tr><td>{escape(tables.words(name))}</td><td>{escape(_said(value))}</td></tr>"
        for name, value in stage.summary.items()
        if isinstance(value, int | float | str | bool)
    )
    title = f"<summary>What {escape(stage.name)} reported at its end</summary>"
    end = f'<details>{title}<div class="scroll"><table>{last}</table></div></details>' if last else ""
    other = None if reference is None else reference.stage(stage.kind)
    compared = "" if reference is None else f'<p class="aside">{escape(_compared(stage, other))}</p>'
    drawn = "".join(charts(stage.rows, aligned(other, stage) if other is not None else ()))
    return f'<h3>{escape(stage.name)}</h3>{compared}<div class="charts">{drawn}</div>{end}'


def _compared(stage: Stage, other: Stage | None) -> str:
    if other is None:
        return "There are no such curves to compare with."
    changed = different_settings(stage.settings, other.settings)
    if changed:
        return f"Settings that differ (theirs → this run's): {'; '.join(changed)}."
    return "Same settings." if stage.settings and other.settings else "Whether the settings are the same is not known."


def _said(value: float | str | bool) -> str:
    return str(value) if isinstance(value, str | bool) else short(value)


def _costs(run: Collected) -> str:
    if not run.costs:
        return ""
    lead = "Seconds are summed over restarts; the peak is that of the process during the step."
    return (
        f'<section><h2>What it cost</h2><p class="aside">{lead}</p>{tables.cost_table(run.costs, run.speeds)}</section>'
    )


def _provenance(run: Collected) -> str:
    kept = next((name for name in ("summary.json", "score.json") if (run.path / name).exists()), None)
    numbers = f"; the numbers are in {kept} too" if kept else ""
    settings = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)
    argv = " ".join(map(str, run.about.get("argv", ())))
    return (
        f"<section><h2>How it was made</h2><pre>{escape(argv)}</pre>"
        f"<details><summary>Versions</summary>{tables.version_table(run)}</details>"
        f"<details><summary>Settings</summary><pre>{escape(settings)}</pre></details></section>"
        f"<footer>One file, no scripts, nothing loaded from anywhere{numbers}.</footer>"
    )
