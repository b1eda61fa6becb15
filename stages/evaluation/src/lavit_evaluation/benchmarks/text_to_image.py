"""Images that a benchmark has a model draw: a folder with one PNG a prompt, which a killed job goes on filling.

The folder is what `fid --generated` and `clip-score` read: images, and captions.jsonl once all of them are there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from lavit_core.json_lines import write_json_lines
from lavit_core.seeds import derive_seed

from lavit_evaluation.evaluation_session import EvaluationSession
from lavit_evaluation.stores import ImageFolder

P = TypeVar("P")
"""What an image is drawn from: a text, or texts and images in the order in which they are read."""

Draw = Callable[[Sequence[P], Sequence[int]], Iterable[np.ndarray]]
"""Prompts and one seed each -> images (PIL, or uint8 [h, w, 3]); each depends on its own prompt and seed alone."""


def draw_images(
    session: EvaluationSession, folder: Path, prompts: Mapping[str, P], draw: Draw[P], *, seed: int, batch_size: int,
    part: str = "",
) -> None:  # fmt: skip
    """Draw each prompt into `folder` under its name (`000001.png`); images that are there are kept.

    An image's seed comes from `seed` and its name, not from its batch. `draw` is not called when nothing is missing.
    Raises Interrupted at a stop signal.
    """
    items = {name: (prompt, image_seed(seed, name)) for name, prompt in prompts.items()}

    def answer(batch: list[tuple[P, int]]) -> Iterable[np.ndarray]:
        return draw([prompt for prompt, _ in batch], [own for _, own in batch])

    session.ask(items, answer, ImageFolder(folder), batch_size=batch_size, unit="image", part=part)


def image_seed(seed: int, name: str) -> int:
    """Return the seed of the image `name`."""
    return derive_seed(seed, "drawn picture", name)


def write_captions(folder: Path, captions: Mapping[str, str], more: Mapping[str, Mapping[str, object]]) -> None:
    """Write captions.jsonl: the file of each image, the text it was drawn from, and the fields of `more`."""
    rows = ({"file_name": name, "captions": [text], **more.get(name, {})} for name, text in captions.items())
    write_json_lines(folder / "captions.jsonl", rows)
