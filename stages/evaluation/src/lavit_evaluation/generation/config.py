"""Settings of the generation benchmarks."""

from typing import Any

from pydantic import Field

from lavit_evaluation.drawing_settings import PresetDrawing


class GenerationConfig(PresetDrawing):
    """Settings of a benchmark that has images drawn from its prompts, for a judge elsewhere."""

    images_per_prompt: int | None = Field(None, ge=1)
    """Images of each prompt (None: as many as the benchmark's own scripts draw)."""
    limit: int | None = Field(None, ge=1)
    """Only so many prompts, drawn by the seed (T2I-CompBench: the first); the set is then marked incomplete."""

    @property
    def drawing(self) -> dict[str, Any]:
        """What the images depend on beside model and prompts."""
        return self.model_dump(mode="json")
