"""What the routes share: the model with its batches, and checks of what requests ask for."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from lavit import DrawSettings, LaVIT
from lavit_core.config import Config
from pydantic import Field

from lavit_serve.batcher import Batcher
from lavit_serve.config import ServeSettings
from lavit_serve.errors import ApiError
from lavit_serve.images import ImageReader
from lavit_serve.metrics import Metrics, new_metrics
from lavit_serve.work import compute

LARGEST_SEED = (1 << 63) - 1

Seed = Annotated[int, Field(ge=-LARGEST_SEED, le=LARGEST_SEED)]
Scale = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
Prompt = Annotated[str, Field(max_length=32_000)]


class DrawRequest(Config):
    """Fields of every request that draws images. Those that OpenAI does not have go in a client's `extra_body`."""

    model: str | None = None
    """Name of the model; no other is served."""
    n: int = Field(default=1, ge=1, le=1000)
    """Number of images."""
    size: str | None = None
    """WIDTHxHEIGHT that the model draws, or auto."""
    response_format: str | None = Field(default=None, pattern="^b64_json$")
    """b64_json: nothing is kept here that an address could lead to."""
    output_format: str | None = Field(default=None, pattern="^png$")
    """png."""
    seed: Seed | None = None
    """Seed of the first image; the next ones have the next seeds. Without it they begin at the server's --seed."""
    decoder_guidance_scale: Scale | None = None
    """Pull of the codes on the pixels."""
    num_steps: int | None = Field(default=None, ge=1, le=10_000)
    """Denoising steps."""
    user: str | None = None
    """Not used."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """One model, loaded, and what computes on it."""

    model: LaVIT
    folder: Path
    """The model directory: clients are not told of it."""
    settings: ServeSettings
    batcher: Batcher
    reader: ImageReader
    metrics: Metrics
    seed: int
    """Seed of the first image of a request that gives none."""
    sizes: list[str]
    """WIDTHxHEIGHT in pixels of the images that the model draws; the first is the default."""

    def check_model(self, name: str | None) -> None:
        """Raise ApiError for the name of another model."""
        if name not in (None, self.settings.name):
            message = f"this server has the model {self.settings.name!r} only"
            raise ApiError(404, message, param="model", code="model_not_found")

    def check_count(self, count: int, param: str) -> None:
        """Raise ApiError for more images than a request may have."""
        if count > self.settings.max_images:
            message = f"{param}: found {count}, expected at most {self.settings.max_images} images a request"
            raise ApiError(400, message, param=param)

    def seeds_of(self, request: DrawRequest) -> list[int]:
        """Return one seed an image."""
        first = self.seed if request.seed is None else request.seed
        return list(range(first, first + request.n))

    def drawing_of(self, request: DrawRequest) -> DrawSettings:
        """Return how the detokenizer draws a request's images. Raises ApiError, UsageError."""
        size = self.sizes[0] if request.size in (None, "auto") else request.size
        if size not in self.sizes:
            raise ApiError(400, f"size: expected auto or one of {', '.join(self.sizes)}", param="size")
        return self.model.draw_settings(
            aspect_ratio="1:1",  # where the model's own settings have another
            size=size,
            guidance_scale=request.decoder_guidance_scale,
            num_steps=request.num_steps,
            batch_size=self.settings.max_batch,
        )


def new_service(model: LaVIT, folder: Path, settings: ServeSettings, *, seed: int = 0) -> Service:
    """Return a service of the model that `folder` holds; its batcher is not started yet."""
    metrics = new_metrics()
    batcher = Batcher(
        partial(compute, model, max_rows=settings.max_batch),
        max_rows=settings.max_batch,
        wait_seconds=settings.batch_wait_seconds,
        observe=metrics.batch_rows.observe,
        observe_waiting=metrics.waiting.set,
    )
    return Service(
        model=model,
        folder=folder,
        settings=settings,
        batcher=batcher,
        reader=ImageReader(image_px=model.image_px, max_pixels=settings.max_pixels),
        metrics=metrics,
        seed=seed,
        sizes=_sizes(model),
    )


def _sizes(model: LaVIT) -> list[str]:
    return [f"{width}x{height}" for height, width in dict.fromkeys([model.draw_size(), *model.draw_sizes()])]
