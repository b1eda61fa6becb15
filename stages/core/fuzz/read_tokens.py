"""The reader of token shards on a shard of any bytes, in a directory whose manifest fits it as well as one can."""

import hashlib
import tempfile
from pathlib import Path

import numpy as np
from lavit_core.errors import LavitError
from lavit_core.token_check import inspect_tokens, verify_tokens
from lavit_core.token_export import export_tokens
from lavit_core.token_format import Manifest, ShardEntry
from lavit_core.token_reader import TokenReader, open_tokens
from lavit_core.token_shard import map_shard
from pydantic import ValidationError

SHARD = "shard-000000.safetensors"


def read(content: bytes) -> None:
    """Read a shard in every way. Raises what no reader may: another error than ours, or a shard that `verify_tokens`
    finds whole and a reader refuses."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "tokens"
        folder.mkdir()
        (folder / SHARD).write_bytes(content)
        # Not write_manifest: it waits for the disk.
        (folder / "manifest.json").write_text(manifest_of(folder / SHARD).model_dump_json())
        problems = verify_tokens(folder, quiet=True)
        for use in (
            lambda: inspect_tokens(folder),
            lambda: export_tokens(folder, "jsonl", Path(place) / "out.jsonl"),
            lambda: read_samples(open_tokens(folder, check_digests=False)),
        ):
            try:
                use()
            except LavitError:
                if not problems:
                    raise AssertionError("refused by a reader, and whole to verify_tokens") from None


def manifest_of(shard: Path) -> Manifest:
    """Return a manifest with the counts of the shard, or with those of the seeds where it has none."""
    values = {"codebook_size": 16, "grid": (2, 4), "feature_dim": None}
    samples, codes = 2, 5
    try:
        tensors, metadata = map_shard(shard)
        samples, codes = len(tensors["code_offsets"]) - 1, len(tensors["codes"])
        values = {"codebook_size": metadata["codebook_size"], "grid": metadata["grid"]}
        values["feature_dim"] = tensors["features"].shape[1] if "features" in tensors else None
    except LavitError:
        pass
    content = shard.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    entry = ShardEntry(file=SHARD, samples=samples, codes=codes, bytes=len(content), sha256=digest)
    try:
        return Manifest(tokenizer_digest="d" * 64, shards=(entry,), **values)
    except ValidationError:  # no manifest may say what the shard says
        return Manifest(tokenizer_digest="d" * 64, shards=(entry,), codebook_size=16, grid=(2, 4))


def read_samples(reader: TokenReader) -> None:
    """Read everything of every sample."""
    everything = np.arange(len(reader))
    for one in (reader.codes, reader.keep_masks, reader.keys, reader.texts):
        one(everything)
    if reader.manifest.feature_dim is not None:
        reader.features(everything)
