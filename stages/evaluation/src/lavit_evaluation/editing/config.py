"""Settings of the editing benchmarks."""

from typing import Any, Literal

from lavit_core.config import Config
from pydantic import Field

from lavit_evaluation.drawing_settings import PresetDrawing


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


class EditRunConfig(PresetDrawing, EditScoreConfig):
    """Settings of an editing benchmark that is run with a model."""

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
