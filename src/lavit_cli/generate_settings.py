"""Settings of `lavit generate` that belong to no stage. Never imports torch."""

from pathlib import Path
from typing import Literal

from lavit_core.config import Config, load_preset, resolve
from lavit_core.errors import UsageError
from pydantic import Field

BestBy = Literal["clip", "reading"]


class GenerateSettings(Config):
    """What is drawn with, and how many to choose from."""

    highres: bool = False
    """Draw with detokenizer-highres/ (imported weights: SDXL)."""
    best_of: int = Field(default=1, ge=1)
    """Candidates of each picture, of which one is kept (released FID figures: 4)."""
    best_by: BestBy = "clip"
    """Who chooses: `clip`, the candidate that a CLIP finds nearest to the text (released); `reading`, the one after
    which the language model itself finds the text likeliest, when it reads the picture back."""


def generate_settings(
    preset: str, *, highres: bool | None, best_of: int | None, best_by: BestBy | None, clip: Path | None, text: str
) -> GenerateSettings:
    """Return the preset's settings with those given. Raises UsageError for best-of without a CLIP or a text."""
    flags = {"highres": highres, "best_of": best_of, "best_by": best_by or ("clip" if clip else None)}
    settings = resolve(GenerateSettings, preset=load_preset("lavit_cli", "generate", preset), flags=flags)
    if clip is not None and settings.best_by != "clip":
        raise UsageError("--clip and --best-by reading: give one of them")
    if settings.best_of > 1 and settings.best_by == "clip" and clip is None:
        by = "" if best_of else f" of preset {preset}"
        raise UsageError(
            f"best of {settings.best_of}{by} needs a CLIP to choose by: give --clip DIR (transformers), "
            "--best-by reading (the model's own), or --best-of 1"
        )
    if settings.best_of > 1 and not text.strip():
        raise UsageError(f"best of {settings.best_of} compares pictures with the prompt's text, and there is none")
    if settings.best_of == 1 and clip is not None:
        raise UsageError("--clip chooses among candidates: give --best-of N too, say --best-of 4")
    return settings
