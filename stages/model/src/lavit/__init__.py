"""A LaVIT model as one Python object: `from lavit import LaVIT`. Importing this package does not import torch."""

from typing import TYPE_CHECKING, Any

from lavit.images import ImageLike
from lavit.model import LaVIT
from lavit.prompts import Prompt
from lavit.steps import GenerationStep
from lavit.tokens import ImageTokens

if TYPE_CHECKING:
    from lavit_detokenizer.api import DrawSettings
    from lavit_pretrain.api import Beams, SampleSettings

__version__ = "0.1.0"

__all__ = [
    "Beams",
    "DrawSettings",
    "GenerationStep",
    "ImageLike",
    "ImageTokens",
    "LaVIT",
    "Prompt",
    "SampleSettings",
]


def __getattr__(name: str) -> Any:
    """Import the settings of the stages when they are first used: those stages may be missing."""
    from lavit_core.distributions import require_stages

    if name == "DrawSettings":
        with require_stages("lavit.DrawSettings"):
            from lavit_detokenizer.config import DrawSettings
        return DrawSettings
    if name in ("Beams", "SampleSettings"):
        with require_stages(f"lavit.{name}"):
            from lavit_pretrain import api
        return getattr(api, name)
    raise AttributeError(f"module 'lavit' has no attribute {name!r}")
