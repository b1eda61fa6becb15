"""A model directory: `encoder/`, `tokenizer/`, `llm/`, `detokenizer/`, and `lavit.json` with the metadata of each."""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from lavit_core.digests import check_digest, with_digest
from lavit_core.errors import InputError, UsageError, VerificationError
from lavit_core.files import atomic_folder, file_sha256, link_or_copy, read_json, write_json

METADATA_FILE = "lavit.json"

MADE_BY = {
    "encoder": "lavit train-encoder",
    "tokenizer": "lavit train-tokenizer",
    "llm": "lavit pretrain",
    "detokenizer": "lavit train-detokenizer",
    "detokenizer-highres": "lavit import-checkpoint",
}
"""The parts a model directory may hold, and the command that makes each."""


def made_by(name: str) -> str:
    """Return the command that makes a part, for a message; there may be parts that this version does not know."""
    return f"`{MADE_BY[name]}`" if name in MADE_BY else "the command it is from"


def detokenizer_part(*, highres: bool) -> str:
    """Return the name of the detokenizer part: the model's own, or the SDXL one that imported weights bring along."""
    return "detokenizer-highres" if highres else "detokenizer"


def denoiser_folder(detokenizer: Path) -> Path:
    """Return the folder of a detokenizer's network: transformer/ if it has one, else unet/."""
    transformer = detokenizer / "transformer"
    return transformer if transformer.is_dir() else detokenizer / "unet"


def check_no_run(model: Path) -> None:
    """Raise InputError for a run directory that holds a model directory, which it names."""
    if (model / "run.json").exists() and (model / "model").is_dir():
        raise InputError(f"{model}: a run directory, expected a model directory; give {model / 'model'}")


def find_part(model: Path, name: str) -> Path:
    """Return the folder of one part. Raises InputError that names the command which makes it."""
    check_no_run(model)
    folder = model / name
    if not folder.is_dir():
        if not model.exists():
            raise InputError(
                f"{model}: no such directory; {made_by(name)} makes a model directory with {name}/, `make demo` a "
                "whole one"
            )
        held = [part for part in MADE_BY if (model / part).is_dir()]
        found = f"it holds {', '.join(held)}" if held else "no model directory"
        raise InputError(f"{model}: no {name}/ here ({found}); {made_by(name)} makes one")
    _check_weight_sizes(model, name)
    return folder


def _check_weight_sizes(model: Path, name: str) -> None:
    """Hold the size of each weight file against lavit.json: quick, and enough for a copy that was cut short."""
    for inside, recorded in _recorded(model, name).get("files", {}).items():
        file = model / name / inside
        if file.suffix == ".safetensors" and (not os.path.isfile(file) or file.stat().st_size != recorded["bytes"]):
            found = f"{file.stat().st_size} bytes" if os.path.isfile(file) else "missing"
            raise InputError(
                f"{file}: {found}, expected {recorded['bytes']} bytes; copy the model again "
                f"(`lavit verify {model}` checks every file)"
            )


def missing_parts(model: Path) -> str | None:
    """Return what a finished run's model directory lacks, as a line without its end; None if it is all there.

    Sizes alone are looked at; `lavit verify` reads every byte.
    """
    try:
        parts = read_metadata(model)["parts"]
        for name in parts:
            find_part(model, name)
    except (InputError, VerificationError) as error:
        return str(error).split(";")[0]
    return None if parts else f"{model}: no part in it"


def part_files(folder: Path, recorded: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, dict[str, Any]]:
    """Return `bytes` and `sha256` of every file of a part, by its path inside the part.

    A safetensors file that is as long as `recorded` (an earlier result) reports is not read again.
    Raises InputError for a folder or file that can't be read.
    """
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):  # rglob would find nothing, and not say so
        raise InputError(f"{folder}: can't be read (Permission denied)")
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    return {inside: _file_record(file, (recorded or {}).get(inside)) for inside, file in files.items()}


def _file_record(file: Path, recorded: Mapping[str, Any] | None) -> dict[str, Any]:
    size = file.stat().st_size
    is_known = recorded is not None and file.suffix == ".safetensors" and recorded["bytes"] == size
    return {"bytes": size, "sha256": recorded["sha256"] if recorded and is_known else file_sha256(file)}


def part_digest(folder: Path) -> str:
    """Return the SHA-256 of a part: names and contents of all its files, configuration, preprocessing and weights."""
    return digest_of(part_files(folder))


def recorded_digest(model: Path, name: str) -> str:
    """Return the `part_digest` of a model's part without reading its weights.

    A weight file of the recorded size counts with the SHA-256 that lavit.json records (`lavit verify` reads its bytes);
    every other file, and what an older model does not record, is read. Raises InputError as `find_part` does.
    """
    folder = find_part(model, name)
    return digest_of(part_files(folder, _recorded(model, name).get("files", {})))


def image_input_of(model: Path) -> str | None:
    """Return how the model's language model is shown images; None where lavit.json does not record it."""
    return _recorded(model, "llm").get("image_input")


def _recorded(model: Path, name: str) -> dict[str, Any]:
    """Return what lavit.json records of a part; {} without a record."""
    parts = read_metadata(model)["parts"] if (model / METADATA_FILE).is_file() else {}
    return dict(parts.get(name, {}))


