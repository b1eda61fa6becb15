"""Run one ablation: `python examples/ablations/run.py image-input`. Without a name it lists them.

Each arm is the quickstart with a few settings changed (recipes.yaml), on every seed; steps whose settings, and those of
all steps before them, are the same are trained once. The table goes to docs/ablations.md. Killed or stopped, the same
command goes on. `--config tests/mini.yaml --table /tmp/table.md` is a rehearsal of a minute.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lavit_core.errors import LavitError, UsageError
from lavit_core.files import write_text
from lavit_core.rundir import versions

from lavit_cli.quickstart import QuickstartConfig, plan
from lavit_cli.quickstart.settings import settle
from lavit_cli.quickstart.steps import STEPS, Job

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "docs" / "ablations.md"
CHAIN = ("data", "encoder", "tokenizer", "tokens", "pretrain", "detokenizer")
"""Steps of a quickstart that train something, each on what the one before left."""

STUDENT_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Two-sided 95 % quantile of Student's t by number of seeds. Source: any table of the t distribution."""


def main() -> None:
    """Run what the command line asks for; failures are one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", help="which ablation (default: list them)")
    parser.add_argument("--recipes", type=Path, default=HERE / "recipes.yaml", help="a file of your own")
    parser.add_argument("--arms", nargs="+", help="only these arms (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"), help="where runs are kept and shared")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--config", type=Path, help="settings of the quickstart, below every arm's")
    parser.add_argument("--set", dest="sets", action="append", metavar="KEY=VALUE", help="one more setting, likewise")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--table", type=Path, default=TABLE, help="file the table is appended to")
    asked = parser.parse_args()
    recipes = yaml.safe_load(asked.recipes.read_text(encoding="utf-8"))
    if asked.recipe is None:
        for name, recipe in recipes.items():
            print(f"{name:<12} {recipe['question']}  ({', '.join(recipe['arms'])})")
        return
    try:
        run(recipes, asked)
    except LavitError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def run(recipes: Mapping[str, Any], asked: argparse.Namespace) -> None:
    """Train and score every arm on every seed, and append the table."""
    if asked.recipe not in recipes:
        raise UsageError(f"{asked.recipe}: no such ablation, expected one of {', '.join(recipes)}")
    recipe = recipes[asked.recipe]
    arms = asked.arms or list(recipe["arms"])
    if unknown := [arm for arm in arms if arm not in recipe["arms"]]:
        raise UsageError(f"--arms {unknown[0]}: {asked.recipe} has the arms {', '.join(recipe['arms'])}")
    below = plan(preset=asked.preset, config=asked.config, sets=asked.sets)
    # Every arm's settings are resolved before the first one is trained.
    configs = {arm: changed(below, recipe["arms"][arm]) for arm in arms}
    for config in configs.values():
        settle(config)
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in asked.seeds:
        for arm, config in configs.items():
            print(f"== {asked.recipe}: {arm}, seed {seed}", file=sys.stderr)
            found.setdefault(arm, []).append(arm_metrics(asked.out, config, recipe, seed=seed, device=asked.device))
    text = table(asked, recipe, found)
    before = asked.table.read_text(encoding="utf-8") if asked.table.exists() else "# Ablations\n"
    write_text(asked.table, f"{before.rstrip()}\n\n{text}")
    print(text)


def changed(below: QuickstartConfig, changes: Mapping[str, Any]) -> QuickstartConfig:
    """Return the settings with an arm's changes merged in."""
    values = below.model_dump(mode="json")
    for step, settings in changes.items():
        settings = dict(settings)
        if isinstance(settings.get("phases"), Mapping):
            settings["phases"] = changed_phases(settle(below).as_json()[step]["phases"], settings["phases"])
        values[step] = merged(values[step], settings)
    return QuickstartConfig.model_validate(values)


