"""The files of a model directory, token directory or run against the digests recorded when they were written."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lavit_core.checkpoints import check_checkpoint, checkpoint_folders
from lavit_core.digests import check_digest
from lavit_core.errors import InputError, VerificationError
from lavit_core.files import read_json
from lavit_core.modeldir import MADE_BY, METADATA_FILE, digest_of, made_by, part_files, read_metadata
from lavit_core.progress import Progress
from lavit_core.run_record import DIGESTS_FILE, DONE_FILE, RECORDED, damaged_record
from lavit_core.token_check import verify_tokens
from lavit_core.token_format import JOURNAL_FOLDER, MANIFEST_FILE, read_manifest

BYTES = "every byte as it was written"
CONTENT = "content as it was written"
"""The digest inside a JSON file is of its values: white space between them may differ."""
NO_DIGEST = "it has no digest of itself (written before there was one), so its own bytes could not be checked"
FOREIGN = (
    f"found a file that {METADATA_FILE} does not record, expected none; delete it: it changes the digest of the part"
)
NOT_RECORDED = f"not recorded in {METADATA_FILE}, so there is nothing to compare it with"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """One part of a directory after it was checked."""

    part: str
    files: int
    bytes: int
    problems: tuple[str, ...] = ()
    """One line each: the file, what was found, what was expected, the next command."""
    unchecked: str = ""
    """The bytes that could not be checked, and why; empty when all were."""
    checked: str = BYTES
    """What the digests cover."""

    def line(self) -> str:
        """Return the result as a line for a person."""
        if self.problems:
            return f"{self.part}: {len(self.problems)} wrong"
        size = f"{self.files} file{'' if self.files == 1 else 's'}"
        size += f", {self.bytes / 1e6:.1f} MB" if self.bytes else ""
        return f"{self.part}: {size}, {self.unchecked or self.checked}"


def verify(path: Path, *, quiet: bool = False) -> list[Checked]:
    """Check the files of a model directory, of a token directory or of a run; return one result a part.

    Covered are the content of lavit.json and every byte of the parts it records, or the content of manifest.json and
    every byte of its shards, or every checkpoint of a run and its model; and the record of a finished run (settings,
    metrics, errors, summary). Raises InputError for any other path.
    """
    if (path / MANIFEST_FILE).is_file():
        return [*_token_directory(path, quiet), *_record(path)]
    if (path / METADATA_FILE).is_file():
        return list(_model_directory(path, quiet))
    # Shards without a manifest are a token directory that is not finished.
    if (path / "run.json").is_file() and not any(path.glob("*.safetensors")):
        return [*_run_directory(path, quiet), *_record(path)]
    if (path / JOURNAL_FOLDER).is_dir():
        read_manifest(path)  # says that it is not finished
    if inner := sorted(file.parent.name for file in path.glob(f"*/{MANIFEST_FILE}")):
        raise InputError(f"{path}: holds the token directories {', '.join(inner)}; give one, say {path / inner[0]}")
    if not path.exists():
        raise InputError(f"{path}: no such directory, expected a model, token or run directory")
    raise InputError(
        f"{path}: no {METADATA_FILE} (a model directory has one) and no {MANIFEST_FILE} (a token directory has one)"
    )


def _token_directory(folder: Path, quiet: bool) -> Iterator[Checked]:
    file, remedy = folder / MANIFEST_FILE, "delete it and run the same `lavit tokenize-images` again"
    try:
        manifest = read_manifest(folder)
    except (InputError, VerificationError) as error:
        # What a damaged manifest records of the shards can't be trusted either.
        yield Checked(part=MANIFEST_FILE, files=1, bytes=file.stat().st_size, problems=(str(error),))
        return
    unchecked = "" if manifest.has_digest else NO_DIGEST
    size = file.stat().st_size
    yield Checked(part=MANIFEST_FILE, files=1, bytes=size, unchecked=unchecked, checked=CONTENT)
    problems = tuple(f"{problem}; {remedy}" for problem in verify_tokens(folder, quiet=quiet))
    total = sum(shard.bytes for shard in manifest.shards)
    yield Checked(part="shards", files=len(manifest.shards), bytes=total, problems=problems)


def _record(run: Path) -> Iterator[Checked]:
    if not (run / "run.json").is_file():
        return
    names = [name for name in (*RECORDED, DIGESTS_FILE, DONE_FILE) if (run / name).is_file()]
    problems, unchecked = tuple[str, ...](), ""
    if (run / DIGESTS_FILE).is_file() and (run / DONE_FILE).is_file():
        try:
            problems = tuple(f"{problem}; restore it, or make the run again" for problem in damaged_record(run))
        except (InputError, VerificationError) as error:
            problems = (str(error),)
    elif (run / DONE_FILE).is_file():
        unchecked = NO_DIGEST
    else:
        unchecked = "digests of it are written when the run is finished, so its bytes could not be checked"
    size = sum((run / name).stat().st_size for name in names)
    yield Checked(part="record of the run", files=len(names), bytes=size, problems=problems, unchecked=unchecked)


def _run_directory(run: Path, quiet: bool) -> Iterator[Checked]:
    for checkpoint in checkpoint_folders(run / "checkpoints"):
        files = len(list(checkpoint.iterdir()))
        size, problems = 0, tuple[str, ...]()
        try:
            size = check_checkpoint(checkpoint)
        except (InputError, VerificationError) as error:
            problems = (f"{error}; delete {checkpoint}: the same command goes on from an older checkpoint",)
        name = f"checkpoints/{checkpoint.name}"
        yield Checked(part=name, files=files, bytes=size, problems=problems)
    if (run / "model" / METADATA_FILE).is_file():
        for part in _model_directory(run / "model", quiet):
            yield dataclasses.replace(part, part=f"model/{part.part}")
    elif (run / "DONE").is_file() and checkpoint_folders(run / "checkpoints"):
        missing = f"{run / 'model' / METADATA_FILE}: missing, expected the model of a finished run; run it again"
        yield Checked(part="model", files=0, bytes=0, problems=(missing,))


def _model_directory(model: Path, quiet: bool) -> Iterator[Checked]:
    file = model / METADATA_FILE
    size = file.stat().st_size
    try:
        parts = read_metadata(model)["parts"]
        values, has_digest = check_digest(file, read_json(file))
        if strange := sorted(values.keys() - {"format", "parts"}):
            raise InputError(f"{file}: unknown key {strange[0]!r}, expected format and parts; copy the model again")
    except (InputError, VerificationError) as error:
        yield Checked(part=METADATA_FILE, files=1, bytes=size, problems=(str(error),))
        return
    unchecked = "" if has_digest else NO_DIGEST
    yield Checked(part=METADATA_FILE, files=1, bytes=size, unchecked=unchecked, checked=CONTENT)
    names = [name for name in dict.fromkeys([*MADE_BY, *parts]) if name in parts or (model / name).is_dir()]
    with Progress("verify", len(names), unit="part", quiet=quiet) as progress:
        for name in names:
            try:
                yield _part(model / name, parts.get(name))
            except InputError as error:
                yield Checked(part=name, files=0, bytes=0, problems=(str(error),))
            progress.advance()


def _part(folder: Path, recorded: Mapping[str, Any] | None) -> Checked:
    remedy = f"copy the model again, or make this part again with {made_by(folder.name)}"
    found = part_files(folder)
    problems: list[str] = []
    if recorded is not None and not found:
        problems.append(f"{folder}: missing, expected what {METADATA_FILE} records; {remedy}")
    elif recorded is not None and "files" in recorded:
        expected = recorded["files"]
        for inside in sorted(expected.keys() | found.keys()):
            if inside in expected:
                difference = _difference(folder / inside, found.get(inside), expected[inside])
                problems += [f"{one}; {remedy}" for one in difference]
            else:
                problems.append(f"{folder / inside}: {FOREIGN}")
    elif recorded is not None and digest_of(found) != recorded.get("digest"):
        digest = str(recorded.get("digest"))[:12]
        problems.append(f"{folder}: SHA-256 {digest_of(found)[:12]} of all its files, expected {digest}; {remedy}")
    return Checked(
        part=folder.name,
        files=len(found),
        bytes=sum(file["bytes"] for file in found.values()),
        problems=tuple(problems),
        unchecked=NOT_RECORDED if recorded is None else "",
    )


def _difference(file: Path, found: Mapping[str, Any] | None, expected: Mapping[str, Any]) -> Iterator[str]:
    if found is None:
        yield f"{file}: missing, expected {expected['bytes']} bytes"
    elif found["bytes"] != expected["bytes"]:
        yield f"{file}: {found['bytes']} bytes, expected {expected['bytes']}"
    elif found["sha256"] != expected["sha256"]:
        yield f"{file}: SHA-256 {found['sha256'][:12]}, expected {expected['sha256'][:12]}"
