"""The token-file format, version 1: a shard's tensors and the manifest. The text is docs/token-format.md."""

import os
from pathlib import Path, PurePath
from typing import Annotated, Any

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, field_validator, model_serializer

from lavit_core.config import Config
from lavit_core.digests import KEY as DIGEST_KEY
from lavit_core.digests import check_digest, with_digest
from lavit_core.errors import InputError
from lavit_core.files import read_json, write_json

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
JOURNAL_FOLDER = "journal"
"""Folder in a token directory that is not finished yet (see lavit_core.token_journal)."""
METADATA_KEY = "lavit"
"""The one key of a shard's `__metadata__`: safetensors writes several in random order, and equal content
must be equal bytes."""

DTYPES: dict[str, np.dtype] = {
    "I64": np.dtype("<i8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "BF16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
}
"""safetensors' type names in use, and how numpy reads them (bfloat16 as the upper half of a float32)."""

REQUIRED = {
    "code_offsets": "I64",
    "key_offsets": "I64",
    "text_offsets": "I64",
    "text_sample": "I64",
    "keep_mask": "U8",
    "keys": "U8",
    "texts": "U8",
}
"""Tensors every shard holds besides `codes`, and their types."""

RANKS = {"keep_mask": 2, "features": 2}
"""Tensors with more than one dimension."""


MAX_CODEBOOK = 1 << 24
"""Most codes of a codebook; readers count how often each one occurs."""

MAX_COUNT = 1 << 53
"""Most of anything that the manifest counts: JSON readers keep whole numbers exact up to here."""

_Whole = Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT)]
_Side = Annotated[int, Field(strict=True, ge=1, le=1 << 16)]


def code_dtype(codebook_size: int) -> str:
    """Return the type of `codes`: two bytes up to 65,536 codes, four bytes beyond."""
    return "U16" if codebook_size <= 1 << 16 else "U32"


class ShardEntry(Config):
    """One shard's row in the manifest."""

    file: str = Field(max_length=255)
    """Name inside the token directory."""
    samples: _Whole
    """Number of images."""
    codes: _Whole
    """Number of codes of all its images."""
    bytes: _Whole
    """Size of the file."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Digest of the file's bytes."""
    source: str = ""
    """The source of the images."""
    images_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """Digest of the encoded bytes of its images (`lavit_core.image_digests`); None where they are not known."""

    @model_serializer(mode="wrap")
    def _known(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value is not None}

    @field_validator("file")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if PurePath(value).name != value or not value.isprintable():
            raise ValueError("expected a file name without folders and control characters")
        return value


class Manifest(Config):
    """Contents of manifest.json: the shards of a token directory, and how they were made."""

    version: int = Field(default=FORMAT_VERSION, strict=True)
    """Version of the format."""
    tokenizer_digest: str = Field(pattern="^[ -~]*$")
    """Digest of the tokenizer whose codebook gives the codes their meaning (see lavit_core.modeldir.part_digest)."""
    codebook_size: int = Field(strict=True, ge=1, le=MAX_CODEBOOK)
    """Codes are 0 .. codebook_size - 1."""
    grid: tuple[_Side, _Side]
    """Rows and columns of the patch grid."""
    preprocessing: dict[str, Any] = Field(default_factory=dict)
    """The preprocessing that turned images into pixels."""
    selection: dict[str, Any] = Field(default_factory=dict)
    """The policy that chose patches, and what it takes (seed, threshold or ratio)."""
    feature_dim: _Whole | None = None
    """Width of the stored features, None without them."""
    shards: tuple[ShardEntry, ...] = ()
    """One row a shard, in order."""
    has_digest: bool = Field(default=True, exclude=True)
    """Whether manifest.json carries a digest of itself; older directories do not."""

    @property
    def num_patches(self) -> int:
        """Patches of an image."""
        return self.grid[0] * self.grid[1]

    @property
    def num_samples(self) -> int:
        """Images in all shards."""
        return sum(shard.samples for shard in self.shards)

    @property
    def num_codes(self) -> int:
        """Codes in all shards."""
        return sum(shard.codes for shard in self.shards)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json atomically; equal manifests give equal bytes."""
    values = manifest.model_dump(mode="json")
    write_json(folder / MANIFEST_FILE, with_digest(values) if manifest.has_digest else values)


def training_metadata(*manifests: Manifest) -> dict[str, Any]:
    """Return what lavit.json records of a part trained on these tokens: the tokenizer's digest and the selection, with
    the number of tokens of `topk`. Directories of different selections, read together, have none."""
    chosen = {(one.selection.get("policy"), one.selection.get("tokens")) for one in manifests}
    policy, tokens = chosen.pop() if len(chosen) == 1 else (None, None)
    made = {"tokenizer_digest": manifests[0].tokenizer_digest, "selection": policy}
    return made if tokens is None else {**made, "selection_tokens": tokens}


def read_manifest(folder: Path) -> Manifest:
    """Read and check manifest.json.

    Raises InputError if it is missing, malformed or of another version, VerificationError if its digest differs.
    """
    file = folder / MANIFEST_FILE
    if not os.path.isfile(file):
        if inner := sorted(found.parent.name for found in folder.glob(f"*/{MANIFEST_FILE}")):
            raise InputError(f"{folder}: holds {', '.join(inner)}; give one of them, say {folder / inner[0]}")
        if (folder / JOURNAL_FOLDER).is_dir():
            raise InputError(
                f"{folder}: not finished ({JOURNAL_FOLDER}/ lists the shards so far, {MANIFEST_FILE} comes last); run "
                "the same `lavit tokenize-images` to its end, with --num-tasks every task"
            )
        raise InputError(
            f"{folder}: not a token directory ({MANIFEST_FILE} is missing); `lavit tokenize-images` makes one"
        )
    values = read_json(file)
    version = values.get("version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(f"{file}: format version {version!r}, this lavit-core reads {FORMAT_VERSION}; tokenize again")
    try:
        manifest = Manifest.model_validate({name: value for name, value in values.items() if name != DIGEST_KEY})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{file}: {where}: {first['msg']}, found {first['input']!r:.80}; tokenize again") from None
    _, has_digest = check_digest(file, values)
    return manifest.model_copy(update={"has_digest": has_digest})
