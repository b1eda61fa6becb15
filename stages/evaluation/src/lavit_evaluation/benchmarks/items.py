"""What a benchmark asks: its questions and images, read from the official files where they were unpacked."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from lavit_core.errors import InputError
from lavit_core.files import read_json
from lavit_core.seeds import derive_seed
from lavit_scoring import Benchmark
from lavit_scoring.catalogue import find_file, find_folder, refuse_split
from lavit_scoring.gqa import read_gqa
from lavit_scoring.references import read_references
from lavit_scoring.vizwiz import read_vizwiz
from lavit_scoring.vqa import check_questions, read_question_rows, read_truths

T = TypeVar("T")

SHOWN = 3


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to answer or to describe."""

    id: int | str
    """As the result file spells it."""
    image: Path
    question: str | None
    """None for a caption."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkItems:
    """A benchmark's items and the files they come from."""

    items: list[Item]
    files: dict[str, Path]
    """annotations, questions."""
    has_truth: bool
    """Whether the files hold answers to score against; test splits do not."""


def load_items(
    benchmark: Benchmark,
    data: Path,
    *,
    annotations: Path | None = None,
    questions: Path | None = None,
    images: Path | None = None,
    split: str | None = None,
) -> BenchmarkItems:
    """Return a benchmark's items; files that are not given are looked for under `data` by their official names.

    Raises InputError naming what is missing: a file, or images (all are looked for before anything is run);
    UsageError for a split of files that hold one each.
    """
    refuse_split(benchmark, split)
    check_downloads(data)
    annotations = annotations or find_file(data, benchmark.annotations)
    if benchmark.questions:
        questions = questions or must_find(find_file(data, benchmark.questions), data, benchmark, "questions")
    else:
        annotations = must_find(annotations, data, benchmark, "annotations")
    folder = images or find_folder(data, benchmark.images) or data
    rows, has_truth = _rows(benchmark, annotations, questions, split)
    found = find_named({names for _, names, _ in rows}, folder, data)
    items = [Item(id=name, image=found[names], question=question) for name, names, question in rows]
    files = {"annotations": annotations, "questions": questions}
    return BenchmarkItems(
        items=items, files={role: file for role, file in files.items() if file is not None}, has_truth=has_truth
    )


def sample_items(items: Sequence[T], limit: int | None, seed: int, purpose: str = "eval limit") -> list[T]:
    """Return all items, or `limit` of them drawn by the seed, in their own order."""
    chosen = np.random.default_rng(derive_seed(seed, purpose)).permutation(len(items))[:limit]
    return [items[index] for index in sorted(chosen)]


def images_digest(items: Sequence[Item]) -> str:
    """Return the SHA-256 of every item's id, image name and image size in bytes."""
    lines = (f"{item.id}\0{item.image.name}\0{item.image.stat().st_size}\n" for item in items)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


Row = tuple[int | str, tuple[str, ...], str | None]
"""Id, the names its image may have, question."""


def _rows(
    benchmark: Benchmark, annotations: Path | None, questions: Path | None, split: str | None
) -> tuple[list[Row], bool]:
    if benchmark.kind == "vqa":
        assert questions is not None
        return _vqa_rows(annotations, questions)
    assert annotations is not None
    if benchmark.kind == "vizwiz":
        truths = read_vizwiz(annotations)
        rows: list[Row] = [(name, (name,), _question(annotations, row)) for name, row in truths.items()]
        return rows, all("answers" in row for row in truths.values())
    if benchmark.kind == "gqa":
        asked = {name: row for name, row in read_gqa(annotations).items() if row.get("isBalanced", True)}
        rows = [(name, (f"{row['imageId']}.jpg",), row["question"]) for name, row in asked.items()]
        return rows, all("answer" in row for row in asked.values())
    files = read_references(annotations, split).files
    return [(as_number(name), (path, path.rpartition("/")[2]), None) for name, path in files.items()], True


def _vqa_rows(annotations: Path | None, questions: Path) -> tuple[list[Row], bool]:
    asked = read_question_rows(questions)
    if annotations is not None:
        check_questions(questions, annotations, read_truths(annotations)[0])
    # The release numbers images; COCO's names carry the subset, which the 2017 release dropped.
    subset = str(read_json(questions).get("data_subtype") or "val2014").replace("test-dev2015", "test2015")
    return [
        (row["question_id"], (f"COCO_{subset}_{number}.jpg", f"{number}.jpg"), row["question"])
        for row, number in zip(asked, (_image_number(questions, row) for row in asked), strict=True)
    ], annotations is not None


def _image_number(questions: Path, row: dict[str, Any]) -> str:
    """Return an image's number as COCO's file names have it. Raises InputError if it has none."""
    if not str(row["image_id"]).isdecimal():
        raise InputError(
            f"{questions}: image_id of question {row['question_id']} is {row['image_id']!r}, expected COCO's number"
        )
    return f"{int(row['image_id']):012d}"


def find_named(wanted: set[tuple[str, ...]], folder: Path, data: Path) -> dict[tuple[str, ...], Path]:
    """Return the file of each image, given the names it may have; looked for under `folder`, then under `data`.

    Raises InputError saying how many are missing.
    """
    found: dict[tuple[str, ...], Path] = {}
    missing = []
    for names in wanted:
        places = [root / name for root in (folder, data) for name in names]
        place = next((path for path in places if path.is_file()), None)
        if place is None:
            missing.append(names[0])
        else:
            found[names] = place
    if missing:
        shown = ", ".join(sorted(missing)[:SHOWN])
        raise InputError(
            f"{folder}: {len(missing)} of {len(wanted)} images are missing, say {shown}; "
            "give their folder with --images"
        )
    return found


def _question(file: Path, row: dict[str, Any]) -> str:
    if not isinstance(row.get("question"), str):
        raise InputError(f"{file}: {row['image']} has no question")
    return row["question"]


def as_number(name: str) -> int | str:
    """Return an id as result files spell it: a number where it is one."""
    return int(name) if name.isdecimal() and str(int(name)) == name else name


def check_downloads(data: Path) -> None:
    """Raise InputError if `data` is not a folder."""
    if not data.is_dir():
        raise InputError(f"--data {data}: {'a file' if data.exists() else 'nothing'}, expected the folder of downloads")


def must_find(file: Path | None, data: Path, benchmark: Benchmark, role: str) -> Path:
    """Return a file that was looked for. Raises InputError when it was not found, saying where it comes from."""
    if file is None:
        names = " or ".join(getattr(benchmark, role))
        raise InputError(f"{data}: no {names} here; download it from {benchmark.source}, or give --{role} FILE")
    return file
