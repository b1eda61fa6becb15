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
    """Candidates of each image, of which one is kept (released FID figures: 4)."""
    best_by: BestBy = "clip"
    """Who chooses: `clip`, the candidate that a CLIP finds nearest to the text (released); `reading`, the one after
    which the language model itself finds the text likeliest, when it reads the image back."""


def generate_settings(
    preset: str, *, highres: bool | None, best_of: int | None, best_by: BestBy | None, clip: Path | None
) -> GenerateSettings:
    """Return the preset's settings with those given. Raises UsageError if `best_by` is reading and there is a CLIP."""
    flags = {"highres": highres, "best_of": best_of, "best_by": best_by or ("clip" if clip else None)}
    settings = resolve(GenerateSettings, preset=load_preset("lavit_cli", "generate", preset), flags=flags)
    if settings.best_of > 1 and settings.best_by == "clip" and clip is None and not best_of:
        raise UsageError(f"best of {settings.best_of} of preset {preset} {NEEDS_CLIP}")
    return settings


NEEDS_CLIP = (
    "needs a CLIP to choose by: give --clip DIR (transformers), --best-by reading (the model's own), or --best-of 1"
)


def check_best_of(settings: GenerateSettings, clip: Path | None, text: str) -> None:
    """Refuse settings that do not go with a CLIP or a prompt's text. Raises UsageError."""
    if clip is not None and settings.best_by != "clip":
        raise UsageError("--clip and --best-by reading: give one of them")
    if settings.best_of > 1 and settings.best_by == "clip" and clip is None:
        raise UsageError(f"best of {settings.best_of} {NEEDS_CLIP}")
    if settings.best_of > 1 and not text.strip():
        raise UsageError(f"best of {settings.best_of} compares pictures with the prompt's text, and there is none")
    if settings.best_of == 1 and clip is not None:
        raise UsageError("--clip chooses among candidates: give --best-of N too, say --best-of 4")
