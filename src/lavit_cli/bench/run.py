"""Runs workloads one after another: outputs are held equal, then both arms are timed in turns."""

import dataclasses
import datetime
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from lavit_core.errors import VerificationError
from lavit_core.progress import note
from lavit_trainkit.device import pick_device

from lavit_cli.bench.comparison import BenchSettings, Comparison, Skipped, Unequal
from lavit_cli.bench.machine import describe, matmuls
from lavit_cli.bench.pairs import slope_of, time_in_pairs
from lavit_cli.bench.record import BenchResult, Omission, Record, Slope

Matmuls = Mapping[str, Callable[[], float]]


def run_bench(workloads: Sequence[str], settings: BenchSettings, *, command: str, quiet: bool = False) -> BenchResult:
    """Measure workloads by name. Raises VerificationError if two arms do not compute the same."""
    pick_device(settings.device)  # refuses a device that is not there
    before = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        machine, products = describe(settings), matmuls(settings)
        settings = dataclasses.replace(settings, speeds=machine.matmul)
        records: list[Record] = []
        omissions: list[Omission] = []
        for workload in workloads:
            for measured in _measured(workload, settings, products):
                if isinstance(measured, Omission):
                    omissions.append(measured)
                    note(f"{workload}, {measured.name}: left out, {measured.why}", quiet=quiet)
                    continue
                records.append(measured)
                note(f"{workload}, {_line(measured)}", quiet=quiet)
    finally:
        torch.set_num_threads(before)
    return BenchResult(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        command=command,
        seed=settings.seed,
        machine=machine,
        records=records,
        slopes=list(fitted(records)),
        omissions=omissions,
    )


def _line(record: Record) -> str:
    ratio = record.ratio
    what = ", ".join(filter(None, [record.name, record.size, record.dtype]))
    rates = f"{ratio.median:.2f} times as fast ({ratio.least:.2f} to {ratio.most:.2f}, {ratio.pairs} pairs)"
    return f"{what}: {rates} as {record.baseline.name}"


def _measured(workload: str, settings: BenchSettings, products: Matmuls) -> Iterator[Record | Omission]:
    module = importlib.import_module(f"lavit_cli.bench.workloads.{workload}")
    for found in module.compare(settings):
        if isinstance(found, Skipped):
            yield Omission(workload=workload, name=found.name, why=found.why)
        else:
            yield measure(workload, found, settings, products)


def measure(workload: str, comparison: Comparison, settings: BenchSettings, products: Matmuls) -> Record:
    """Hold both arms' outputs equal, then time them. Raises VerificationError before anything is timed."""
    try:
        equal = comparison.equal(comparison.baseline.run(), comparison.ours.run())
    except Unequal as error:
        raise VerificationError(
            f"bench {workload}: {comparison.name}, {comparison.size}, {comparison.dtype}: {comparison.ours.name} does "
            f"not compute what {comparison.baseline.name} does: {error}"
        ) from None
    baseline, ours, ratio, roofline = time_in_pairs(
        comparison,
        pairs=comparison.pairs or settings.pairs,
        device=settings.device,
        matmul=None if comparison.flops is None else products[comparison.dtype],
    )
    return Record(
        workload=workload,
        name=comparison.name,
        size=comparison.size,
        dtype=comparison.dtype,
        unit=comparison.unit,
        amount=comparison.amount,
        equal=equal,
        baseline=baseline,
        ours=ours,
        ratio=ratio,
        goal=comparison.goal,
        roofline=roofline,
        curve=comparison.curve,
        at=comparison.at,
    )


def fitted(records: Iterable[Record]) -> Iterator[Slope]:
    """Yield the slopes of each curve of three points or more."""
    curves: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if record.curve is not None and record.at is not None:
            curves.setdefault((record.workload, record.curve, record.dtype), []).append(record)
    for (workload, curve, dtype), points in curves.items():
        if len(points) < 3:
            continue
        sizes = [float(point.at or 0) for point in points]
        yield Slope(
            workload=workload,
            curve=curve,
            dtype=dtype,
            sizes=sizes,
            baseline=slope_of(sizes, [point.baseline.seconds for point in points]),
            ours=slope_of(sizes, [point.ours.seconds for point in points]),
        )
