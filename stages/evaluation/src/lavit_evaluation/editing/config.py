"""Settings of the editing benchmarks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lavit_core.config import Config
from pydantic import Field


class EditScoreConfig(Config):
    """How edited pictures are compared with their targets; the defaults are those of MagicBrush's script."""

    turns: Literal["both", "single", "multi"] = "both"
    """MagicBrush's settings: single-turn (all_turn), multi-turn (final_turn, each_turn), or both."""
    descriptions: Literal["local", "global"] = "local"
    """What CLIP-T compares with: local_descriptions.json (the official command line) or global_descriptions.json."""
    size: int | None = Field(None, ge=11)
    """Side in pixels that both pictures are squashed to before L1, L2, SSIM and LPIPS; null: the target's own size."""
    any_lpips: bool = False
    """Take other LPIPS weights than the published; the figure is then named lpips_other."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Local weights that metrics need; a metric without them is skipped."""

    clip: Path | None = None
    """Transformers directory of a CLIP (the official script: ViT-B/32)."""
    dino: Path | None = None
    """Transformers directory of DINO's ViT (the official script: ViT-S/16)."""
    lpips_trunk: Path | None = None
    """torchvision's alexnet-owt-7be5be79.pth or vgg16-397923af.pth."""
    lpips_heads: Path | None = None
    """lpips' weights/v0.1/alex.pth or vgg.pth."""
