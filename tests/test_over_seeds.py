"""The table over several runs of a quickstart."""

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "over_seeds.py"


def finished(run: Path, *, seed: int, value: float, steps: int = 5) -> str:
    (run / "evaluation").mkdir(parents=True)
    config = {"command": "quickstart", "config": {"preset": "tiny", "seed": seed, "steps": steps}}
    (run / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    names = ("questions.all", "questions.all.seen", "questions.kind.count", "blind.kind.count")
    metrics = {name: {"value": value, "count": 10} for name in names} | {"tokens.kept": {"value": 12 + value}}
    (run / "evaluation" / "score.json").write_text(json.dumps({"figures": metrics}), encoding="utf-8")
    return str(run)


def start(monkeypatch: pytest.MonkeyPatch, *folders: str) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *folders])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_the_table_shows_mean_and_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [finished(tmp_path / str(seed), seed=seed, value=value) for seed, value in enumerate((0.5, 0.75, 0.7))]
    start(monkeypatch, *runs)
    shown = capsys.readouterr().out
    assert "| questions answered correctly | 0.650 (0.500 to 0.750) | 0.650 (0.500 to 0.750) | - |" in shown
    assert "| questions: count | 0.650 (0.500 to 0.750) | - | - |" in shown
    assert "| questions: count, no-image baseline | 0.650 (0.500 to 0.750) | - | - |" in shown
    assert "| patches kept an image | 12.7 (12.5 to 12.8) | - | - |" in shown
    assert "| codebook in use | - | - | - |" in shown


@pytest.mark.parametrize(
    ("second", "message"), [({"seed": 0}, "seed 0 as in"), ({"seed": 1, "steps": 6}, "other settings than in")]
)
def test_runs_of_one_seed_or_of_other_settings_are_refused(
    second: dict[str, int], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [finished(tmp_path / "a", seed=0, value=0.5), finished(tmp_path / "b", value=0.5, **second)]
    with pytest.raises(SystemExit, match=message):
        start(monkeypatch, *runs)
    # Settings of steps count as well: what a preset says changes with versions.
    third = Path(finished(tmp_path / "c", seed=2, value=0.5))
    for run, steps in ((Path(runs[0]), 100), (third, 1000)):
        (run / "pretrain").mkdir()
        (run / "pretrain" / "config.yaml").write_text(json.dumps({"config": {"num_steps": steps, "seed": 2}}))
    with pytest.raises(SystemExit, match=r"c/pretrain/config\.yaml: other settings than in"):
        start(monkeypatch, runs[0], str(third))
    with pytest.raises(SystemExit, match="finished quickstart"):
        start(monkeypatch, runs[0], str(tmp_path / "none"))
