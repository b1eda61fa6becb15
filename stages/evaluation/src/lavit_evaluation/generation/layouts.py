"""Where a benchmark's own judge looks for images: their names, how many of a prompt share a file, and what lies beside.

GenEval     00000/samples/0000.png ... 0003.png and 00000/metadata.jsonl, the prompt's row (README of djghosh13/geneval)
DPG-Bench   <item_id>.png, four images in a square, row by row (crops of compute_dpg_bench.py of TencentQQGYLab/ELLA)
WISE        <prompt_id>.png (gpt_eval.py of PKU-YuanGroup/WISE)
T2I-CompBench  samples/<prompt>_000000.png ..., numbered over all prompts (its inference_eval.py)
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lavit_core.errors import InputError, UsageError

from lavit_evaluation.generation.prompt_files import Prompt

LONGEST_NAME = 250
"""Bytes of a file name that every file system takes."""


@dataclass(frozen=True, kw_only=True)
class DrawnFile:
    """One image file of a benchmark's layout."""

    name: str
    """Its path below the folder of images."""
    cells: tuple[str, ...]
    """The images in it, by the names that their seeds come from; several are laid out in rows of two."""
    text: str
    """What all of them are drawn from."""


FilesOf = Callable[[Prompt, int], list[DrawnFile]]
"""The image files of a prompt, of so many images."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A benchmark's layout."""

    images_per_prompt: int
    """What the official scripts draw."""
    most: int | None
    """Images of a prompt that its judge can take at most."""
    files: FilesOf
    """Image files of a prompt, of so many images."""
    beside: Callable[[Prompt], Mapping[str, str]]
    """Other files that the judge reads: path -> content."""


def _geneval(prompt: Prompt, count: int) -> list[DrawnFile]:
    names = [f"{prompt.place:05d}/samples/{number:04d}.png" for number in range(count)]
    return [DrawnFile(name=name, cells=(name,), text=prompt.drawn) for name in names]


def _geneval_metadata(prompt: Prompt) -> dict[str, str]:
    # The official row, also where other words were drawn: the judge looks for its objects, scores are matched by it.
    return {f"{prompt.place:05d}/metadata.jsonl": json.dumps(prompt.row)}


def _dpg(prompt: Prompt, count: int) -> list[DrawnFile]:
    cells = tuple(f"{prompt.key}/{number}.png" for number in range(count))
    return [DrawnFile(name=f"{prompt.key}.png", cells=cells, text=prompt.drawn)]


def _wise(prompt: Prompt, count: int) -> list[DrawnFile]:
    name = f"{prompt.key}.png"
    return [DrawnFile(name=name, cells=(name,), text=prompt.drawn)]


def _t2i(prompt: Prompt, count: int) -> list[DrawnFile]:
    """Name files by the official words: the judges read the prompt from the name, up to its first underscore."""
    first = prompt.place * count
    names = [f"{prompt.text}_{first + number:06d}.png" for number in range(count)]
    if "/" in prompt.text or "_" in prompt.text or len(names[-1].encode()) > LONGEST_NAME:
        raise InputError(
            f"prompt {prompt.text!r}: expected no / and no _ and at most {LONGEST_NAME} bytes: the judges read it from "
            "the image's name"
        )
    return [DrawnFile(name=f"samples/{name}", cells=(name,), text=prompt.drawn) for name in names]


def _nothing(prompt: Prompt) -> dict[str, str]:
    return {}


LAYOUTS = {
    "geneval": Layout(images_per_prompt=4, most=None, files=_geneval, beside=_geneval_metadata),
    "dpg": Layout(images_per_prompt=4, most=4, files=_dpg, beside=_nothing),
    "wise": Layout(images_per_prompt=1, most=1, files=_wise, beside=_nothing),
    "t2i": Layout(images_per_prompt=10, most=None, files=_t2i, beside=_nothing),
}
LAYOUTS["t2i_complex"] = LAYOUTS["t2i"]


def images_of(kind: str, asked: int | None) -> int:
    """Return how many images of a prompt are drawn. Raises UsageError for more than the judge can take."""
    layout = LAYOUTS[kind]
    count = layout.images_per_prompt if asked is None else asked
    if layout.most is not None and count > layout.most:
        raise UsageError(f"images_per_prompt {count}: the judge of this benchmark takes at most {layout.most}")
    return count


def compose(cells: Sequence[Any]) -> np.ndarray:
    """Return images uint8 [h, w, 3] as one: alone, or in rows of two, black where the last is missing."""
    arrays = [np.asarray(one) for one in cells]
    if len(arrays) == 1:
        return arrays[0]
    height, width, colours = arrays[0].shape
    grid = np.zeros((height * ((len(arrays) + 1) // 2), width * 2, colours), dtype=np.uint8)
    for number, one in enumerate(arrays):
        top, left = number // 2 * height, number % 2 * width
        grid[top : top + height, left : left + width] = one
    return grid
