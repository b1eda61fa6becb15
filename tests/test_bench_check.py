"""`benchmarks/check.py`: which ratios have fallen, of made-up results. Nothing is timed here."""

import dataclasses
import runpy
from pathlib import Path

import pytest
from lavit_core.files import write_json

from lavit_cli.bench.record import ArmCost, BenchResult, Machine, Ratio, Record, read_result

ROOT = Path(__file__).parents[1]
CHECK = runpy.run_path(str(ROOT / "benchmarks" / "check.py"))
MATMUL = {"fp32 torch": 1e11, "bf16": 2e11}


def result(*ratios: tuple[str, float, float, float, float | None], matmul: dict[str, float] = MATMUL) -> BenchResult:
    """Return a result of ratios: name, low, median, most, goal."""
    cost = ArmCost(name="plain", seconds=1.0, wall=1.0, rate=1.0, peak_bytes=None)
    records = [
        Record(
            workload="w", name=name, size="s", dtype="bf16", unit="images", amount=1, equal="equal", baseline=cost,
            ours=cost, ratio=Ratio(median=median, low=low, least=low, most=most, pairs=5), goal=goal, roofline=None,
            curve=None, at=None,
        )
        for name, low, median, most, goal in ratios
    ]  # fmt: skip
    machine = Machine(processor="p", cores=2, device="cpu", threads=1, load=None, versions={}, matmul=matmul)
    return BenchResult(
        date="2026-01-01", command="c", seed=0, machine=machine, records=records, slopes=[], omissions=[]
    )


BASELINE = result(("reached", 6.0, 6.2, 6.4, 5.0), ("missed", 4.0, 4.2, 4.4, 5.0), ("free", 2.0, 2.1, 2.2, None))


@pytest.mark.parametrize(
    ("row", "fallen"),
    [
        (("reached", 4.8, 4.9, 5.1, 5.0), False),  # one pair reaches the goal
        (("reached", 4.7, 4.8, 4.9, 5.0), True),
        (("missed", 3.5, 3.6, 3.7, 5.0), False),  # as the baseline missed it
        (("missed", 3.3, 3.4, 3.5, 5.0), True),
        (("free", 1.7, 1.8, 1.9, None), False),
        (("free", 1.6, 1.7, 1.75, None), True),
        (("new", 0.5, 0.6, 0.7, None), False),  # nothing to compare it with
        (("new", 0.5, 0.6, 0.7, 1.0), True),
    ],
)
def test_what_has_fallen(row: tuple[str, float, float, float, float | None], fallen: bool) -> None:
    assert len(CHECK["fallen"](result(row), BASELINE)) == fallen


def test_another_kind_of_machine_is_held_to_goals_alone() -> None:
    other = {**MATMUL, "bf16": 4e11}
    rows = (("missed", 3.3, 3.4, 3.5, 5.0), ("free", 1.6, 1.7, 1.75, None))
    found = CHECK["fallen"](result(*rows, matmul=other), BASELINE)
    assert found == ["fallen: w, missed, s, bf16, plain: 3.40 (3.30 to 3.50), expected at least 5.00"]


def test_files_are_read_and_the_exit_code_says_what_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "result.json", tmp_path / "baseline.json"]
    for file in files:
        write_json(file, BASELINE.as_json())
    assert CHECK["main"](list(map(str, files))) == 0
    assert "3 ratios, 0 have fallen" in capsys.readouterr().out
    worse = dataclasses.replace(BASELINE.records[0], ratio=Ratio(median=1, low=1, least=1, most=1, pairs=5))
    write_json(files[0], dataclasses.replace(BASELINE, records=[worse]).as_json())
    assert CHECK["main"](list(map(str, files))) == 1
    assert CHECK["main"]([str(tmp_path / "none.json"), str(files[1])]) == 3


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks" / "baselines").glob("*.json")), ids=lambda file: file.name)
def test_baselines_can_be_read(file: Path) -> None:
    assert read_result(file).records
