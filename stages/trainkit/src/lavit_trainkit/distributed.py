"""The processes that torchrun started, at work on one run. With one process each function returns its input.

What a step computes is a function of settings and seed: every process knows the whole batch, takes its share of it, and
weighs its losses by the whole. So a run may go on with another number of processes (docs/adr/0005).
"""

import atexit
import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from lavit_core.config import Config
from lavit_core.errors import LavitError, UsageError
from lavit_core.modeldir import missing_parts
from lavit_core.processes import is_main, num_processes, process_rank
from lavit_core.progress import warn
from lavit_core.rundir import Run, open_run
from torch import Tensor

TIMEOUT_VARIABLE, TIMEOUT_SECONDS = "LAVIT_PROCESS_TIMEOUT", 1800
"""Seconds that a process waits for the others before it gives up, and the job ends."""

SAME_ERROR_SECONDS = 5
"""Seconds that a failing process waits for the first one to report the same error."""

P = ParamSpec("P")
T = TypeVar("T")


def across_processes(trainer: Callable[P, T]) -> Callable[P, T]:
    """Let a trainer (keyword `device`) run in every process that torchrun started.

    If all processes fail with the same error, only the first one reports it.
    """

    @functools.wraps(trainer)
    def joined(*args: P.args, **kwargs: P.kwargs) -> T:
        if num_processes() == 1:
            return trainer(*args, **kwargs)
        _join(str(kwargs.get("device", "auto")))
        try:
            return trainer(*args, **kwargs)
        except LavitError as error:
            if _main_says(str(error)):
                raise SystemExit(error.exit_code) from None
            raise
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or "gloo" in str(error):
                raise LavitError(
                    f"the other processes do not answer ({' '.join(str(error).split())[:200]}): one has died or hangs, "
                    f"or {TIMEOUT_VARIABLE} is too short; run the same command to go on from the last checkpoint"
                ) from error
            raise

    return joined


def _join(device: str) -> None:
    if dist.is_initialized():
        return
    on_gpus = torch.cuda.is_available() and device != "cpu"
    seconds = os.environ.get(TIMEOUT_VARIABLE, str(TIMEOUT_SECONDS))
    if not seconds.isdigit() or int(seconds) == 0:
        raise UsageError(f"{TIMEOUT_VARIABLE}={seconds}: expected a number of seconds above 0")
    if on_gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=int(seconds)))
    atexit.register(dist.destroy_process_group)


def _main_says(message: str) -> bool:
    """Return whether the first process fails with the same message, which it puts into the store for the others."""
    store = dist.distributed_c10d._get_default_store()
    if is_main():
        store.set("lavit/error", message)
        return False
    try:
        store.wait(["lavit/error"], timedelta(seconds=SAME_ERROR_SECONDS))
        return bool(store.get("lavit/error").decode() == message)
    except (dist.DistError, RuntimeError):  # it does not fail, or has gone already
        return False


@contextlib.contextmanager
def open_shared_run(
    out: Path,
    *,
    command: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    settings: type[Config] | None = None,
) -> Iterator[Run]:
    """Open a run directory as `lavit_core.rundir.open_run` does, in the first process; the others follow in silence."""
    with contextlib.ExitStack() as stack:

        def open_whole() -> Run:
            run = stack.enter_context(open_run(out, command=command, config=config, inputs=inputs, settings=settings))
            if run.done and (wrong := missing_parts(out / "model")):
                warn(f"{wrong}: the run was finished, and goes on from its newest checkpoint to export the model again")
                run.reopen()
            return run

        run = on_main(open_whole)
        yield run or Run(out, writes=False)


def on_main(make: Callable[[], T]) -> T | None:
    """Call `make` in the first process while the others wait; return its result there, and None in the others.

    Raises, in all of them, the LavitError that it raised.
    """
    result, failure = None, None
    if is_main():
        try:
            result = make()
        except LavitError as error:
            failure = error
    failure = from_main(failure)
    if failure is not None:
        raise failure
    return result


def from_main(value: T) -> T:
    """Return the first process's value of a small object."""
    if num_processes() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def any_process(asked: Callable[[], bool]) -> Callable[[], bool]:
    """Return a function that is True in all processes if `asked` is True in one; all of them must call it together."""
    if num_processes() == 1:
        return asked

    def ask() -> bool:
        answer = torch.tensor(int(asked()))
        dist.all_reduce(answer, dist.ReduceOp.MAX)
        return bool(answer)

    return ask


def shares_of(count: int, *, setting: str, passes: int = 1) -> list[slice]:
    """Return the slice of `count` items that this process takes in each pass; sizes differ by one at most.

    Raises UsageError, naming the setting that `count` comes from, when a part would be empty.
    """
    processes, parts = num_processes(), num_processes() * passes
    if count < parts:
        cut = f"{processes} processes" + (f" in each of {passes} passes" if passes > 1 else "")
        raise UsageError(f"setting {setting}: {count}, expected at least one for each of {cut}; raise it (--set)")
    places = range(process_rank(), parts, processes)
    return [slice(count * place // parts, count * (place + 1) // parts) for place in places]


def all_reduce_sum(value: Tensor) -> Tensor:
    """Return the sum of all processes' values, without gradient."""
    if num_processes() == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value


def sum_terms(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """Return the terms of a step's loss from those of this process's passes, summed over passes and processes."""
    names = list(parts[0])
    summed = torch.stack([torch.stack([terms[name].detach() for name in names]) for terms in parts]).sum(0)
    return dict(zip(names, all_reduce_sum(summed).tolist(), strict=True))


def all_reduce_(cache: Tensor) -> None:
    """Sum a tensor over all processes in place, as for a table in which each process filled its own rows."""
    if num_processes() > 1:
        dist.all_reduce(cache)


def is_own_place(place: int) -> bool:
    """Return whether this process fills the given part of a table that all of them need."""
    return place % num_processes() == process_rank()


def all_gather(rows: Tensor) -> Tensor:
    """Return the rows [N, ...] of all processes, in the order of the processes, without gradient."""
    return rows if num_processes() == 1 else torch.cat(_gathered(rows.detach()))


def all_gather_with_gradient(rows: Tensor) -> Tensor:
    """Return the rows [N, ...] of all processes; the gradient of each is summed over all processes."""
    return rows if num_processes() == 1 else _AllGather.apply(rows)  # type: ignore[no-untyped-call, no-any-return]


def broadcast_from_main(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with the first process's: sums on a GPU may differ in the last bit from card to card."""
    if num_processes() > 1:
        for value in tensors:
            dist.broadcast(value, src=0)


def _gathered(rows: Tensor) -> list[Tensor]:
    """Return every process's rows; their number may differ, so they travel padded to the longest."""
    count = torch.tensor([rows.shape[0]], device=rows.device)
    counts = [torch.zeros_like(count) for _ in range(num_processes())]
    dist.all_gather(counts, count)
    sizes = [int(each) for each in counts]
    padded = rows.new_zeros(max(sizes), *rows.shape[1:])
    padded[: rows.shape[0]] = rows
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return [part[:size] for part, size in zip(parts, sizes, strict=True)]


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = _gathered(rows)
        first = sum(part.shape[0] for part in parts[: process_rank()])
        ctx.own = slice(first, first + rows.shape[0])
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        wanted = grad.contiguous().clone()
        dist.all_reduce(wanted)
        return wanted[ctx.own]
