"""A data set given as --data becomes a folder of official files, once; what runs and scores reads those."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError, UsageError
from lavit_core.files import atomic_folder, read_json, write_json
from lavit_core.hub import download, is_name
from lavit_core.progress import Progress
from lavit_scoring import Benchmark
from lavit_scoring.catalogue import find_file

from lavit_evaluation.tables import layouts
from lavit_evaluation.tables.layouts import Official, Row
from lavit_evaluation.tables.read import Table, files_digest, find_tables

SPLITS = {
    "vqav2": "validation",
    "okvqa": "val2014",
    "vizwiz": "val",
    "gqa": "testdev",
    "coco-caption": "val",
    "nocaps": "validation",
    "flickr30k-caption": "test",
    "magicbrush": "dev",
}
"""Benchmark -> split of lmms-lab's data set (MagicBrush: its authors') when none is asked for."""
SOURCE_FILE = "source.json"
GQA_PARTS = ("testdev_balanced_instructions", "testdev_balanced_images")


def official_files(
    benchmark: Benchmark, data: Path, out: Path, *, split: str | None, allow_network: bool = False,
    quiet: bool = False,
) -> tuple[Path, str | None]:  # fmt: skip
    """Return the folder of official files and the split still to be picked there.

    A folder of downloads is returned as it is. A data set folder, or with `allow_network` a name on the hub, is
    unpacked into OUT/data, whole or not at all, and not again. Raises InputError, UsageError.
    """
    named = is_name(data)
    if not is_data_set(benchmark, data):
        return data, split
    if benchmark.name not in SPLITS:
        raise UsageError(f"{benchmark.name}: reads the official files only, found a data set: --data {data}")
    wanted = split or SPLITS[benchmark.name]
    target = out / "data"
    asked: dict[str, Any] = {"benchmark": benchmark.name, "split": wanted}
    asked |= {"name": data.as_posix()} if named else {"files": files_digest(find_tables(data))}
    if target.is_dir():
        _same(read_json(target / SOURCE_FILE).get("asked"), asked, target)
        return target, None
    root = data
    if named:
        patterns = [f"{part}/*.parquet" for part in GQA_PARTS] if benchmark.kind == "gqa" else [f"*{wanted}-*.parquet"]
        if not allow_network:
            raise InputError(
                f"--data {data}: no such folder; if a data set on the Hugging Face hub is meant, give --allow-network "
                "too"
            )
        root = download(data.as_posix(), patterns)
    tables = find_tables(root)
    if not tables:
        raise InputError(f"--data {data}: no parquet file of the split {wanted!r} there")
    out.mkdir(parents=True, exist_ok=True)
    with atomic_folder(target) as scratch:
        official = Official(folder=scratch / benchmark.images[0])
        official.folder.mkdir()
        for table, add in _choose(benchmark, tables, split, wanted):
            with Progress(f"unpacking {table.name}", table.num_rows, unit="row", quiet=quiet) as progress:
                for number, row in enumerate(table.rows()):
                    add(official, Row(row, f"{table.paths[0].parent}, {table.name}, row {number}"))
                    progress.advance(1)
        _write(benchmark, official, scratch)
        source = {"asked": asked, "from": str(data), "tables": sorted(tables), "revision": root.name if named else None}
        write_json(scratch / SOURCE_FILE, source)
    return target, None


def is_data_set(benchmark: Benchmark, data: Path) -> bool:
    """Return whether `data` is a data set, or could name one on the hub, and holds no official files."""
    if is_name(data):
        return True
    # Official files may lie beside a data set.
    official = (*benchmark.annotations, *benchmark.questions)
    return data.is_dir() and find_file(data, official) is None and bool(find_tables(data))


Add = Callable[[Official, Row], None]


def _choose(benchmark: Benchmark, tables: dict[str, Table], split: str | None, wanted: str) -> list[tuple[Table, Add]]:
    """Return the tables to read and what takes their rows. Raises UsageError listing what there is."""
    if benchmark.kind == "gqa":
        return _choose_gqa(tables, split, wanted)
    # A split that was not asked for is a guess at lmms-lab's name: the only table there is needs none.
    table = next(iter(tables.values())) if len(tables) == 1 and split is None else _pick(tables, wanted)
    if benchmark.kind == "caption":
        return [(table, functools.partial(layouts.add_captions, benchmark=benchmark.name))]
    takes: dict[str, Add] = {"vizwiz": layouts.add_vizwiz, "edit": layouts.add_edit, "vqa": layouts.add_vqa}
    return [(table, takes[benchmark.kind])]


def _choose_gqa(tables: dict[str, Table], split: str | None, wanted: str) -> list[tuple[Table, Add]]:
    """Return GQA's tables of questions and images, told apart by their columns; the balanced ones are meant."""
    some = {name: table for name, table in tables.items() if wanted in _names(name)}
    some = some if some or split is not None else tables
    some = {name: table for name, table in some.items() if "balanced" in name} or some
    questions = [table for table in some.values() if {"question", "imageId"} <= set(table.columns)]
    images = [table for table in some.values() if {"id", "image"} <= set(table.columns) and table not in questions]
    if len(questions) != 1 or len(images) > 1 or (not images and "image" not in questions[0].columns):
        raise UsageError(
            f"gqa: found the tables {', '.join(tables)}, expected one with question and imageId and one with id and "
            f"image, say {' and '.join(GQA_PARTS)}; choose with --split"
        )
    taken: list[tuple[Table, Add]] = [(table, layouts.add_gqa_image) for table in images]
    return [*taken, (questions[0], layouts.add_gqa)]


