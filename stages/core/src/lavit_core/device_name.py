"""The values of `--device`; trainkit turns them into torch devices."""

from lavit_core.errors import UsageError


def check_device_name(device: str) -> None:
    """Raise UsageError for anything but "auto", "cpu", "cuda" and "cuda:N"."""
    if device not in ("auto", "cpu", "cuda") and not device.removeprefix("cuda:").isdecimal():
        raise UsageError(f"--device {device}: expected auto, cpu, cuda or cuda:N")
