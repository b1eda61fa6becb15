"""Reading a run directory for its report: what is missing is left out, never an error."""

import dataclasses
from pathlib import Path
from typing import Any

import yaml
from lavit_core.data import open_data
from lavit_core.errors import InputError
from lavit_core.files import read_json
from lavit_core.rundir import read_metrics

from lavit_cli.ledger import costs

PICTURES = ("picture", "original")
"""Keys of a sample that name a picture file."""

TRAINED = ("encoder", "tokenizer", "pretrain", "blind", "detokenizer")
"""Run directories of a quickstart that hold curves, in the order they ran."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One training run: its curves and what it said at the end."""

    name: str
    rows: list[dict[str, Any]]
    summary: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collected:
    """Everything the page shows."""

    path: Path
    config: dict[str, Any]
    about: dict[str, Any]
    data: dict[str, int]
    """Pictures, captions and questions that were trained on."""
    stages: list[Stage]
    speeds: dict[str, str]
    """Step -> how fast it ran, in words."""
    costs: list[dict[str, Any]]
    score: dict[str, Any]
    samples: dict[str, list[dict[str, Any]]]
    """Rows by kind (questions, captions, reconstruction, generation, random); paths of pictures are absolute."""


def collect(run: Path) -> Collected:
    """Read a quickstart's run directory, or that of a single training command. Raises InputError when it is neither."""
    if not (run / "run.json").exists():
        raise InputError(
            f"{run}: no run directory (run.json is missing); give the --out of a quickstart or of a training command"
        )
    folders = [run / name for name in TRAINED if (run / name).is_dir()] or [run]
    record = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    evaluation = run / "evaluation"
    stages = [Stage(name=one.name, rows=read_metrics(one), summary=_optional(one / "DONE")) for one in folders]
    return Collected(
        path=run,
        config=record,
        about=read_json(run / "run.json"),
        data=_counts(run / "data" / "train"),
        stages=stages,
        speeds=_speeds(run),
        costs=costs(run),
        score=_optional(evaluation / "score.json"),
        samples=_samples(evaluation),
    )


def _counts(folder: Path) -> dict[str, int]:
    if not folder.is_dir():
        return {}
    data = open_data(folder)
    captions = sum(len(record.captions) for record in data.records)
    return {"pictures": len(data.records), "captions": captions, "questions": len(data.questions)}


def _speeds(run: Path) -> dict[str, str]:
    done = {name: _optional(run / name / "DONE") for name in TRAINED} | {"tokens": _optional(run / "tokens/train/DONE")}
    units = {"pretrain": "tokens", "blind": "tokens"}
    return {
        name: f"{summary['per_second']:,.0f} {units.get(name, 'images')}/s"
        for name, summary in done.items()
        if "per_second" in summary
    }


def _samples(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Read samples.json; picture paths in it are relative to its folder."""
    return {
        kind: [
            {key: folder / value if key in PICTURES and isinstance(value, str) else value for key, value in row.items()}
            for row in rows
        ]
        for kind, rows in _optional(folder / "samples.json").items()
    }


def _optional(file: Path) -> dict[str, Any]:
    return read_json(file) if file.exists() else {}