def digest_of(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the digest of a part from what `part_files` returned."""
    digest = hashlib.sha256()
    for inside, file in files.items():
        digest.update(f"{inside}\0{file['sha256']}\n".encode())
    return digest.hexdigest()


def read_metadata(model: Path) -> dict[str, Any]:
    """Return the content of lavit.json: each part's digests, and what it was made with."""
    file = model / METADATA_FILE
    metadata = read_json(file)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("parts"), dict):
        raise InputError(f"{file}: no `parts` in it, expected the file a training command writes")
    for name, part in metadata["parts"].items():
        if wrong := _wrong_in_part(name, part):
            raise InputError(f"{file}: part {name!r}: {wrong}; copy the model again")
    return check_digest(file, metadata)[0]


def _wrong_in_part(name: str, part: Any) -> str:
    """Return what a part's record has that a training command does not write; "" if nothing."""
    if PurePath(name).name != name or not name.isprintable():
        return "found folders in its name, expected a plain name"
    if not isinstance(part, dict) or not isinstance(part.get("digest", ""), str):
        return "expected an object with the digest of the part"
    files = part.get("files", {})
    if not isinstance(files, dict):
        return f"files is {type(files).__name__}, expected an object"
    for inside, record in files.items():
        path = PurePath(inside)
        if path.is_absolute() or ".." in path.parts or not inside.isprintable() or not path.name:
            return f"{inside!r} is no file inside it"
        if (
            not isinstance(record, dict)
            or type(record.get("bytes")) is not int
            or not isinstance(record.get("sha256"), str)
        ):
            return f"{inside}: expected `bytes` and `sha256`"
    return ""


IMPORTED = {"source": "released weights"}
"""Metadata of a part that `lavit import-checkpoint` made."""


def is_imported(model: Path, name: str) -> bool:
    """Return whether a part came from `lavit import-checkpoint`; False if there is no such model."""
    return bool(_recorded(model, name).get("source") == IMPORTED["source"])


def default_preset(model: Path) -> str:
    """Return the preset that samples and draws with a model where none is named: `tiny`, but for imported weights
    `released-v2-readme`, or without detokenizer-highres/ `published` (the same scales and steps, for SD 1.5)."""
    if not is_imported(model, "tokenizer"):
        return "tiny"
    return "released-v2-readme" if (model / "detokenizer-highres").is_dir() else "published"


SELECTIONS = ("threshold", "topk", "sample")
"""Ways in which `lavit tokenize-images` chooses the patches to keep; the first is the tokenizer's own."""


def selection_of(model: Path) -> tuple[str, int | None]:
    """Return the patch selection of the token files that trained this model, which it follows when it reads an image,
    and of `topk` the number of tokens (None: the tokenizer's own).

    A model trained on a number of tokens per image reads other numbers badly. Without a record of the selection, or
    before anything was trained on tokens, it is the tokenizer's own threshold.
    """
    for name in ("llm", "detokenizer"):
        recorded = _recorded(model, name)
        if (policy := recorded.get("selection")) in SELECTIONS:
            tokens = recorded.get("selection_tokens")
            return policy, tokens if policy == "topk" and isinstance(tokens, int) else None
    return SELECTIONS[0], None


def check_selection(selection: str | None, tokens: int | None) -> None:
    """Raise UsageError for an unknown selection, or for `tokens` that are not a number of them, or without `topk`."""
    if selection not in (None, *SELECTIONS):
        raise UsageError(f"selection: found {selection!r}, expected {', '.join(SELECTIONS)} or None")
    if tokens is None:
        return
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
        raise UsageError(f"tokens: found {tokens!r}, expected a whole number of tokens an image, at least 1")
    if selection != "topk":
        raise UsageError(
            f"tokens: found {tokens} with selection {selection!r}; a number of tokens needs topk (--selection topk)"
        )


@contextlib.contextmanager
def export_part(
    model: Path, name: str, *, carry_from: Path | None = None, metadata: Mapping[str, Any] | None = None
) -> Iterator[Path]:
    """Give a scratch folder that becomes `model/<name>`, and carry over the other parts of `carry_from`.

    `metadata` is written to lavit.json beside the part's digests; for `llm` and `detokenizer` it is what
    `training_metadata` returns.
    """
    model.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Any] = dict(read_metadata(model)["parts"]) if (model / METADATA_FILE).exists() else {}
    if carry_from is not None and (carry_from / METADATA_FILE).exists():
        for other, made in read_metadata(carry_from)["parts"].items():
            if other != name and (carry_from / other).is_dir() and not (model / other).exists():
                link_or_copy(carry_from / other, model / other)
                parts[other] = made
    with atomic_folder(model / name) as scratch:
        yield scratch
    files = part_files(model / name)
    parts[name] = {"digest": digest_of(files), "files": files, **(metadata or {})}
    ordered = {part: parts[part] for part in MADE_BY if part in parts}
    write_json(model / METADATA_FILE, with_digest({"format": 1, "parts": ordered}))


def check_made_with(model: Path, name: str) -> None:
    """Raise InputError if a part was trained on the codes of another tokenizer than the model's."""
    made_with = read_metadata(model)["parts"].get(name, {}).get("tokenizer_digest")
    present = recorded_digest(model, "tokenizer")
    if made_with is not None and made_with != present:
        raise InputError(
            f"{model / name}: trained with tokenizer {made_with[:12]}, this model holds tokenizer {present[:12]}; "
            f"train it again with `{MADE_BY[name]}`"
        )
