"""A result as Markdown."""

from collections.abc import Iterator, Sequence

from lavit_cli.bench.record import ArmCost, BenchResult, Machine, Record

TITLES = (
    "what", "precision", "baseline", "s", "ours", "s", "rate", "ratio: median (5th percentile, range, pairs)", "goal"
)  # fmt: skip


def markdown(result: BenchResult) -> str:
    """Return the tables of a result, with machine, date and command above them."""
    return "\n".join([*_head(result), *_workloads(result.records), *_slopes(result), *_omissions(result)])


def _head(result: BenchResult) -> Iterator[str]:
    yield f"`{result.command}`, {result.date}, seed {result.seed}"
    yield ""
    yield machine_line(result.machine)


def machine_line(machine: Machine) -> str:
    """Return one sentence about a machine."""
    device = "" if machine.device == "cpu" else f", {machine.device}"
    load = "" if machine.load is None else f", load average {machine.load:.1f}"
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    speeds = ", ".join(f"{name} {speed / 1e9:,.0f}" for name, speed in machine.matmul.items())
    return (
        f"{machine.processor}, {machine.cores} cores{device}, {machine.threads} threads{load}; {versions}; "
        f"matrix product: {speeds} GFLOP/s"
    )


def _workloads(records: Sequence[Record]) -> Iterator[str]:
    for workload in dict.fromkeys(record.workload for record in records):
        yield ""
        yield f"### {workload}"
        yield ""
        yield f"| {' | '.join(TITLES)} |"
        yield "|---" * len(TITLES) + "|"
        yield from (_row(record) for record in records if record.workload == workload)


def _row(record: Record) -> str:
    ratio, goal = record.ratio, ""
    if record.goal is not None:
        goal = f"{record.goal:g}: {'reached' if record.reached else 'missed'}"
    ratios = f"**{ratio.median:.2f}** ({ratio.low:.2f}, {ratio.least:.2f}..{ratio.most:.2f}, {ratio.pairs})"
    share = "" if record.roofline is None else f", {record.roofline:.0%} of the matrix product's"
    rate = f"{_short(record.ours.rate)} {record.unit}/s{share}"
    arms = [cell for arm in (record.baseline, record.ours) for cell in (arm.name, _cost(arm))]
    cells = [f"{record.name}: {record.size}; {record.equal}", record.dtype, *arms, rate, ratios, goal]
    return f"| {' | '.join(cells)} |"


def _cost(arm: ArmCost) -> str:
    memory = "" if arm.peak_bytes is None else f", {arm.peak_bytes / 1e6:,.0f} MB"
    return f"{_short(arm.seconds)} (wall {_short(arm.wall)}){memory}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _slopes(result: BenchResult) -> Iterator[str]:
    if not result.slopes:
        return
    yield ""
    yield "### Scaling: exponent of seconds over size"
    yield ""
    yield "| workload | curve | precision | sizes | baseline | ours |"
    yield "|---|---|---|---|---|---|"
    for slope in result.slopes:
        sizes = ", ".join(f"{size:g}" for size in slope.sizes)
        yield (
            f"| {slope.workload} | {slope.curve} | {slope.dtype} | {sizes} | {slope.baseline:.2f} | {slope.ours:.2f} |"
        )


def _omissions(result: BenchResult) -> Iterator[str]:
    if result.omissions:
        yield ""
        yield "Left out here:"
        yield ""
        yield from (f"- {omission.workload}, {omission.name}: {omission.why}" for omission in result.omissions)
