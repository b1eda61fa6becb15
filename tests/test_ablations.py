"""The ablation runner: every arm resolves, arms share what they have in common, a rehearsal trains nothing twice."""

import argparse
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commandline import MINI
from lavit_core.errors import UsageError

from lavit_cli.quickstart import plan
from lavit_cli.quickstart.settings import settle

FOLDER = Path(__file__).parents[1] / "examples" / "ablations"
RECIPES = yaml.safe_load((FOLDER / "recipes.yaml").read_text(encoding="utf-8"))

spec = importlib.util.spec_from_file_location("ablations_run", FOLDER / "run.py")
assert spec is not None
assert spec.loader is not None
runner = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runner)


def keys(recipe: str, arm: str, seed: int = 0) -> dict[str, str]:
    config = runner.changed(plan(preset="tiny"), RECIPES[recipe]["arms"][arm])
    return runner.step_keys(config, runner.CHAIN, seed)


def test_the_short_settings_are_the_tiny_ones_but_for_their_length() -> None:
    tiny, short = settle(plan(preset="tiny")), settle(plan(preset="tiny", config=FOLDER / "short.yaml"))
    assert short.encoder == tiny.encoder
    length = {"num_steps", "warmup_steps", "selector_lr"}
    for ours, theirs in zip(short.tokenizer.phases, tiny.tokenizer.phases, strict=True):
        assert ours.model_dump(exclude=length) == theirs.model_dump(exclude=length)
        assert ours.num_steps < theirs.num_steps / 2
    for name in RECIPES:
        for changes in RECIPES[name]["arms"].values():
            settle(runner.changed(plan(preset="tiny", config=FOLDER / "short.yaml"), changes))


@pytest.mark.parametrize("name", RECIPES)
def test_every_arm_resolves_to_settings_of_its_own(name: str) -> None:
    below = plan(preset="tiny")
    settled = {arm: settle(runner.changed(below, changes)).as_json() for arm, changes in RECIPES[name]["arms"].items()}
    assert len({json.dumps(settings, sort_keys=True) for settings in settled.values()}) == len(settled) >= 2
    assert RECIPES[name]["until"] in runner.CHAIN
    preset = settle(below).tokenizer
    for settings in settled.values():
        steps = [phase["num_steps"] for phase in settings["tokenizer"]["phases"]]
        assert sum(steps) == sum(phase.num_steps for phase in preset.phases), "an arm trains as long as the preset"


def test_phases_change_by_name_and_a_removed_phase_gives_its_steps_to_the_next() -> None:
    phases = [{"name": name, "num_steps": 10, "lr": 1.0} for name in ("a", "b", "c")]
    made = runner.changed_phases(phases, {"a": None, "b": {"name": "x", "lr": 2.0}})
    assert made == [{"name": "x", "num_steps": 20, "lr": 2.0}, {"name": "c", "num_steps": 10, "lr": 1.0}]
    with pytest.raises(UsageError, match="phases: d is not one of a, b, c"):
        runner.changed_phases(phases, {"d": {}})
    with pytest.raises(UsageError, match="the last one can't be taken out"):
        runner.changed_phases(phases, {"c": None})


def test_random_patches_are_as_many_as_the_preset_asks_for() -> None:
    config = settle(runner.changed(plan(preset="tiny"), RECIPES["selector"]["arms"]["random"])).tokenizer
    assert {phase.mask_rates for phase in config.phases} == {(config.model.keep_ratio, config.model.keep_ratio)}
    assert "selector" not in {module for phase in config.phases for module in phase.train}


def test_arms_share_the_steps_before_the_first_change() -> None:
    features, codes = keys("image-input", "features"), keys("image-input", "codes")
    same = {step for step in runner.CHAIN if features[step] == codes[step]}
    assert same == {"data", "encoder", "tokenizer", "tokens"}
    assert keys("guidance", "codes 1") == keys("guidance", "pixels 3") == keys("merger", "merger")
    assert keys("merger", "merger")["encoder"] == keys("merger", "no merger")["encoder"]
    assert keys("merger", "merger")["tokenizer"] != keys("merger", "no merger")["tokenizer"]
    assert not set(keys("merger", "merger").values()) & set(keys("merger", "merger", seed=1).values())


def test_a_table_cell_is_the_mean_with_its_interval_over_seeds() -> None:
    metrics = [{"value": value, "count": 1000, "low": 0.1, "high": 0.9} for value in (0.4, 0.5, 0.6)]
    # 0.1 * 4.303 / sqrt(3) = 0.248
    assert runner.cell(metrics) == "0.500 0.252 to 0.748 (n=1,000)"
    assert runner.cell(metrics[:1]) == "0.400 0.100 to 0.900 (n=1,000)"
    assert runner.cell([None, {"value": None, "count": 0, "low": None, "high": None}]) == "-"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, FOLDER / "run.py", *map(str, arguments)], capture_output=True, text=True)


def test_unknown_recipes_and_arms_are_refused_in_one_line(tmp_path: Path) -> None:
    done = run("colour")
    assert done.returncode == 2
    assert re.fullmatch(r"error: colour: no such ablation, expected one of tokens, .*keep-ratio\n", done.stderr)
    with pytest.raises(Exception, match="--arms pink: merger has the arms merger, no merger"):
        runner.run(RECIPES, argparse.Namespace(recipe="merger", arms=["pink"]))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where rehearsals keep and share their steps."""
    return tmp_path_factory.mktemp("ablations")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", RECIPES)
def test_a_rehearsal_ends_in_a_table_and_trains_nothing_twice(
    name: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lavit_evaluation.probing.linear_probe.MAX_ITERATIONS", 5)  # half of the time otherwise
    recipe = RECIPES[name]
    asked = argparse.Namespace(
        recipe=name, arms=None, seeds=[0], out=runs, preset="tiny", config=MINI, sets=None, device="cpu",
        table=tmp_path / "table.md",
    )  # fmt: skip
    runner.run(RECIPES, asked)
    trained = sorted((runs / "steps").glob("*/DONE"))
    stamps = [file.stat().st_mtime_ns for file in trained]
    runner.run(RECIPES, asked)
    assert [file.stat().st_mtime_ns for file in trained] == stamps
    rows = [row for row in (tmp_path / "table.md").read_text().splitlines() if row.startswith("| ")]
    assert len(rows) == 2 * (1 + len(recipe["arms"]))
    assert len(rows[1].split("|")) == len(recipe["metrics"]) + 3
    # A miniature may have too few labels for a probe; every other metric is there.
    wanted = [place for place, metric in enumerate(recipe["metrics"], start=2) if not metric.startswith("probe.")]
    for row in rows[1 : 1 + len(recipe["arms"])]:
        assert all("(n=" in row.split("|")[place] for place in wanted), row
