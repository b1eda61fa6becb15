"""Settings of sampling and drawing: a preset of the stage, with the values given. Never imports torch."""

from collections.abc import Sequence
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

    Raises UsageError for another number of seeds than of images.
    """
    if seeds is None or isinstance(seeds, int):
        return list(range(seeds or 0, (seeds or 0) + count))
    listed = [int(seed) for seed in seeds]
    if len(listed) != count:
        raise UsageError(f"seeds: found {len(listed)}, expected {count}, one an image")
    return listed
