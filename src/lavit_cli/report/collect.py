"""Read a run directory for its report; missing files are left out, never an error."""

import dataclasses
from pathlib import Path
from typing import Any

import yaml
from lavit_core.data import open_data
from lavit_core.errors import InputError
from lavit_core.files import read_json
from lavit_core.rundir import read_metrics, read_warnings

from lavit_cli.step_costs import costs

IMAGES = ("picture", "original")
"""Keys of a sample that name an image file."""

KINDS = {
    "train-encoder": "encoder",
    "train-tokenizer": "tokenizer",
    "pretrain": "pretrain",
    "train-detokenizer": "detokenizer",
}
"""Training command -> the run directory of a quickstart that its curves are compared with."""

TRAINED = ("encoder", "tokenizer", "pretrain", "blind", "detokenizer")
"""Run directories of a quickstart that hold curves, in the order they ran."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One training run: its curves and its summary."""

    name: str
    kind: str
    """Its name in a quickstart, whatever its folder is called."""
    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    settings: dict[str, Any]
    warnings: list[dict[str, Any]]
    """Warnings during training: step, phase, kind, message."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collected:
    """Everything the page shows."""

    path: Path
    config: dict[str, Any]
    metadata: dict[str, Any]
    data: dict[str, int]
    """Images, captions and questions that were trained on."""
    stages: list[Stage]
    speeds: dict[str, str]
    """Step -> how fast it ran, in words."""
    costs: list[dict[str, Any]]
    score: dict[str, Any]
    token_score: dict[str, Any]
    """Of a quickstart, what `lavit eval tokenizer` found."""
    samples: dict[str, list[dict[str, Any]]]
    """Rows by kind (questions, captions, reconstruction, generation, random); paths of images are absolute."""

    @property
    def warnings(self) -> list[dict[str, str]]:
        """Kind, message and place of every warning, those of training first."""
        found = [
            {**row, "where": f"{stage.name}, step {row['step']:,}"} for stage in self.stages for row in stage.warnings
        ]
        for score, name in ((self.score, "evaluation"), (self.token_score, "tokenizer_evaluation")):
            found += [{**row, "where": name} for row in score.get("notes", {}).get("warnings", ())]
        return found


def collect(run: Path) -> Collected:
    """Read the run directory of a quickstart, of a training command, or of `lavit eval shapes`, `tokenizer` or
    `rate-distortion`.

    Raises InputError if `run` is not a run directory.
    """
    if not (run / "run.json").exists():
        raise InputError(
            f"{run}: no run directory (run.json is missing); give the --out of a quickstart, of a training command "
            "or of `lavit eval shapes`, `tokenizer` or `rate-distortion`"
        )
    folders = [run / name for name in TRAINED if (run / name).is_dir()] or [run]
    record = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    evaluation = run if (run / "score.json").exists() else run / "evaluation"
    return Collected(
        path=run,
        config=record,
        metadata=read_json(run / "run.json"),
        data=_counts(run / "data" / "train"),
        stages=[_stage(folder) for folder in folders],
        speeds=_speeds(run),
        costs=costs(run),
        score=_optional(evaluation / "score.json"),
        token_score=_optional(run / "tokenizer_evaluation" / "score.json"),
        samples=_samples(evaluation),
    )


def _stage(folder: Path) -> Stage:
    file = folder / "config.yaml"
    record = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else {}
    settings = record.get("config", {})
    kind = KINDS.get(record.get("command", ""), folder.name)
    if kind == "pretrain" and settings.get("image_input") == "none":
        kind = "blind"
    return Stage(
        name=folder.name,
        kind=kind,
        rows=read_metrics(folder),
        summary=_optional(folder / "DONE"),
        settings=settings,
        warnings=read_warnings(folder),
    )


def _counts(folder: Path) -> dict[str, int]:
    if not folder.is_dir():
        return {}
    try:
        data = open_data(folder)
    except InputError:  # images that were linked to have moved
        return {}
    captions = sum(len(record.captions) for record in data.records)
    return {"images": len(data.records), "captions": captions, "questions": len(data.questions)}


def _speeds(run: Path) -> dict[str, str]:
    done = {name: _optional(run / name / "DONE") for name in TRAINED} | {"tokens": _optional(run / "tokens/train/DONE")}
    units = {"pretrain": "tokens", "blind": "tokens"}
    return {
        name: f"{summary['per_second']:,.0f} {units.get(name, 'images')}/s"
        for name, summary in done.items()
        if "per_second" in summary
    }


def _samples(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Read samples.json; image paths in it are relative to its folder."""
    return {
        kind: [
            {key: folder / value if key in IMAGES and isinstance(value, str) else value for key, value in row.items()}
            for row in rows
        ]
        for kind, rows in _optional(folder / "samples.json").items()
    }


def _optional(file: Path) -> dict[str, Any]:
    return read_json(file) if file.exists() else {}
