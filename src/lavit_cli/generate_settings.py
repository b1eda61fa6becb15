"""Settings of `lavit generate` that belong to no stage. Never imports torch."""

from pathlib import Path

from lavit_core.config import Config, load_preset, resolve
from lavit_core.errors import UsageError
from pydantic import Field


class GenerateSettings(Config):
    """What is drawn with, and how many to choose from."""

    highres: bool = False
    """Draw with detokenizer-highres/ (imported weights: SDXL)."""
    best_of: int = Field(default=1, ge=1)
    """Candidates of each picture; kept is the one that a CLIP finds nearest to the text (released FID figures: 4)."""


def generate_settings(
    preset: str, *, highres: bool | None, best_of: int | None, clip: Path | None, text: str
) -> GenerateSettings:
    """Return the preset's settings with those given. Raises UsageError for best-of without a CLIP or a text."""
    flags = {"highres": highres, "best_of": best_of}
    settings = resolve(GenerateSettings, preset=load_preset("lavit_cli", "generate", preset), flags=flags)
    if settings.best_of > 1 and clip is None:
        by = "" if best_of else f" of preset {preset}"
        raise UsageError(
            f"best of {settings.best_of}{by} needs a CLIP to choose by: give --clip DIR (transformers), or --best-of 1"
        )
    if settings.best_of > 1 and not text.strip():
        raise UsageError(f"best of {settings.best_of} compares pictures with the prompt's text, and there is none")
    if settings.best_of == 1 and clip is not None:
        raise UsageError("--clip chooses among candidates: give --best-of N too, say --best-of 4")
    return settings
