"""The record of a run: settings that came after it began, and digests of its files, which `lavit verify` compares."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lavit_core.config import Config
from lavit_core.digests import check_digest, with_digest
from lavit_core.errors import InputError
from lavit_core.files import file_sha256, json_text, read_json, write_json

DIGESTS_FILE = "digests.json"
DONE_FILE = "DONE"
RECORDED = (
    "config.yaml", "run.json", "metrics.jsonl", "warnings.jsonl", "errors.jsonl", "score.json", "text/tokenizer.json",
)  # fmt: skip
"""Files of a finished run that nothing else has a digest of."""


def with_new_settings(old: dict[str, Any], new: Mapping[str, Any], settings: type[Config] | None) -> dict[str, Any]:
    """Return a run's record of before with the defaults of `settings` that did not exist when it was written.

    A record that these settings can't read stays as it is.
    """
    before = old.get("config")
    if settings is None or not isinstance(before, dict):
        return old
    own = {key: value for key, value in before.items() if key in settings.model_fields}
    try:
        whole = settings.model_validate(own).model_dump(mode="json")
    except ValueError:
        return old
    known = before.keys() | new["config"].keys()
    return {**old, "config": {**before, **{key: value for key, value in whole.items() if key in known}}}


def write_finished(run: Path, summary: Mapping[str, Any]) -> None:
    """Write DONE, and before it the digests of it and of the other files of the record."""
    files = {name: file_sha256(run / name) for name in RECORDED if (run / name).is_file()}
    files[DONE_FILE] = hashlib.sha256(json_text(dict(summary)).encode()).hexdigest()
    write_json(run / DIGESTS_FILE, with_digest({"files": files}))
    write_json(run / DONE_FILE, dict(summary))


def damaged_record(run: Path) -> Iterator[str]:
    """Yield one line for each file of a finished run's record that changed after it was written.

    Raises InputError or VerificationError if digests.json itself is damaged.
    """
    file = run / DIGESTS_FILE
    values, has_digest = check_digest(file, read_json(file))
    files = values.get("files")
    if not has_digest or not isinstance(files, dict):
        raise InputError(f"{file}: expected digests of files, and one of itself")
    for name in sorted(files):
        if not (run / name).is_file():
            yield f"{run / name}: missing, expected as the run left it"
        elif (found := file_sha256(run / name)) != files[name]:
            yield f"{run / name}: SHA-256 {found[:12]}, expected {str(files[name])[:12]}"
