"""The words that --device takes."""

import pytest
from lavit_core.device_name import check_device_name
from lavit_core.errors import UsageError


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:11"])
def test_devices(device: str) -> None:
    check_device_name(device)


@pytest.mark.parametrize("device", ["", "gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "mps"])
def test_other_words_are_refused(device: str) -> None:
    with pytest.raises(UsageError, match=f"--device {device}: expected auto, cpu, cuda or cuda:N"):
        check_device_name(device)
