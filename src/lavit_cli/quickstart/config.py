"""Settings of `lavit quickstart`: which preset, how much data, and what each step changes of its own preset."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lavit_core.config import Config, load_preset, resolve
from pydantic import Field

Overrides = dict[str, Any]


class QuickstartConfig(Config):
    """Settings of `lavit quickstart`; those of a step are merged over that command's own preset."""

    preset: str = "tiny"
    """Preset of every step's command."""
    images: int = Field(20_000, ge=16)
    """Training images to draw (without --data)."""
    heldout_images: int = Field(1024, ge=16)
    """Held-out images to draw (without --data)."""
    drawing: Overrides = Field(default_factory=dict)
    """Options of make-shapes that differ from its defaults: image_px, more_shapes, textures (without --data)."""
    heldout_share: float = Field(0.1, gt=0, lt=1)
    """Share of your own images that no step trains on (with --data)."""
    encoder: Overrides = Field(default_factory=dict)
    """Settings of train-encoder."""
    tokenizer: Overrides = Field(default_factory=dict)
    """Settings of train-tokenizer."""
    tokens: Overrides = Field(default_factory=dict)
    """Settings of tokenize-images."""
    pretrain: Overrides = Field(default_factory=dict)
    """Settings of pretrain."""
    blind: Overrides = Field(default_factory=dict)
    """Settings of the same model trained without images, merged over those of pretrain."""
    detokenizer: Overrides = Field(default_factory=dict)
    """Settings of train-detokenizer."""
    evaluation: Overrides = Field(default_factory=dict)
    """Settings of eval shapes."""
    tokenizer_evaluation: Overrides = Field(default_factory=dict)
    """Settings of eval tokenizer."""
    evaluation_precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of both evaluations (auto: bf16 where the device computes it, else fp32)."""


def plan(
    *, preset: str, config: Sequence[Path] | None = None, sets: Sequence[str] | None = None, images: int | None = None
) -> QuickstartConfig:
    """Resolve the settings: shipped preset, then YAML files, then `--set step.key=value`. Raises UsageError."""
    shipped = {"preset": preset, **load_preset("lavit_cli", "quickstart", preset)}
    return resolve(QuickstartConfig, preset=shipped, file=config, sets=sets, flags={"images": images})
