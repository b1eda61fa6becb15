"""Reference curves: a run's thinned metrics and settings, to be drawn under somebody else's run.

`reference.json` beside this file holds those of the demo, written by `docs/build_reference.py`.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError

from lavit_cli.report.collect import Stage, collect
from lavit_cli.report.curves import NOT_CURVES

REFERENCE = "reference"
"""Value of `--against` for the shipped curves."""

FORMAT = 1
MOST_ROWS = 60
"""Rows kept of a stage: a chart is 300 pixels wide, and the file is read by people who look at its history."""

DIGITS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
    """Curves that a run is compared with."""

    title: str
    """One line: where the curves come from."""
    stages: dict[str, Stage]
    """By kind: encoder, tokenizer, pretrain, blind, detokenizer."""


def load_reference(against: str) -> Reference:
    """Return the shipped reference, or another run's curves. Raises InputError if `against` is neither."""
    if against == REFERENCE:
        content = json.loads((resources.files("lavit_cli") / "report" / "reference.json").read_text(encoding="utf-8"))
        stages = {name: unpack(name, part) for name, part in content["stages"].items()}
        return Reference(title=describe(content), stages=stages)
    if not Path(against).is_dir():
        raise InputError(f"--against {against}: found nothing, expected `{REFERENCE}` or another run's directory")
    other = collect(Path(against))
    return Reference(title=f"the run {other.path}", stages={stage.kind: stage for stage in other.stages})


def describe(content: Mapping[str, Any]) -> str:
    """Return one line on where a reference file comes from."""
    return (
        f"preset {content['preset']}, seed {content['seed']}, settings {content['digest'][:12]}, "
        f"lavit {content['versions'].get('lavit', '?')}, torch {content['versions'].get('torch', '?')}"
    )


def pack(stage: Stage) -> dict[str, Any]:
    """Return a stage's settings and its metrics by name, thinned to `MOST_ROWS` rows and four digits."""
    rows = thin(stage.rows)
    names = dict.fromkeys(name for row in rows for name in row if name not in NOT_CURVES or name in ("step", "phase"))
    curves: dict[str, list[Any]] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if all(isinstance(value, int | float | str | None) for value in values):
            curves[name] = [_short(value) for value in values]
    return {"settings": stage.settings, "curves": curves}


def unpack(name: str, part: Mapping[str, Any]) -> Stage:
    """Return a stage as it was packed."""
    curves = part["curves"]
    rows = [
        {key: values[place] for key, values in curves.items() if values[place] is not None}
        for place in range(len(curves["step"]))
    ]
    return Stage(name=name, kind=name, rows=rows, summary={}, settings=part["settings"], warnings=[])


def thin(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return every n-th row, the first and last of each phase, and rows with metrics that most rows lack."""
    stride = max(1, -(-len(rows) // MOST_ROWS))
    counts: dict[str, int] = {}
    for row in rows:
        for name in row:
            counts[name] = counts.get(name, 0) + 1
    rare = {name for name, count in counts.items() if count < len(rows) / 3}
    return [
        row
        for place, row in enumerate(rows)
        if place % stride == 0
        or row.keys() & rare
        or place + 1 == len(rows)
        or row.get("phase") != rows[place + 1].get("phase")
        or row.get("phase") != rows[place - 1].get("phase")
    ]


def aligned(theirs: Stage, mine: Stage) -> list[dict[str, Any]]:
    """Return another run's rows on the steps of `mine`: each phase stretched to the phase of its name, others left out.

    Rates follow a schedule over a phase's steps, so curves are alike at equal shares of them. Rows stay where they are
    when either run's settings do not tell how long it is.
    """
    here, there = _spans(mine.settings), _spans(theirs.settings)
    if not here or not there:
        return theirs.rows
    rows = []
    for row in theirs.rows:
        name = row.get("phase", "") if "" not in there else ""
        if name in here and name in there:
            (first, steps), (their_first, their_steps) = here[name], there[name]
            rows.append({**row, "step": first + (row["step"] - their_first) * steps / their_steps})
    return rows


def _spans(settings: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return the step before each phase and its number of steps; "" is the only phase of a run without phases."""
    if "phases" not in settings:
        return {"": (0, settings["num_steps"])} if settings.get("num_steps") else {}
    spans, first = {}, 0
    for phase in settings["phases"]:
        spans[phase["name"]] = (first, phase["num_steps"])
        first += phase["num_steps"]
    return spans


def settings_digest(stages: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the SHA-256 of the settings of all stages without their seeds."""
    settings = {
        name: {key: value for key, value in part["settings"].items() if key != "seed"} for name, part in stages.items()
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def different_settings(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return "name theirs → mine" for each setting that differs; empty if one side has no settings."""
    if not mine or not theirs:
        return []
    ours, others = _flat(mine), _flat(theirs)
    names = dict.fromkeys([*others, *ours])
    return [
        f"{name} {_said(others.get(name))} → {_said(ours.get(name))}"
        for name in names
        if ours.get(name) != others.get(name)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
            # Phases: by their name, so that one more of them does not make all the others differ.
            for place, part in enumerate(value):
                flat |= _flat(part, f"{prefix}{key}.{part.get('name', place)}.")
        else:
            flat[prefix + key] = value
    return flat


def _said(value: Any) -> str:
    return "none" if value is None else str(value)


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
