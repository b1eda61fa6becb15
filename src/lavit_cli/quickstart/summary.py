"""summary.json of a quickstart: metrics, costs, versions and what to try next; and the same for a terminal."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
from lavit_core.command import word
from lavit_core.data import open_data
from lavit_core.files import read_json, write_json
from lavit_core.modeldir import recorded_digest
from lavit_core.rundir import versions

from lavit_cli.headline import headline_of
from lavit_cli.output import print_table
from lavit_cli.quickstart.steps import Job
from lavit_cli.step_costs import costs

REPORTED = ("encoder", "tokenizer", "tokens", "pretrain", "blind", "detokenizer")
"""Steps whose own summaries are copied into summary.json."""


def summarise(job: Job, summaries: Mapping[str, Any]) -> dict[str, Any]:
    """Write RUN/summary.json and return it: metrics with counts, costs, versions, and the next commands."""
    score, tokens = _score(job.out / "evaluation"), _score(job.out / "tokenizer_evaluation")
    cost = costs(job.out)
    model = job.out / "model"
    parts = sorted(folder.name for folder in model.iterdir() if folder.is_dir()) if model.exists() else []
    summary = {
        "run": str(job.out),
        "model": {"path": str(model), "parts": {part: recorded_digest(model, part) for part in parts}},
        "data": summaries.get("data", {}),
        "seed": job.seed,
        "seconds": round(sum(row["seconds"] for row in cost), 1),
        "cpu_seconds": round(sum(row["cpu_seconds"] for row in cost), 1),
        "peak_memory_bytes": max((row["peak_memory_bytes"] for row in cost), default=0),
        "steps": cost,
        "headline": headline_of(score),
        "tokenizer_evaluation": {
            "figures": tokens.get("figures", {}),
            "warnings": tokens.get("notes", {}).get("warnings", []),
        },
        "stages": {name: summaries[name] for name in REPORTED if name in summaries},
        "versions": versions(),
        "next": _next_commands(job) if "report" in summaries else [],
    }
    write_json(job.out / "summary.json", summary)
    return summary


def _score(folder: Path) -> dict[str, Any]:
    file = folder / "score.json"
    return read_json(file) if file.exists() else {}


def _next_commands(job: Job) -> list[str]:
    model, first = job.out / "model", open_data(job.heldout).records[0]
    prompt = first.captions[0] if first.captions else "an image"
    return [
        f"{job.out / 'report.html'}: open it in a browser",
        f'lavit generate "{prompt}" --model {word(model)} --out image.png --num-images 4',
        f"lavit reconstruct {word(first.image)} --model {word(model)} --out reconstruction.png",
        f"lavit caption {word(first.image)} --model {word(model)}",
    ]


def show_summary(out: Path, summary: Mapping[str, Any], *, as_json: bool) -> None:
    """Write the summary to stdout: one JSON object, or tables and the commands to try next."""
    if as_json:
        typer.echo(json.dumps(summary))
        return
    rows = [(row["step"], *_cost_cells(row)) for row in costs(out)]
    print_table(("step", "wall s", "CPU s", "peak GB"), [*rows, None, ("all", *_cost_cells(summary))], right_from=1)
    headline = summary.get("headline", {})
    if metrics := [_metric_cells(name, metric) for name, metric in headline.items() if metric["value"] is not None]:
        typer.echo("")
        print_table(("metric", "value", "95 %", "count", "seen", "unseen"), metrics, right_from=1)
        if any("seen" in metric for metric in headline.values()):
            typer.echo("seen, unseen: images whose colour-shape combinations training showed, or left out")
    typer.echo("".join(f"\n{line}" for line in summary.get("next", ())))


def _cost_cells(cost: Mapping[str, Any]) -> list[str]:
    return [f"{cost['seconds']:.1f}", f"{cost['cpu_seconds']:.1f}", f"{cost['peak_memory_bytes'] / 1e9:.2f}"]


def _metric_cells(name: str, metric: Mapping[str, Any]) -> list[str]:
    low, high = metric.get("low"), metric.get("high")
    interval = "" if low is None or high is None else f"{low:.3f}-{high:.3f}"
    parts = [f"{metric[part]['value']:.3f}" if part in metric else "" for part in ("seen", "unseen")]
    return [name, f"{metric['value']:.3f}", interval, str(metric["count"]), *parts]
