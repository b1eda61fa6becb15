"""The embedded data set: rendered images with captions and questions, in the layout any user can bring.

OUT/{train,heldout}/{images/*.png, captions.jsonl, questions.jsonl, scenes.jsonl}. Held-out images are new, and
half of them show a (colour, shape) combination that training never shows.
"""

import dataclasses
import io
import json
import multiprocessing
import os
import random
import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError, UsageError
from lavit_core.files import explain_write_errors, read_json, write_json
from lavit_core.progress import Progress
from lavit_core.seeds import derive_seed
from PIL import Image

from lavit_shapes.phrases import captions, questions
from lavit_shapes.render import render
from lavit_shapes.sample_scene import sample_scene
from lavit_shapes.style import EMBEDDED, Style

GENERATOR_VERSION = 2
"""Goes up whenever the same seed gives other images or words."""

SIDES_PX = 32, 1024
"""Smallest and largest side of an image: a small shape needs ten pixels."""

_CHUNK = 128
_INLINE_IMAGES = 1500
"""Up to this many images, starting worker processes costs more than it saves."""


def make_shapes(
    out: Path,
    num_images: int,
    seed: int,
    num_heldout: int = 1024,
    *,
    style: Style = EMBEDDED,
    workers: int | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Draw the embedded data set into `out`, which appears whole or not at all; the same bytes whatever `workers` is.

    Does nothing when `out` holds it already. Raises UsageError for bad counts, InputError when `out` holds other files.
    """
    if num_images < 1 or num_heldout < 0:
        raise UsageError(f"--images {num_images} --heldout {num_heldout}: expected at least 1 and 0")
    if not SIDES_PX[0] <= style.image_px <= SIDES_PX[1]:
        raise UsageError(f"--image-px {style.image_px}: expected {SIDES_PX[0]} to {SIDES_PX[1]} pixels")
    counts = {"images": num_images, "heldout": num_heldout}
    metadata: dict[str, Any] = {"generator": GENERATOR_VERSION, **counts, "seed": seed, **style.changes()}
    if (out / "shapes.json").exists():
        if (found := read_json(out / "shapes.json")) != metadata:
            raise InputError(f"{out}: holds other drawings {found}, expected {metadata}; give another folder")
        return metadata
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and holds no drawings; give a new folder")
    scratch = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    with (
        explain_write_errors(out),
        Progress("make-shapes", num_images + num_heldout, unit="image", quiet=quiet) as progress,
    ):
        for split, count in (("train", num_images), ("heldout", num_heldout)):
            (scratch / split / "images").mkdir(parents=True)
            _write_split(scratch / split, split, count, seed, style, workers, progress)
        write_json(scratch / "shapes.json", metadata)
        if out.exists():
            out.rmdir()
        os.rename(scratch, out)
    return metadata


def _write_split(
    folder: Path, split: str, count: int, seed: int, style: Style, workers: int | None, progress: Progress
) -> None:
    chunks = [(folder, split, seed, style, start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    next_question = 0
    with (
        open(folder / "captions.jsonl", "w", encoding="utf-8") as caption_file,
        open(folder / "questions.jsonl", "w", encoding="utf-8") as question_file,
        open(folder / "scenes.jsonl", "w", encoding="utf-8") as scene_file,
    ):
        for rows in _map_chunks(chunks, count, workers):
            for scene_row, lines, asked in rows:
                name = scene_row["file_name"]
                caption_file.write(json.dumps({"file_name": name, "captions": lines}) + "\n")
                scene_file.write(json.dumps(scene_row) + "\n")
                for kind, question, answer in asked:
                    row = {"question_id": next_question, "file_name": name}
                    question_file.write(
                        json.dumps({**row, "question": question, "answer": answer, "kind": kind}) + "\n"
                    )
                    next_question += 1
            progress.advance(len(rows))


def _map_chunks(chunks: list[tuple], count: int, workers: int | None) -> Iterator[list[tuple]]:
    workers = workers or len(os.sched_getaffinity(0))
    if workers == 1 or count <= _INLINE_IMAGES:
        yield from map(_write_chunk, chunks)
        return
    # Spawned, not forked: the caller may have threads.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_write_chunk, chunks)


def _write_chunk(chunk: tuple[Path, str, int, Style, int, int]) -> list[tuple]:
    """Render and write the images start..end of a split; return their scene rows, captions and questions."""
    folder, split, seed, style, start, end = chunk
    indices = range(start, end)
    # Every second held-out image shows an unseen combination.
    scenes = [
        sample_scene(seed, split, index, unseen=split == "heldout" and index % 2 == 1, style=style) for index in indices
    ]
    images = render(scenes, seed=seed, split=split, indices=indices, image_px=style.image_px)
    rows = []
    for index, scene, pixels in zip(indices, scenes, images, strict=True):
        name = f"images/{index:06d}.png"
        content = io.BytesIO()
        # Run lengths alone: noise has no longer repeats, and it takes half the time.
        Image.fromarray(pixels).save(content, "PNG", compress_type=zlib.Z_RLE)
        (folder / name).write_bytes(content.getbuffer())
        asked = questions(scene, random.Random(derive_seed(seed, "questions", split, index)), style)
        texts = captions(scene)
        rows.append((dataclasses.replace(scene, key=name, prompt=texts[0]).row(), texts, asked))
    return rows
