"""Devices and random streams."""

import pytest
import torch
from lavit_core.errors import UsageError
from lavit_trainkit.device import check_training_device, generator, pick_device


def test_streams_depend_on_their_purpose_only() -> None:
    first = torch.rand(3, generator=generator(0, "gumbel", 7))
    torch.rand(5)
    assert torch.equal(first, torch.rand(3, generator=generator(0, "gumbel", 7)))
    assert not torch.equal(first, torch.rand(3, generator=generator(0, "gumbel", 8)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_missing_device_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no CUDA device"):
        pick_device("cuda")
    with pytest.raises(UsageError, match="--device cuda:1: no CUDA device here; use --device cpu"):
        check_training_device("cuda:1")
