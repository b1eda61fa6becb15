"""Images of an evaluation through a tokenizer and back to pixels: each answered once, whatever interrupts it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from lavit_core.data import Data
from lavit_core.images import squashed

from lavit_evaluation.config import DecodingConfig
from lavit_evaluation.evaluation_session import EvaluationSession
from lavit_evaluation.shapes.heldout import choose_images, image_seeds, read_pixels
from lavit_evaluation.tokenizing.tokenize import TokenizedImage, tokenize

if TYPE_CHECKING:
    from lavit import LaVIT


@dataclass(frozen=True, kw_only=True)
class Job:
    """One evaluation: whom it asks, about which images, and where answers are kept."""

    model: "LaVIT"
    data: Data
    keys: list[str]
    """Images that are tokenized."""
    decoding: DecodingConfig
    seed: int
    session: EvaluationSession

    def chosen(self, count: int) -> list[str]:
        """Return at most `count` of the keys, in order; fewer are always among more."""
        return choose_images(self.data, {}, min(count, len(self.keys)), self.seed)

    def pixels(self, keys: list[str], image_px: int) -> np.ndarray:
        """Return images uint8 [N, px, px, 3]."""
        return read_pixels(self.data, keys, image_px)


def tokenize_all(job: Job, *, selection: str | None = None) -> list[TokenizedImage]:
    """Return the images of a job as tokens; without `selection` the patches are chosen as the model does."""

    def answer(some: list[str]) -> list[dict[str, np.ndarray]]:
        pixels = job.pixels(some, job.model.image_px)
        return [vars(image) for image in tokenize(job.model.tokenizer, pixels, selection=selection)]

    rows = job.session.ask(
        {key: key for key in job.keys}, answer, job.session.array_store("tokens"), batch_size=job.decoding.batch_size,
        unit="image", part="tokens",
    )  # fmt: skip
    return [TokenizedImage(**row) for row in rows]


def draw_all(job: Job, codes: dict[str, tuple[str, np.ndarray]], part: str) -> np.ndarray:
    """Return the images drawn from (image key, codes) by name as squares, as the real ones are read, uint8
    [N, px, px, 3]; an image's seed is its key's."""
    changes = {"num_steps": job.decoding.decoder_steps, "guidance_scale": job.decoding.decoder_guidance}

    def answer(some: list[tuple[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        seeds = image_seeds([key for key, _ in some], "reconstruct", job.seed)
        images = job.model.decode([one for _, one in some], seeds, job.model.draw_settings(**changes))
        return [{"pixels": squashed(image)} for image in images]

    rows = job.session.ask(
        codes, answer, job.session.array_store(part), batch_size=job.decoding.batch_size, unit="image", part=part
    )  # fmt: skip
    return np.stack([row["pixels"] for row in rows])
