"""Prompts of the generation benchmarks, read from their official files, and the same prompts in other words.

GenEval     evaluation_metadata.jsonl  {"tag": "counting", "include": [...], "exclude": [...], "prompt": ...} a line
DPG-Bench   dpg_bench.csv              item_id, text, ...; the folder prompts/ beside it has <item_id>.txt
WISE        cultural_common_sense.json and the two files beside it: [{"prompt_id": 1, "Prompt": ...}]
T2I-CompBench  color_val.txt           a prompt a line
"""

import csv
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from lavit_scoring.errors import shorten, some_names
from lavit_scoring.files import read_bytes, read_json_lines
from lavit_scoring.geneval import geneval_key
from lavit_scoring.t2i_compbench import read_t2i_prompts
from lavit_scoring.wise import files_digest, read_wise, wise_files

NO_ROWS = "no prompts in it"


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt of a benchmark."""

    key: str
    """By which the same prompt is found in another file."""
    place: int
    """Its row in the official file, from 0."""
    text: str
    """What the file says."""
    drawn: str
    """What a model is given: the same, or other words for it."""
    row: dict[str, Any]
    """The official row."""


def read_prompts(kind: str, file: Path) -> list[Prompt]:
    """Return the prompts of a benchmark's official file. Raises InputError naming a row that is not one."""
    found = READERS[kind](file)
    if not found:
        raise InputError(f"{file}: {NO_ROWS}")
    for name, text, _ in found:
        if not text.strip():
            raise InputError(f"{file}: prompt {name} is empty, expected text")
    keys = [name for name, _, _ in found]
    if twice := sorted({name for name in keys if keys.count(name) > 1}):
        raise InputError(f"{file}: {len(twice)} prompts occur twice ({some_names(twice)}), expected each once")
    return [
        Prompt(key=name, place=place, text=text, drawn=text, row=row) for place, (name, text, row) in enumerate(found)
    ]


def reword(kind: str, prompts: Sequence[Prompt], file: Path) -> list[Prompt]:
    """Return the prompts with the words of another file of the same layout, matched by what each prompt is about.

    Raises InputError if the two files are not about the same prompts.
    """
    others = {one.key: one.text for one in read_prompts(kind, file)}
    wanted = {one.key for one in prompts}
    if lacking := [one.text for one in prompts if one.key not in others]:
        raise InputError(
            f"--rewritten {file}: {len(lacking)} of {len(prompts)} prompts are not in it ({some_names(lacking)})"
        )
    if extra := [name for name in others if name not in wanted]:
        raise InputError(f"--rewritten {file}: {len(extra)} prompts are not the benchmark's ({some_names(extra)})")
    return [replace(one, drawn=others[one.key]) for one in prompts]


def words_digest(texts: Sequence[str]) -> str:
    """Return the SHA-256 of prompts as they were drawn, in the official order."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


Rows = list[tuple[str, str, dict[str, Any]]]
"""Key, text and official row of each prompt."""


def _geneval(file: Path) -> Rows:
    rows: Rows = []
    for number, row in enumerate(read_json_lines(file), 1):
        if not (isinstance(row, dict) and isinstance(row.get("prompt"), str) and isinstance(row.get("tag"), str)):
            raise InputError(f"{file}: row {number} is {shorten(row)}, expected tag, include and prompt")
        rows.append((geneval_key(row), row["prompt"], row))
    return rows


def _dpg(file: Path) -> Rows:
    """Read the CSV, which has a row a proposition, or a folder of <item_id>.txt; texts beside the CSV come first."""
    if file.is_dir():
        return [(one.stem, _text(one), {"item_id": one.stem}) for one in sorted(file.glob("*.txt"))]
    texts: dict[str, str] = {}
    for number, row in enumerate(csv.DictReader(read_bytes(file).decode("utf-8-sig").splitlines(keepends=True)), 2):
        if not row.get("item_id") or row.get("text") is None:
            raise InputError(f"{file}: row {number} is {shorten(row)}, expected item_id and text")
        name = row["item_id"]
        if "/" in name or name.startswith("."):
            raise InputError(f"{file}: row {number}: item_id {name!r} leads out of a folder, expected a file's name")
        texts.setdefault(name, row["text"])
    beside = file.parent / "prompts"
    if beside.is_dir():
        if lacking := [name for name in texts if not (beside / f"{name}.txt").is_file()]:
            raise InputError(f"{beside}: {len(lacking)} of {len(texts)} prompts are missing ({some_names(lacking)})")
        texts = {name: _text(beside / f"{name}.txt") for name in texts}
    return [(name, text, {"item_id": name}) for name, text in texts.items()]


def _text(file: Path) -> str:
    return read_bytes(file).decode("utf-8-sig").strip()


def _wise(file: Path) -> Rows:
    return [(str(number), row["Prompt"], row) for number, row in read_wise(file).items()]


def _t2i(file: Path) -> Rows:
    """Read lines; other words for them are on the same lines of another file."""
    return [(f"line {number}", text, {}) for number, text in enumerate(read_t2i_prompts(file), 1)]


READERS: dict[str, Callable[[Path], Rows]] = {
    "geneval": _geneval, "dpg": _dpg, "wise": _wise, "t2i": _t2i, "t2i_complex": _t2i
}  # fmt: skip


def prompts_digest(kind: str, file: Path) -> str:
    """Return the SHA-256 of the official prompts, as a score of them records it."""
    return files_digest(wise_files(file) if kind == "wise" else [file])
