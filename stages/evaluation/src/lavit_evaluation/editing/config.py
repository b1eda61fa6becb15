"""Settings of the editing benchmarks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lavit_core.config import Config, load_preset, resolve
from lavit_core.distributions import require_stages
from pydantic import Field


class EditScoreConfig(Config):
    """How edited images are compared with their targets; the defaults are those of MagicBrush's script."""

    turns: Literal["both", "single", "multi"] = "both"
    """MagicBrush's settings: single-turn (all_turn), multi-turn (final_turn, each_turn), or both."""
    descriptions: Literal["local", "global"] = "local"
    """What CLIP-T compares with: local_descriptions.json (the official command line) or global_descriptions.json."""
    size: int | None = Field(None, ge=11)
    """Side in pixels that both images are squashed to before L1, L2, SSIM and LPIPS; null: the target's own size."""
    any_lpips: bool = False
    """Take other LPIPS weights than the published; the metric is then named lpips_other."""


class EditRunConfig(EditScoreConfig):
    """Settings of an editing benchmark that is run with a model."""

    sample: dict[str, Any] = Field(default_factory=dict)
    """How codes are drawn: settings of `lavit sample`, the preset's and those changed."""
    draw: dict[str, Any] = Field(default_factory=dict)
    """How pixels are drawn: settings of `lavit detokenize`."""
    limit: int | None = Field(None, ge=1)
    """Only so many sessions (MA5k-Req: input images), drawn by the seed; the score is then marked partial."""

    @property
    def drawing(self) -> dict[str, Any]:
        """What the images depend on."""
        return self.model_dump(mode="json", include={"turns", "sample", "draw", "limit"})

    @property
    def scoring(self) -> EditScoreConfig:
        """What the score depends on, without how the images were made."""
        return EditScoreConfig(**{name: getattr(self, name) for name in EditScoreConfig.model_fields})


def resolve_run(
    model: Path, preset: str, *, file: Sequence[Path] | Path | None, sets: Sequence[str] | None, limit: int | None
) -> EditRunConfig:
    """Return the settings of a run: the presets of `lavit sample` and `lavit detokenize`, then what is given.

    Raises UsageError, and InputError when a stage is not installed.
    """
    with require_stages(f"running {model}"):
        from lavit_detokenizer.api import DrawSettings
        from lavit_pretrain.api import SampleSettings

        shipped = {
            "sample": load_preset("lavit_pretrain", "sample", preset),
            "draw": load_preset("lavit_detokenizer", "detokenize", preset),
        }
    config = resolve(EditRunConfig, preset=shipped, file=file, sets=sets, flags={"limit": limit})
    # Settings that are none would otherwise be found after the run directory has recorded them.
    resolve(SampleSettings, flags=config.sample)
    resolve(DrawSettings, flags=config.draw)
    return config
