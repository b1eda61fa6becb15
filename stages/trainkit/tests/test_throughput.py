"""Speed of a job, and the peak of its memory."""

import pytest
import torch
from lavit_core.peak_memory import peak_resident_bytes
from lavit_core.rundir import TIMING_KEYS
from lavit_trainkit import throughput
from lavit_trainkit.throughput import Meter


def test_units_are_counted_over_wall_time(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = iter([10.0, 14.0, 14.0, 14.0, 14.0])
    monkeypatch.setattr(throughput.time, "monotonic", lambda: next(wall))
    meter = Meter()
    meter.count(6)
    meter.count(4)
    assert meter.speed() == {"seconds": 4.0, "per_second": 2.5}
    assert meter.summary().keys() == TIMING_KEYS  # so that no test compares them between runs


def test_peak_memory_sees_what_was_allocated() -> None:
    before = peak_resident_bytes()
    taken = torch.ones(before // 4 + (1 << 24))  # four bytes each: more than all that was held before
    assert peak_resident_bytes() >= taken.nbytes