def changed_phases(phases: Sequence[Mapping[str, Any]], changes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the phases with changes by name; one that is taken out gives its steps to the phase after it."""
    names = [phase["name"] for phase in phases]
    if unknown := [name for name in changes if name not in names]:
        raise UsageError(f"phases: {unknown[0]} is not one of {', '.join(names)}")
    out: list[dict[str, Any]] = []
    waiting = 0
    for phase in phases:
        change = changes.get(phase["name"], {})
        if change is None:
            waiting += phase["num_steps"]
            continue
        made = {**phase, **change}
        out.append({**made, "num_steps": made["num_steps"] + waiting})
        waiting = 0
    if waiting or not out:
        raise UsageError("phases: the last one can't be taken out: nothing comes after it to take its steps")
    return out


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings merged; lists are replaced."""
    out = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merged(out[key], value) if both else value
    return out


def arm_metrics(
    out: Path, config: QuickstartConfig, recipe: Mapping[str, Any], *, seed: int, device: str
) -> dict[str, Any]:
    """Train an arm's steps on one seed, those it shares with finished arms excepted; return its metrics."""
    steps = CHAIN[: CHAIN.index(recipe["until"]) + 1]
    settings = settle(config)
    keys = step_keys(config, steps, seed)
    arm = out / "arms" / digest([keys[steps[-1]], settings.evaluation.model_dump(mode="json")])
    arm.mkdir(parents=True, exist_ok=True)
    job = Job(out=arm, config=config, settings=settings, data=None, seed=seed, device=device, quiet=False)
    for step in STEPS:
        if step.name not in steps:
            continue
        home = out / "steps" / f"{step.name}-{keys[step.name]}"
        home.mkdir(parents=True, exist_ok=True)
        if step.name == "data":
            # Drawn beside its place and renamed there: it can't be drawn through a link.
            step.run(dataclasses.replace(job, out=home))
            link(arm / "data", home / "data")
        else:
            link(arm / step.name, home)
            step.run(job)
    return score(job, recipe)


def step_keys(config: QuickstartConfig, steps: Sequence[str], seed: int) -> dict[str, str]:
    """Return what names each step: its own settings, the seed, and the step before it."""
    settled = settle(config).as_json()
    drawn = [config.images, config.heldout_images, config.drawing]
    keys, before = {}, ""
    for step in steps:
        before = digest([before, seed, drawn if step == "data" else settled[step]])
        keys[step] = before
    return keys


def digest(value: Any) -> str:
    """Return a short name for settings."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def link(place: Path, target: Path) -> None:
    """Make `place` a link to `target`, if it is not there yet."""
    if not place.is_symlink():
        place.symlink_to(os.path.relpath(target, place.parent), target_is_directory=True)


def score(job: Job, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe's metrics of an arm: `lavit eval shapes`, and probes where they are asked for."""
    from lavit_evaluation.api import Compute, ProbeConfig, eval_probe, eval_shapes

    model, options = job.model(recipe["until"]), {"seed": job.seed, "compute": Compute(device=job.device)}
    config = job.settings.evaluation
    metrics = eval_shapes(model, job.heldout, job.out / "evaluation", config, train_data=job.train, **options)[
        "figures"
    ]
    if any(name.startswith("probe.") for name in recipe["metrics"]):
        out = job.out / "probe"
        metrics |= eval_probe(model, job.heldout, out, ProbeConfig(), train_data=job.train, **options)["figures"]
    return {name: metrics.get(name) for name in recipe["metrics"]}


def table(
    asked: argparse.Namespace, recipe: Mapping[str, Any], found: Mapping[str, Sequence[Mapping[str, Any]]]
) -> str:
    """Return a section: the question, the command, the machine, and a row an arm."""
    names = recipe["metrics"]
    known = versions()
    command = " ".join(["python", "examples/ablations/run.py", *sys.argv[1:]])
    alone = "" if len(asked.seeds) > 1 else " (one seed: the interval of its cases)"
    lines = [
        f"## {asked.recipe}",
        "",
        recipe["question"],
        "",
        f"`{command}`; seeds {', '.join(map(str, asked.seeds))}; {platform.machine()}, {os.cpu_count()} CPUs, device "
        f"{asked.device}; lavit {known.get('lavit')}, torch {known.get('torch')}, Python {known['python']}. Mean over "
        f"seeds with Student's 95 % interval{alone}; in brackets the cases a seed.",
        "",
        f"| arm | {' | '.join(names)} |",
        "|---" * (len(names) + 1) + "|",
    ]
    for arm, seeds in found.items():
        lines.append(f"| {arm} | {' | '.join(cell([metrics[name] for metrics in seeds]) for name in names)} |")
    return "\n".join([*lines, ""])


def cell(metrics: Sequence[Mapping[str, Any] | None]) -> str:
    """Return the mean over seeds with its interval and the cases behind one seed's value."""
    known = [metric for metric in metrics if metric is not None and metric["value"] is not None]
    if not known:
        return "-"
    values = [metric["value"] for metric in known]
    middle = statistics.fmean(values)
    if len(values) > 1:
        half = STUDENT_95.get(len(values), 1.96) * statistics.stdev(values) / len(values) ** 0.5
        low, high = middle - half, middle + half
    else:
        low, high = known[0]["low"], known[0]["high"]
    between = "" if low is None else f" {low:.3f} to {high:.3f}"
    return f"{middle:.3f}{between} (n={known[0]['count']:,})"


if __name__ == "__main__":
    main()