def _pick(tables: dict[str, Table], wanted: str) -> Table:
    found = [table for name, table in tables.items() if wanted in _names(name)]
    if len(found) != 1:
        raise UsageError(f"found the splits {', '.join(tables)}, expected one {wanted!r}; choose with --split")
    return found[0]


def _names(name: str) -> tuple[str, ...]:
    """Return what a table may be called: all of its name, its split, its folder."""
    return name, name.rpartition("/")[2], name.partition("/")[0]


def _write(benchmark: Benchmark, official: Official, folder: Path) -> None:
    """Write the files under their first official names. Raises InputError for a table without rows."""
    annotations: Any = official.annotations
    if benchmark.kind == "vqa":
        write_json(folder / benchmark.questions[0], {"questions": official.questions})
        if not official.annotations and official.questions:
            return  # a test split
        annotations = {"annotations": official.annotations}
    elif benchmark.kind == "caption":
        annotations = {"images": official.images, "annotations": official.annotations}
    elif benchmark.kind == "gqa":
        annotations = {row.pop("id"): row for row in official.annotations}
    elif benchmark.kind == "edit":
        annotations = _sessions(official.annotations, folder)
    if not official.annotations:
        raise InputError(f"{folder.parent}: the data set holds no row of {benchmark.name}")
    write_json(folder / benchmark.annotations[0], annotations)


def _sessions(turns: list[dict[str, Any]], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return MagicBrush's sessions, their turns in order. Raises InputError when one is missing."""
    sessions: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(turns, key=lambda one: one["turn"]):
        sessions.setdefault(row.pop("id"), []).append(row)
    for name, rows in sessions.items():
        found = [row.pop("turn") for row in rows]
        if found != list(range(1, len(rows) + 1)):
            raise InputError(f"{folder.parent}: session {name} has the turns {found}, expected 1 to {len(rows)}")
    return sessions


def _same(known: Any, asked: dict[str, Any], target: Path) -> None:
    if known != asked:
        changed = next((key for key in asked if not isinstance(known, dict) or known.get(key) != asked[key]), "source")
        raise UsageError(f"{target}: unpacked from another data set ({changed} differs); give another --out")
