"""Edited images of any model in the official layout, found by name: nothing is ever matched by its position.

MagicBrush: 139/139_1.png, 139/139_inde_2.png (from the target of turn 1), 139/139_iter_2.png (from 139_1.png); MA5k-Req
has no official layout: <target>.png, say 3458_B.png.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from lavit_core.data import find_images
from lavit_core.errors import InputError
from lavit_scoring.errors import some_names

from lavit_evaluation.editing.turns import Edit


def find_edited(results: Path, edits: Sequence[Edit], every: Sequence[Edit], *, partial: bool) -> dict[str, Path]:
    """Return {edit: its image} for the edits that have one; `every` are all edits that the benchmark knows.

    Masks are passed over, as the official script does. Raises InputError naming images that belong to no edit, edits
    with two images, and edits without one unless `partial`.
    """
    if not results.is_dir():
        raise InputError(f"--results {results}: {'a file' if results.exists() else 'nothing'}, expected a folder")
    wanted, known = {_stem(edit.file_name): edit.id for edit in edits}, {_stem(edit.file_name) for edit in every}
    found: dict[str, Path] = {}
    extra = []
    for key in find_images(results):
        stem = _stem(key)
        if stem in wanted:
            if wanted[stem] in found:
                raise InputError(f"{results}: {found[wanted[stem]].name} and {Path(key).name} are one edit; keep one")
            found[wanted[stem]] = results / key
        elif stem not in known and "mask" not in Path(key).name:
            extra.append(key)
    if extra:
        raise InputError(
            f"{results}: {len(extra)} images belong to no edit ({some_names(extra)}); expected names like "
            f"{edits[0].file_name}; was it another split?"
        )
    if missing := [edit.file_name for edit in edits if edit.id not in found]:
        if not found:
            raise InputError(f"{results}: no edited image in it; expected names like {some_names(missing)}")
        if not partial:
            raise InputError(
                f"{results}: {len(missing)} of {len(edits)} edited images are missing ({some_names(missing)}); add "
                f"them, or score what is there with --partial, marked as such{_only_one_setting(missing)}"
            )
    return found


def edited_digest(found: Mapping[str, Path]) -> str:
    """Return the SHA-256 of every edited image's id and content."""
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(f"{name}\0".encode() + hashlib.sha256(found[name].read_bytes()).digest())
    return digest.hexdigest()


def _only_one_setting(missing: Sequence[str]) -> str:
    for word, setting in (("_iter_", "single"), ("_inde_", "multi")):
        if all(word in name for name in missing):
            return f"; --set turns={setting} scores that setting alone"
    return ""


def _stem(key: str) -> str:
    return key.rpartition(".")[0]
