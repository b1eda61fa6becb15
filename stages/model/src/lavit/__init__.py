"""A LaVIT model as one Python object: `from lavit import LaVIT`. Importing this package does not import torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lavit_core.distributions import require_stages

from lavit.images import ImageLike
from lavit.model import LaVIT
from lavit.prompts import PromptLike
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
    "PromptLike",
    "SampleSettings",
]


SETTINGS = {
    "Beams": "lavit_pretrain.beam_search",
    "DrawSettings": "lavit_detokenizer.config",
    "SampleSettings": "lavit_pretrain.config",
}
"""Names that are imported from stages when they are first used: those stages may be missing."""


def __getattr__(name: str) -> Any:
    if name not in SETTINGS:
        raise AttributeError(f"module 'lavit' has no attribute {name!r}")
    with require_stages(f"lavit.{name}"):
        return getattr(import_module(SETTINGS[name]), name)
