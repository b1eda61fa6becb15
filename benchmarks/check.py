"""Fail if a ratio of `lavit bench` has fallen: `make bench-check`, or

    python benchmarks/check.py RESULT.json BASELINE.json

A ratio has fallen if even the best of its pairs is under the floor. The floor is the goal, or where the baseline misses
its goal or has none, nine tenths of the baseline's 5th percentile. Seconds are never compared, and ratios to a baseline
only on a machine whose matrix products stand to each other as on its own: docs/adr/0016.
"""

import sys
from pathlib import Path

from lavit_core.errors import InputError

from lavit_cli.bench.record import BenchResult, Machine, Record, read_result

SLACK = 0.9
"""Ratios of one revision on one machine differ by up to 5 % from run to run."""
ALIKE = 0.15
"""Machines whose ratios of matrix products differ by less are compared."""


def main(arguments: list[str]) -> int:
    """Print what has fallen; return 1 if anything has."""
    try:
        result, baseline = (read_result(Path(name)) for name in arguments)
    except InputError as error:
        print(f"error: {error}")
        return 3
    if not comparable(result.machine, baseline.machine):
        print(f"{arguments[1]} is of another kind of machine ({baseline.machine.processor}): goals alone are checked")
    found = fallen(result, baseline)
    print("\n".join([*found, f"{len(result.records)} ratios, {len(found)} have fallen"]))
    return 1 if found else 0


def fallen(result: BenchResult, baseline: BenchResult) -> list[str]:
    """Return a line for each ratio that lies under its floor."""
    before = {name_of(record): record for record in baseline.records}
    if not comparable(result.machine, baseline.machine):
        before = {}
    lines = []
    for record in result.records:
        floor = floor_of(record, before.get(name_of(record)))
        if floor is not None and record.ratio.most < floor:
            ratio = record.ratio
            lines.append(
                f"fallen: {', '.join(filter(None, name_of(record)))}: {ratio.median:.2f} ({ratio.least:.2f} to "
                f"{ratio.most:.2f}), expected at least {floor:.2f}"
            )
    return lines


def floor_of(record: Record, before: Record | None) -> float | None:
    """Return the least ratio that is accepted; None where there is neither goal nor baseline."""
    if record.goal is not None and (before is None or before.reached):
        return record.goal
    return None if before is None else SLACK * before.ratio.low


def name_of(record: Record) -> tuple[str, ...]:
    """Return the words that name a comparison in every run."""
    return record.workload, record.name, record.size, record.dtype, record.baseline.name


def comparable(here: Machine, there: Machine) -> bool:
    """Tell whether two machines have the same kind of device, and ratios between their matrix products alike."""
    if (here.device == "cpu") != (there.device == "cpu") or here.matmul.keys() != there.matmul.keys():
        return False
    first = next(iter(here.matmul))
    shares = (
        (here.matmul[name] / here.matmul[first], there.matmul[name] / there.matmul[first]) for name in here.matmul
    )
    return all(abs(mine / theirs - 1) < ALIKE for mine, theirs in shares)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
