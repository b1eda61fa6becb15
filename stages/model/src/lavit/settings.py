"""Settings of sampling and drawing: a preset of the stage, with the values given. Never imports torch."""

from collections.abc import Iterable, Sequence
from numbers import Integral
from operator import index
from typing import TYPE_CHECKING, Any

from lavit_core.config import load_preset, resolve
from lavit_core.errors import UsageError

if TYPE_CHECKING:
    from lavit_detokenizer.api import DrawSettings
    from lavit_pretrain.api import SampleSettings


def sample_settings(preset: str, **given: Any) -> "SampleSettings":
    """Return how codes are drawn: the preset of `lavit sample`, with the values given (None: not given).

    A guidance scale that is given holds for prompts with images too. Raises UsageError for an unknown preset or value.
    """
    from lavit_pretrain.config import SampleSettings

    given["image_guidance_scale"] = given.get("guidance_scale")
    return resolve(SampleSettings, preset=load_preset("lavit_pretrain", "sample", preset), flags=given)


def draw_settings(preset: str, **given: Any) -> "DrawSettings":
    """Return how pixels are drawn: the preset of `lavit detokenize`, with the values given (None: not given).

    Raises UsageError for an unknown preset or value.
    """
    from lavit_detokenizer.config import DrawSettings

    return resolve(DrawSettings, preset=load_preset("lavit_detokenizer", "detokenize", preset), flags=given)


def seed_list(seeds: int | Sequence[int] | None, count: int) -> list[int]:
    """Return one seed an image: those given, or `seeds`, `seeds + 1`, ... from a number (None: from 0).

    Raises UsageError for another number of seeds than of images, and for anything but integers.
    """
    single = seeds is None or not isinstance(seeds, Iterable)
    try:
        if single or getattr(seeds, "ndim", 1) == 0:
            first = index(0 if seeds is None else seeds)  # type: ignore[arg-type]
            return list(range(first, first + count))
        listed = [index(seed) for seed in seeds]  # type: ignore[union-attr]
    except TypeError:
        raise UsageError(f"seeds: found {seeds!r}, expected one integer, or one an image") from None
    if len(listed) != count:
        raise UsageError(f"seeds: found {len(listed)}, expected {count}, one an image")
    return listed


def check_positive(**numbers: Any) -> None:
    """Raise UsageError for a number that is not an integer of at least 1."""
    for name, value in numbers.items():
        if not isinstance(value, Integral) or value < 1:
            raise UsageError(f"{name}: found {value!r}, expected an integer of at least 1")
