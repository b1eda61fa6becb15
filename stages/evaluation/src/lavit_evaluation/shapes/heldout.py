"""Held-out data as the scorers see it: pictures with their questions and, for drawn ones, their scenes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lavit_core.data import Data, Question
from lavit_core.errors import InputError
from lavit_core.files import file_sha256
from lavit_core.images import open_rgb, square_pixels
from lavit_core.json_lines import iterate_json_lines
from lavit_core.seeds import derive_seed


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One row of scenes.jsonl: what was drawn, and the canonical prompt that says it."""

    key: str
    """The picture's file name, as in captions.jsonl and in token files."""
    combination: str
    """"seen" when training shows every (colour, shape) pair of the picture, else "unseen"."""
    objects: tuple[dict[str, Any], ...]
    """shape, colour, size, x, y, radius of each object; lengths in pixels of the picture."""
    prompt: str
    """The canonical caption."""


def read_scenes(data: Data) -> dict[str, Scene]:
    """Return the scenes by key; empty when the data has none (it was not drawn). Raises InputError on a broken row."""
    file = data.root / "scenes.jsonl"
    scenes: dict[str, Scene] = {}
    for number, row in iterate_json_lines(file) if file.exists() else ():
        try:
            scenes[row["file_name"]] = Scene(
                key=row["file_name"],
                combination=row["combination"],
                objects=tuple(row["objects"]),
                prompt=row["prompt"],
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"{file}:{number}: not a scene ({error}); expected file_name, combination, objects, "
                             "prompt as `lavit data make-shapes` writes them") from None  # fmt: skip
    return scenes


def scenes_digest(data: Data) -> str:
    """Return the SHA-256 of scenes.jsonl, or "" without one: the data's own digest does not cover it."""
    file = data.root / "scenes.jsonl"
    return file_sha256(file) if file.exists() else ""


def choose_pictures(data: Data, scenes: dict[str, Scene], count: int, seed: int) -> list[str]:
    """Return at most `count` keys in order, drawn by `seed`: half of them unseen combinations as far as they go."""
    keys = [record.key for record in data.records]
    order = np.random.default_rng(derive_seed(seed, "eval pictures")).permutation(len(keys))
    shuffled = [keys[index] for index in order]
    is_unseen = [key in scenes and scenes[key].combination == "unseen" for key in shuffled]
    unseen = [key for key, new in zip(shuffled, is_unseen, strict=True) if new]
    seen = [key for key, new in zip(shuffled, is_unseen, strict=True) if not new]
    take = min(len(unseen), max(count // 2, count - len(seen)))
    return sorted(unseen[:take] + seen[: count - take])


def choose_questions(questions: Sequence[Question], count: int, seed: int) -> list[Question]:
    """Return at most `count` questions in file order, drawn by `seed`."""
    order = np.random.default_rng(derive_seed(seed, "eval questions")).permutation(len(questions))
    return [questions[index] for index in sorted(order[:count])]


def read_pixels(data: Data, keys: Sequence[str], image_px: int) -> np.ndarray:
    """Return pictures uint8 [N, px, px, 3]. Raises InputError naming one that can't be read."""
    wanted = set(keys)
    paths = {record.key: record.path for record in data.records if record.key in wanted}
    pictures = {key: square_pixels(paths[key], image_px) for key in dict.fromkeys(keys)}
    return np.stack([pictures[key] for key in keys])


@dataclass(frozen=True, kw_only=True)
class Heldout:
    """The part of the held-out data that is evaluated."""

    data: Data
    scenes: dict[str, Scene]
    """By key; empty when the pictures were not drawn by a generator that tells."""
    keys: list[str]
    """Pictures that are captioned, reconstructed and drawn from their prompt."""
    pixels: np.ndarray
    """Those pictures, uint8 [N, px, px, 3]."""
    token_keys: list[str]
    """Pictures over which codes and kept patches are counted."""
    questions: list[Question]
    """Questions that are asked."""
    scene_px: int
    """Side of the stored pictures, in whose pixels scenes are measured."""

    @property
    def drawn(self) -> list[Scene]:
        """The scene of each chosen picture."""
        return [self.scenes[key] for key in self.keys]


def open_heldout(
    data: Data, *, image_px: int, num_pictures: int, num_token_pictures: int, num_questions: int, seed: int
) -> Heldout:
    """Choose and read what is evaluated. Raises InputError when some pictures have a scene and others have none."""
    scenes = read_scenes(data)
    without = [record.key for record in data.records if record.key not in scenes]
    if scenes and without:
        raise InputError(
            f"{data.root / 'scenes.jsonl'}: no scene for {without[0]} (and {len(without) - 1} more pictures)"
        )
    keys = choose_pictures(data, scenes, num_pictures, seed)
    return Heldout(
        data=data,
        scenes=scenes,
        keys=keys,
        pixels=read_pixels(data, keys, image_px),
        token_keys=choose_pictures(data, scenes, num_token_pictures, seed),
        questions=choose_questions(data.questions, num_questions, seed),
        scene_px=open_rgb(data.records[0].path).width,
    )
