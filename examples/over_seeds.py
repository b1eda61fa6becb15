"""One table of several runs: `python examples/over_seeds.py runs/seed-0 runs/seed-1 runs/seed-2`.

Mean and range of every headline metric over runs of `lavit quickstart` that differ in their seed alone.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import yaml

from lavit_cli.headline import HEADLINE

TOKENS = {
    "perplexity": "tokens.perplexity",
    "1 - cos": "tokens.feature_error",
    "1 - cos of the mean predictor": "tokens.feature_error_mean_predictor",
    "patches kept an image": "tokens.kept",
    "their spread over images": "tokens.kept_sd",
}
"""What the summary leaves out of the tokenizer's metrics."""


def main(folders: list[str]) -> None:
    """Print the table; what can't be compared ends in one line."""
    if len(folders) < 2:
        raise SystemExit("usage: python examples/over_seeds.py RUN RUN [RUN ...]")
    runs = [Path(folder) for folder in folders]
    check_comparable(runs)
    metrics = [read(run / "evaluation" / "score.json")["figures"] for run in runs]
    print(table(metrics))


def check_comparable(runs: list[Path]) -> None:
    """End with one line unless the runs differ in their seed and in nothing else that was set, in any step."""
    first, seeds = dict[str, Any](), dict[int, Path]()
    for run in runs:
        file = run / "config.yaml"
        if not file.exists():
            raise SystemExit(f"error: {file}: no such file, expected the directory of a finished quickstart")
        seed = yaml.safe_load(file.read_text(encoding="utf-8"))["config"]["seed"]
        if seed in seeds:
            raise SystemExit(f"error: {file}: seed {seed} as in {seeds[seed]}, expected another one")
        seeds[seed] = run
        # Of every step too: the run's own file holds what was set over a preset, and presets change with versions.
        files = [file, *sorted(run.glob("*/config.yaml"))]
        steps = {one.relative_to(run).as_posix(): settings_of(one) for one in files}
        first = first or steps
        for name in sorted(first.keys() | steps.keys()):
            if first.get(name) != steps.get(name):
                raise SystemExit(f"error: {run / name}: other settings than in {runs[0]}, expected another seed alone")


def settings_of(file: Path) -> Any:
    """Return the settings of a run or step without their seed."""
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))["config"]
    settings.pop("seed", None)
    return settings


def read(file: Path) -> Any:
    """Return a JSON file's content, or end with one line."""
    if not file.exists():
        raise SystemExit(f"error: {file}: no such file; finish the run with `lavit quickstart --out {file.parents[1]}`")
    return json.loads(file.read_text(encoding="utf-8"))


def table(runs: list[dict[str, Any]]) -> str:
    """Return Markdown: a row a metric, mean and range over the runs' metrics."""
    lines = ["| metric | all | seen | unseen |", "|---|---|---|---|"]
    for title, name in {**HEADLINE, **TOKENS}.items():
        lines.append(f"| {title} | {cells(runs, name)} |")
    for name in sorted(name for name in runs[0] if name.startswith("questions.kind.") and name.count(".") == 2):
        kind = name.removeprefix("questions.kind.")
        lines.append(f"| questions: {kind} | {cells(runs, name)} |")
        lines.append(f"| questions: {kind}, no-image baseline | {cells(runs, name.replace('questions', 'blind'))} |")
    return "\n".join(lines)


def cells(runs: list[dict[str, Any]], name: str) -> str:
    """Return a metric of all, of seen and of unseen combinations."""
    return " | ".join(cell(runs, one) for one in (name, f"{name}.seen", f"{name}.unseen"))


def cell(runs: list[dict[str, Any]], name: str) -> str:
    """Return mean and range of a metric that every run has, else a dash."""
    values = [run[name]["value"] for run in runs if name in run and run[name]["value"] is not None]
    if len(values) < len(runs):
        return "-"
    digits = 3 if max(values) <= 1 else 1
    return f"{statistics.fmean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main(sys.argv[1:])
