"""Settings of `lavit generate`: what is drawn with, how many candidates, and those of `lavit sample` and `lavit
detokenize`. Never imports torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lavit_core.command import CommonOptions, settings_of
from lavit_core.config import Config, load_preset
from lavit_core.errors import UsageError
from lavit_detokenizer.config import DrawSettings
from lavit_pretrain.config import SampleSettings
from pydantic import Field


class GenerateSettings(Config):
    """How a prompt becomes an image."""

    highres: bool = False
    """Draw with detokenizer-highres/ (imported weights: SDXL)."""
    best_of: int = Field(default=1, ge=1)
    """Candidates of each image, of which one is kept (released FID: 4)."""
    rerank_by: Literal["clip", "likelihood"] = "clip"
    """How the kept candidate is chosen: `clip`, the nearest to the text by a CLIP model (released); `likelihood`, the
    one after which the language model itself finds the text most likely."""
    sample: SampleSettings = SampleSettings()
    """How codes are drawn, as in `lavit sample`."""
    draw: DrawSettings = DrawSettings()
    """How pixels are drawn, as in `lavit detokenize`."""


def generate_settings(common: CommonOptions, flags: Mapping[str, Any]) -> GenerateSettings:
    """Return the settings of the preset and those given. Raises UsageError."""
    preset = str(common.preset)
    shipped = {
        **load_preset("lavit_cli", "generate", preset),
        "sample": load_preset("lavit_pretrain", "sample", preset),
        "draw": load_preset("lavit_detokenizer", "detokenize", preset),
    }
    return settings_of(common, GenerateSettings, shipped, flags)


def check_reranking(settings: GenerateSettings, clip: Path | None, text: str, preset: str | None) -> None:
    """Check that candidates can be compared. Raises UsageError if the CLIP model or the text for it is missing."""
    if clip is not None and settings.rerank_by != "clip":
        raise UsageError("--rerank-clip-model and --rerank-by likelihood: give one of them")
    if settings.best_of == 1:
        if clip is not None:
            raise UsageError("--rerank-clip-model chooses among candidates: give --best-of N too, say --best-of 4")
        return
    if settings.rerank_by == "clip" and clip is None:
        raise UsageError(
            f"best of {settings.best_of} (preset {preset}) needs a CLIP model to choose by: give --rerank-clip-model "
            "DIR (transformers), --rerank-by likelihood (the model's own), or --best-of 1"
        )
    if not text.strip():
        raise UsageError(f"best of {settings.best_of} compares images with the text of the prompt, which has no text")
