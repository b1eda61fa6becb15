"""Held-out data as the scorers see it: images with their questions and, for rendered ones, their scenes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from lavit_core.data import Data, Question
from lavit_core.errors import InputError
from lavit_core.files import file_sha256
from lavit_core.images import open_rgb, square_pixels
from lavit_core.seeds import derive_seed
from lavit_shapes.scenes import Scene, read_scenes

from lavit_evaluation.benchmarks.items import sample_items


def scenes_of(data: Data) -> dict[str, Scene]:
    """Return the scenes of a data set by key; empty when it has none. Raises InputError on a broken row."""
    file = data.root / "scenes.jsonl"
    return read_scenes(file) if file.exists() else {}


def scenes_digest(data: Data) -> str:
    """Return the SHA-256 of scenes.jsonl, or "" without one: the data's own digest does not cover it."""
    file = data.root / "scenes.jsonl"
    return file_sha256(file) if file.exists() else ""


def choose_images(data: Data, scenes: dict[str, Scene], count: int, seed: int) -> list[str]:
    """Return at most `count` keys in order, drawn by `seed`: half of them unseen combinations as far as they go."""
    keys = [record.key for record in data.records]
    order = np.random.default_rng(derive_seed(seed, "eval pictures")).permutation(len(keys))
    shuffled = [keys[index] for index in order]
    is_unseen = [key in scenes and scenes[key].combination == "unseen" for key in shuffled]
    unseen = [key for key, new in zip(shuffled, is_unseen, strict=True) if new]
    seen = [key for key, new in zip(shuffled, is_unseen, strict=True) if not new]
    take = min(len(unseen), max(count // 2, count - len(seen)))
    return sorted(unseen[:take] + seen[: count - take])


def image_seeds(keys: Sequence[str], purpose: str, seed: int) -> list[int]:
    """Return one seed an image, named by its key: a draw does not depend on which other images are drawn."""
    return [derive_seed(seed, purpose, key) for key in keys]


def read_pixels(data: Data, keys: Sequence[str], image_px: int) -> np.ndarray:
    """Return images uint8 [N, px, px, 3]. Raises InputError naming one that can't be read."""
    wanted = set(keys)
    paths = {record.key: record.image for record in data.records if record.key in wanted}
    images = {key: square_pixels(paths[key], image_px) for key in dict.fromkeys(keys)}
    return np.stack([images[key] for key in keys])


@dataclass(frozen=True, kw_only=True)
class Heldout:
    """The part of the held-out data that is evaluated."""

    data: Data
    scenes: dict[str, Scene]
    """By key; empty when the images were not rendered from scenes."""
    keys: list[str]
    """Images that are captioned, reconstructed and drawn from their prompt."""
    pixels: np.ndarray
    """Those images, uint8 [N, px, px, 3]."""
    token_keys: list[str]
    """Images over which codes and kept patches are counted."""
    questions: list[Question]
    """Questions that are asked; those about several images or none are not."""
    scene_px: int
    """Side of the stored images, in whose pixels scenes are measured."""

    @property
    def drawn(self) -> list[Scene]:
        """The scene of each chosen image."""
        return [self.scenes[key] for key in self.keys]


def open_heldout(
    data: Data, *, image_px: int, num_images: int, num_token_images: int, num_questions: int, seed: int
) -> Heldout:
    """Choose and read what is evaluated. Raises InputError if some images have a scene and others have not."""
    scenes = scenes_of(data)
    without = [record.key for record in data.records if record.key not in scenes]
    if scenes and without:
        raise InputError(
            f"{data.root / 'scenes.jsonl'}: no scene for {without[0]} (and {len(without) - 1} more images)"
        )
    keys = choose_images(data, scenes, num_images, seed)
    asked = [question for question in data.questions if question.num_images == 1]
    return Heldout(
        data=data,
        scenes=scenes,
        keys=keys,
        pixels=read_pixels(data, keys, image_px),
        token_keys=choose_images(data, scenes, num_token_images, seed),
        questions=sample_items(asked, num_questions, seed, "eval questions"),
        scene_px=open_rgb(data.records[0].image).width,
    )
