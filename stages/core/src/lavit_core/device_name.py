"""The values of `--device` and `--precision`; trainkit turns them into torch devices and dtypes."""

from lavit_core.errors import UsageError


def check_device_name(device: str) -> None:
    """Raise UsageError for anything but "auto", "cpu", "cuda" and "cuda:N"."""
    if device not in ("auto", "cpu", "cuda") and not device.removeprefix("cuda:").isdecimal():
        raise UsageError(f"--device {device}: expected auto, cpu, cuda or cuda:N")


def check_precision_name(precision: str) -> None:
    """Raise UsageError for anything but "auto", "fp32" and "bf16"."""
    if precision not in ("auto", "fp32", "bf16"):
        raise UsageError(f"--precision {precision}: expected auto, fp32 or bf16")
