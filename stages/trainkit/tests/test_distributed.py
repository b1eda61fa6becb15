"""Sharing among processes, as far as one process can test it; tests/test_processes.py starts several."""

import pytest
import torch
from lavit_core.errors import LavitError, UsageError
from lavit_core.processes import is_main, num_processes, process_rank
from lavit_core.rundir import Diagnostic, Run
from lavit_trainkit.distributed import (
    all_gather,
    all_gather_with_gradient,
    all_reduce_sum,
    any_process,
    on_main,
    shares_of,
)


def as_process(monkeypatch: pytest.MonkeyPatch, rank: int, processes: int) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    monkeypatch.setenv("RANK", str(rank))


def test_alone_everything_gives_back_what_it_got(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("RANK", "3")  # some launchers set it for single processes too
    assert (num_processes(), process_rank(), is_main()) == (1, 0, True)
    rows = torch.ones(2, 3, requires_grad=True)
    assert all_gather(rows) is rows
    assert all_gather_with_gradient(rows) is rows
    assert all_reduce_sum(rows) is rows

    def asked() -> bool:
        return True

    def failing() -> None:
        raise LavitError("as it is")

    assert any_process(asked) is asked
    assert on_main(lambda: 5) == 5
    with pytest.raises(LavitError, match="as it is"):
        on_main(failing)


@pytest.mark.parametrize(("processes", "passes", "count"), [(1, 1, 5), (2, 1, 5), (3, 2, 17), (4, 3, 12)])
def test_shares_cover_every_row_once_and_passes_are_neighbours(
    monkeypatch: pytest.MonkeyPatch, processes: int, passes: int, count: int
) -> None:
    shares = []
    for rank in range(processes):
        as_process(monkeypatch, rank, processes)
        shares.append(shares_of(count, setting="batch_size", passes=passes))
    rows = [list(range(count))[shares[rank][at]] for at in range(passes) for rank in range(processes)]
    assert [row for part in rows for row in part] == list(range(count))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_too_few_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    as_process(monkeypatch, 1, 4)
    with pytest.raises(UsageError, match=r"setting batch_size: 7, expected .* 4 processes in each of 2 passes"):
        shares_of(7, setting="batch_size", passes=2)


def test_a_run_that_only_works_along_writes_nothing(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path, writes=False)
    run.log({"step": 1, "loss": 2.0})
    run.warn([Diagnostic(kind="loud", message="look")], step=1, phase="train")
    run.rewind(0)
    run.finish({})
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""
