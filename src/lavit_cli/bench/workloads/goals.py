"""Goals that depend on what the hardware gains from bf16."""

from lavit_cli.bench.comparison import BenchSettings

BF16_GAIN = 4.8
"""How many times as fast as torch's fp32 products those in bf16 are on the machine that the goals were set on: an AMD
EPYC whose AVX-512 units are 512 bits wide, one thread."""


def goal_here(goal: float, settings: BenchSettings) -> float:
    """Return a goal of a bf16 arm, less on a CPU whose bf16 products gain less than on the machine it was set on."""
    if settings.device != "cpu" or not settings.speeds:
        return goal
    return round(goal * min(1.0, settings.speeds["bf16"] / settings.speeds["fp32 torch"] / BF16_GAIN), 2)
