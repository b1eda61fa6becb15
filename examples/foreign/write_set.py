"""Writes a set as lavit reads it: OUT/train and OUT/heldout, and OUT/heldout_masks where the objects are known.

The masks lie outside OUT/heldout, because commands that take a bare folder read every image below it.
"""

import argparse
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SPLITS = ("train", "heldout")
_OTHERWISE = "delete it or give another --out"


@dataclass(frozen=True, kw_only=True)
class Example:
    """One image with what is said about it."""

    image: Image.Image
    captions: tuple[str, ...]
    questions: tuple[tuple[str, str, str], ...] = ()
    """(question, answer, kind) each."""
    mask: Image.Image | None = None
    """Mode L, of the image's size: 255 on the object, 0 beside it, the covered share on its edge."""
    source: str | None = None
    """The file that the image comes from, if it was not drawn."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of every set."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, required=True, help="folder to write")
    made.add_argument("--seed", type=whole(0), default=0, help="seed of every random draw (default: 0)")
    return made


def whole(least: int) -> Callable[[str], int]:
    """Return a reader of whole numbers that are at least `least`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number of at least {least}")
        return value

    return read


def draw_set(name: str, draw: Callable[[np.random.Generator], Example], description: str | None) -> None:
    """Run the command line of a set that is drawn without end: `draw` makes one example of it."""
    options = parser(description)
    options.add_argument("--train", type=whole(1), default=4000, help="training images (default: 4000)")
    options.add_argument("--heldout", type=whole(1), default=500, help="held-out images (default: 500)")
    args = options.parse_args()

    def drawn(split: str, count: int) -> Iterator[Example]:
        for index in range(count):
            yield draw(generator(name, args.seed, split, index))

    settings = {"set": name, "seed": args.seed, "train": args.train, "heldout": args.heldout}
    write_set(args.out, settings, {split: drawn(split, settings[split]) for split in SPLITS})


def generator(name: str, seed: int, *purpose: str | int) -> np.random.Generator:
    """Return the random numbers of one example, which depend on no other example and not on how many there are."""
    return np.random.default_rng([seed, *(zlib.crc32(str(word).encode()) for word in (name, *purpose))])


def write_set(out: Path, settings: Mapping[str, Any], splits: Mapping[str, Iterable[Example]]) -> None:
    """Write a set and say what was written; what can't be done ends in one line.

    The set is made in a scratch folder that is renamed when it is whole. If `out` is there, its content must be what
    this call would write.
    """
    out = out.resolve()
    scratch = out.with_name(f".{out.name}.tmp")
    line = json.dumps(settings, ensure_ascii=False) + "\n"
    try:
        _check_out(out, line)
        shutil.rmtree(scratch, ignore_errors=True)  # a killed run left it
        scratch.mkdir(parents=True)
        counts = {split: _write_split(scratch, split, examples) for split, examples in splits.items()}
        masks = len(list(scratch.glob("heldout_masks/*.png")))
        (scratch / "set.json").write_text(line, encoding="utf-8")
        written = "written"
        if out.exists() and any(out.iterdir()):
            if not _same_files(scratch, out):
                raise SystemExit(f"error: {out}: its files are not what this command writes; {_OTHERWISE}")
            written = "already there, file by file the same"
        else:
            os.replace(scratch, out)
    except OSError as error:
        raise SystemExit(f"error: {error.filename or out}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{out}: {counts['train']} training images, {counts['heldout']} held-out ones, {masks} masks; {written}")


def _check_out(out: Path, line: str) -> None:
    """End with one line, before anything is drawn, if `out` is neither new nor empty nor a set of these settings."""
    if not out.exists():
        return
    if not out.is_dir():
        raise SystemExit(f"error: {out}: a file, expected a folder or nothing; {_OTHERWISE}")
    record = out / "set.json"
    if any(out.iterdir()) and not record.is_file():
        raise SystemExit(f"error: {out}: holds other files, expected an empty folder or nothing; {_OTHERWISE}")
    if record.is_file() and (found := record.read_text(encoding="utf-8")) != line:
        raise SystemExit(f"error: {out}: made as {found.strip()}, expected {line.strip()}; {_OTHERWISE}")


def _write_split(root: Path, split: str, examples: Iterable[Example]) -> int:
    """Write the images, captions, questions and masks of a split; return how many images there are."""
    (root / split / "images").mkdir(parents=True)
    captions: list[dict[str, Any]] = []
    questions: list[dict[str, Any]] = []
    for index, example in enumerate(examples):
        key = f"images/{index:05}.png"
        example.image.save(root / split / key)
        source = {} if example.source is None else {"source": example.source}
        captions.append({"file_name": key, "captions": list(example.captions), **source})
        for question, answer, kind in example.questions:
            row = {"question_id": len(questions), "file_name": key}
            questions.append({**row, "question": question, "answer": answer, "kind": kind})
        if split == "heldout" and example.mask is not None:
            (root / "heldout_masks").mkdir(exist_ok=True)
            example.mask.save(root / "heldout_masks" / f"{index:05}.png")
    for name, rows in (("captions", captions), ("questions", questions)):
        if rows:
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (root / split / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return len(captions)


def _same_files(one: Path, other: Path) -> bool:
    names = [
        sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()) for root in (one, other)
    ]
    return names[0] == names[1] and all((one / name).read_bytes() == (other / name).read_bytes() for name in names[0])
