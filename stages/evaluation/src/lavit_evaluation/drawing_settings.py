"""How a benchmark's images are drawn: the presets of `lavit sample` and `lavit detokenize`, and what changes them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lavit_core.config import Config, load_preset, resolve
from lavit_core.distributions import require_stages
from pydantic import Field


class PresetDrawing(Config):
    """Settings of a benchmark that draws as `lavit generate` does."""

    sample: dict[str, Any] = Field(default_factory=dict)
    """How codes are drawn: settings of `lavit sample`, the preset's and those changed."""
    draw: dict[str, Any] = Field(default_factory=dict)
    """How pixels are drawn: settings of `lavit detokenize`."""


C = TypeVar("C", bound=PresetDrawing)


def resolve_drawing(
    kind: type[C], model: Path, preset: str, *, file: Sequence[Path] | Path | None, sets: Sequence[str] | None,
    flags: Mapping[str, Any],
) -> C:  # fmt: skip
    """Return settings: the presets of both commands, then what is given.

    Raises UsageError, and InputError when a stage is not installed.
    """
    with require_stages(f"running {model}"):
        from lavit_detokenizer.api import DrawSettings
        from lavit_pretrain.api import SampleSettings

        shipped = {
            "sample": load_preset("lavit_pretrain", "sample", preset),
            "draw": load_preset("lavit_detokenizer", "detokenize", preset),
        }
    config = resolve(kind, preset=shipped, file=file, sets=sets, flags=flags)
    # Settings that are none would otherwise be found after the run directory has recorded them.
    resolve(SampleSettings, flags=config.sample)
    resolve(DrawSettings, flags=config.draw)
    return config
