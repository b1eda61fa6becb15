"""The command `lavit bench`."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import typer
from lavit_core.command import OutputOptions, command
from lavit_core.options import Seed, argument, option

from lavit_cli.bench.comparison import WORKLOADS, BenchSettings

NAMES = f"{', '.join(WORKLOADS)} or all"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """What is measured, and how."""

    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto"
    dtype: Annotated[str, typer.Option("--dtype", help="fp32, bf16 or both.")] = "both"
    full: Annotated[bool, typer.Option("--full", help="Published sizes; small ones otherwise.")] = False
    pairs: Annotated[int, typer.Option("--pairs", min=3, help="Timings of each arm.")] = 5
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads on a CPU.")] = 1
    official: Annotated[
        Path | None, option("--official", metavar="DIR", help="Your clone of jy0205/LaVIT, as one more baseline.")
    ] = None


@command()
def bench(
    workloads: Annotated[list[str] | None, argument(metavar="[WORKLOAD]...", help=f"{NAMES} (default: all).")] = None,
    out: Annotated[Path | None, option("--out", help="JSON file for the result.")] = None,
    measured: MeasureOptions = MeasureOptions(),
    seed: Seed = 0,
    *,
    output: OutputOptions,
) -> None:
    """Measure how fast this machine does each job beside the plain way; both compute the same, which is checked first.

    Prints Markdown tables, or the result as JSON with --json.
    """
    import json

    from lavit_core.distributions import require_stages
    from lavit_core.errors import InputError, UsageError
    from lavit_core.files import check_out_file, write_json

    chosen = list(dict.fromkeys(workloads or ["all"]))
    if unknown := [name for name in chosen if name not in (*WORKLOADS, "all")]:
        raise UsageError(f"bench {unknown[0]}: expected {NAMES}")
    if measured.dtype not in ("fp32", "bf16", "both"):
        raise UsageError(f"--dtype {measured.dtype}: expected fp32, bf16 or both")
    if measured.official is not None and not measured.official.is_dir():
        raise InputError(f"--official {measured.official}: no such directory; clone jy0205/LaVIT there")
    if out is not None:
        check_out_file(out)
    with require_stages("lavit bench"):
        from lavit_trainkit.device import pick_device

        from lavit_cli.bench.run import run_bench
        from lavit_cli.bench.table import markdown

    settings = BenchSettings(
        device=str(pick_device(measured.device)),
        dtypes=("fp32", "bf16") if measured.dtype == "both" else (measured.dtype,),
        full=measured.full,
        seed=seed,
        threads=measured.threads,
        pairs=measured.pairs,
        official=measured.official,
    )
    names = [name for name in WORKLOADS if name in chosen or "all" in chosen]
    result = run_bench(names, settings, command=_command_line(chosen, measured, seed), quiet=output.silent)
    if out is not None:
        write_json(out, result.as_json())
    typer.echo(json.dumps(result.as_json(), ensure_ascii=False) if output.as_json else markdown(result))


def _command_line(workloads: list[str], measured: MeasureOptions, seed: int) -> str:
    """Return the command that measures the same again; options at their defaults are left out."""
    words = ["lavit", "bench", *workloads]
    for field in dataclasses.fields(measured):
        value = getattr(measured, field.name)
        if value != field.default:
            words += [f"--{field.name}"] if value is True else [f"--{field.name}", str(value)]
    return shlex.join([*words, *(["--seed", str(seed)] if seed else [])])
