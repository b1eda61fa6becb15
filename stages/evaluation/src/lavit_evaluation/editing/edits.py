"""What an editing benchmark asks for: images, instructions and targets, read from the official files.

MagicBrush (arXiv 2306.10012), as its zip unpacks:
  test/edit_sessions.json        {"139": [{"input": "139-input.png", "output": "139-output1.png", "instruction": ...}]}
  test/images/139/139-input.png, 139-mask1.png, 139-output1.png, ...
  test/local_descriptions.json, global_descriptions.json      {"139": {"139-output1.png": "..."}}
MA5k-Req (Shi et al., CVPR 2021: MIT-Adobe FiveK with requests), as the authors' repository has it:
  annotations/test_sess_1.json   [{"input": "3458_O.jpg", "output": "3458_B.jpg", "request": ...}]
  images/3458_O.jpg, 3458_B.jpg, ...
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from lavit_core.files import read_json
from lavit_scoring.errors import shorten, some_names

from lavit_evaluation.editing.turns import TURNS, Edit, Turn, session_edits


def read_edits(kind: str, annotations: Path, images: Path | None, *, turns: str, descriptions: str) -> list[Edit]:
    """Return every edit that a benchmark asks for, in file order; images are looked for at once.

    `kind` is magicbrush or ma5k, `turns` both, single or multi, `descriptions` local or global.
    Raises InputError naming the file and the row, or the images that are missing.
    """
    folder = images or images_beside(annotations)
    if kind == "ma5k":
        edits = read_ma5k(annotations, folder)
    else:
        texts = annotations.parent / f"{descriptions}_descriptions.json"
        edits = read_magicbrush(annotations, folder, texts if texts.is_file() else None)
        kept = [replace(edit, sets=tuple(one for one in edit.sets if one in TURNS[turns])) for edit in edits]
        edits = [edit for edit in kept if edit.sets]
    needed = [path for edit in edits for path in (edit.source, edit.target) if path is not None]
    if missing := sorted({str(path.relative_to(folder)) for path in needed if not path.is_file()}):
        raise InputError(
            f"{folder}: {len(missing)} images are missing, say {some_names(missing)}; give their folder with --images"
        )
    return edits


def images_digest(edits: Sequence[Edit]) -> str:
    """Return the SHA-256 of every edit's id, instruction, and the names and sizes in bytes of its images."""
    digest = hashlib.sha256()
    for edit in edits:
        digest.update(f"{edit.id}\0{edit.instruction}\0{edit.description}\0".encode())
        for path in (edit.source, edit.target):
            digest.update(b"\n" if path is None else f"{path.name}\0{path.stat().st_size}\n".encode())
    return digest.hexdigest()


def images_beside(annotations: Path) -> Path:
    """Return the folder `images` beside the annotation file or beside its folder. Raises InputError without one."""
    for place in (annotations.parent / "images", annotations.parent.parent / "images"):
        if place.is_dir():
            return place
    raise InputError(f"{annotations}: no folder images beside it; give the images' folder with --images")


def read_magicbrush(file: Path, images: Path, descriptions: Path | None) -> list[Edit]:
    """Return the edits of edit_sessions.json, single-turn and multi-turn. Raises InputError."""
    sessions = read_json(file)
    if not isinstance(sessions, dict) or not sessions:
        raise InputError(f"{file}: expected an object of sessions, as MagicBrush's edit_sessions.json is")
    texts = {} if descriptions is None else read_json(descriptions)
    edits: list[Edit] = []
    seen: dict[str, str] = {}
    for session, rows in sessions.items():
        if not isinstance(rows, list) or not rows:
            raise InputError(f"{file}: session {session}: found {shorten(rows)}, expected a list of turns")
        first = f"{file}: session {session}, turn 1"
        name = _inside(images, _text(rows[0], "input", first).partition("-")[0], first).name
        if name in seen:
            raise InputError(f"{file}: sessions {seen[name]} and {session} both edit {name}, expected one")
        seen[name] = session
        turns = [
            _turn(row, f"{file}: session {session}, turn {number}", images / name, texts)
            for number, row in enumerate(rows, 1)
        ]
        edits += session_edits(name, turns)
    return edits


def _turn(row: Any, where: str, folder: Path, texts: Any) -> Turn:
    source, output = _text(row, "input", where), _text(row, "output", where)
    return Turn(
        source=_inside(folder, source, where),
        target=_inside(folder, output, where),
        instruction=_text(row, "instruction", where),
        description=_description(texts, folder.name, output),
    )


def read_ma5k(file: Path, images: Path) -> list[Edit]:
    """Return the edits of a split of MA5k-Req; a target with several requests is numbered: 3458_B, 3458_B_2.

    Source: data/FiveK of jshi31/T2ONet. Raises InputError.
    """
    rows = read_json(file)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{file}: expected a list of {{input, output, request}}, as MA5k-Req's test_sess_1.json is")
    edits: list[Edit] = []
    times: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        where = f"{file}: row {number}"
        source, output = _text(row, "input", where), _text(row, "output", where)
        stem = output.rpartition(".")[0] or output
        times[stem] = times.get(stem, 0) + 1
        edits.append(
            Edit(
                id=stem if times[stem] == 1 else f"{stem}_{times[stem]}",
                folder="",
                cluster=source,
                sets=("",),
                source=_inside(images, source, where),
                after=None,
                instruction=_text(row, "request", where),
                target=_inside(images, output, where),
            )
        )
    return edits


def _text(row: Any, key: str, where: str) -> str:
    value = row.get(key) if isinstance(row, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: `{key}` is {str(value)[:60]!r}, expected text")
    return value


def _inside(folder: Path, name: str, where: str) -> Path:
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise InputError(f"{where}: {name!r} leads out of {folder}, expected a file name")
    return folder / name


def _description(texts: Any, name: str, output: str) -> str | None:
    of_image = texts.get(name) if isinstance(texts, dict) else None
    said = of_image.get(output) if isinstance(of_image, dict) else None
    return said if isinstance(said, str) and said.strip() else None
