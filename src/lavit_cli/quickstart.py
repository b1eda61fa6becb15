"""`lavit quickstart`: every stage in order, each in its own run directory under one; the same command resumes."""

import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lavit_core.config import Config, load_preset, resolve
from lavit_core.errors import Interrupted, UsageError
from lavit_core.rundir import open_run
from pydantic import Field

from lavit_cli.ledger import costs, measured

Overrides = dict[str, Any]

PRODUCTS = ("model/lavit.json", "evaluation/score.json", "report.html", "summary.json")
"""What a finished quickstart is used for; where one is gone, the same command makes it again."""


class QuickstartConfig(Config):
    """Settings of `lavit quickstart`; those of a step are merged over that command's own preset."""

    preset: str = "tiny"
    """Preset of every step's command."""
    images: int = Field(20_000, ge=16)
    """Training pictures to draw (without --data)."""
    heldout_images: int = Field(1024, ge=16)
    """Held-out pictures to draw (without --data)."""
    drawing: Overrides = Field(default_factory=dict)
    """What the drawn pictures show beyond the embedded data's: image_px, more_shapes, textures (without --data)."""
    heldout_share: float = Field(0.1, gt=0, lt=1)
    """Share of your own pictures that no step trains on (with --data)."""
    encoder: Overrides = Field(default_factory=dict)
    """Settings of train-encoder."""
    tokenizer: Overrides = Field(default_factory=dict)
    """Settings of train-tokenizer."""
    tokens: Overrides = Field(default_factory=dict)
    """Settings of tokenize-images."""
    pretrain: Overrides = Field(default_factory=dict)
    """Settings of pretrain."""
    blind: Overrides = Field(default_factory=dict)
    """Settings of the same model trained without pictures, merged over those of pretrain."""
    detokenizer: Overrides = Field(default_factory=dict)
    """Settings of train-detokenizer."""
    evaluation: Overrides = Field(default_factory=dict)
    """Settings of eval shapes."""

    def as_yaml(self) -> str:
        """Return these settings and those of every step as YAML."""
        return yaml.safe_dump(self.settled(), sort_keys=False)

    def settled(self) -> dict[str, Any]:
        """Return all settings, those of every step included, as plain values."""
        from lavit_cli.step_settings import settle

        return {**self.model_dump(mode="json"), **settle(self).as_json()}


def plan(
    *, preset: str, config: Path | None = None, sets: Sequence[str] | None = None, images: int | None = None
) -> QuickstartConfig:
    """Resolve the settings: shipped preset, then a YAML file, then `--set step.key=value`. Raises UsageError."""
    shipped = {"preset": preset, **load_preset("lavit_cli", "quickstart", preset)}
    return resolve(QuickstartConfig, preset=shipped, file=config, sets=sets, flags={"images": images})


def quickstart(
    out: Path,
    config: QuickstartConfig,
    *,
    data: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    stop_after: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run every step that is not done yet and return the summary. Raises Interrupted when asked to stop."""
    from lavit_cli.step_settings import settle
    from lavit_cli.steps import STEPS, Job, data_digest, summarise

    names = [step.name for step in STEPS]
    if stop_after is not None and stop_after not in names:
        raise UsageError(f"--stop-after {stop_after}: the steps are {', '.join(names)}")
    inputs = {"data": data_digest(data)}
    settings = settle(config)
    with open_run(
        out, command="quickstart", config={**config.model_dump(mode="json"), "seed": seed}, inputs=inputs
    ) as run:
        if run.done:
            if all((out / file).exists() for file in PRODUCTS):
                return run.done
            run.reopen()
        job = Job(out=out, config=config, settings=settings, data=data, seed=seed, device=device, quiet=quiet)
        figures: dict[str, Any] = {}
        # A plain kill asks as politely as Ctrl-C does: steps without a loop of their own stop at once and start anew.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            for step in STEPS:
                if not step.wanted(job):
                    continue
                _say(f"{step.name}: {step.title}", quiet)
                with measured(out, step.name) as cost:
                    figures[step.name] = step.run(job)
                _say(f"{step.name}: done in {cost_line(cost)}\n", quiet)
                if step.name == stop_after:
                    return summarise(job, figures)
        except KeyboardInterrupt:
            raise Interrupted(f"{out}: stopped during {step.name}; run the same command to go on") from None
        finally:
            signal.signal(signal.SIGTERM, before)
        summary = summarise(job, figures)
        run.finish(summary)
        return summary


def cost_line(cost: Mapping[str, Any]) -> str:
    """Return what a step cost, in words."""
    return (
        f"{cost['seconds']:.1f} s wall, {cost['cpu_seconds']:.1f} s CPU, peak {cost['peak_memory_bytes'] / 1e9:.2f} GB"
    )


def show_summary(out: Path, summary: Mapping[str, Any], *, as_json: bool) -> None:
    """Write the summary to stdout: one JSON object, or tables and the commands to try next."""
    if as_json:
        sys.stdout.write(json.dumps(summary) + "\n")
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("step")
    for title in ("wall s", "CPU s", "peak GB"):
        table.add_column(title, justify="right")
    rows = costs(out)
    for row in rows:
        table.add_row(row["step"], *_cells(row["seconds"], row["cpu_seconds"], row["peak_memory_bytes"]))
    table.add_section()
    table.add_row("all", *_cells(summary["seconds"], summary["cpu_seconds"], summary["peak_memory_bytes"]))
    console = Console()
    console.print(table)
    figures = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in ("figure", "value", "95 %", "count", "seen", "unseen"):
        figures.add_column(title, justify="left" if title == "figure" else "right")
    for name, figure in summary.get("headline", {}).items():
        if figure["value"] is not None:
            low, high = figure.get("low"), figure.get("high")
            interval = "" if low is None or high is None else f"{low:.3f}-{high:.3f}"
            parts = [f"{figure[part]['value']:.3f}" if part in figure else "" for part in ("seen", "unseen")]
            figures.add_row(name, f"{figure['value']:.3f}", interval, str(figure["count"]), *parts)
    if figures.row_count:
        console.print()
        console.print(figures)
        if any("seen" in figure for figure in summary["headline"].values()):
            console.print("seen, unseen: pictures whose colour-shape combinations training showed, or left out")
    for line in summary.get("next", ()):
        sys.stdout.write(f"\n{line}")
    sys.stdout.write("\n")


def _cells(wall: float, cpu: float, peak: float) -> list[str]:
    return [f"{wall:.1f}", f"{cpu:.1f}", f"{peak / 1e9:.2f}"]


def _say(line: str, quiet: bool) -> None:
    if not quiet:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
