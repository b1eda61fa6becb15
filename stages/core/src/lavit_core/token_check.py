"""Token directories checked against their specification, and summarised: `lavit tokens verify` and `inspect`."""

import array
import collections
import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np

from lavit_core.errors import InputError
from lavit_core.files import file_sha256
from lavit_core.progress import Progress
from lavit_core.token_format import Manifest, ShardEntry, read_manifest
from lavit_core.token_reader import open_shard, open_tokens
from lavit_core.token_shard import from_bfloat16

_BLOCK = 1 << 22
"""Values checked at a time, so that memory does not grow with a shard."""


def verify_tokens(folder: Path, *, quiet: bool = False) -> list[str]:
    """Check every byte and every rule of the format; return one line for each damaged shard, naming it.

    Raises InputError if there is no readable manifest.
    """
    manifest = read_manifest(folder)
    problems = []
    hashes = array.array("q")
    names = collections.Counter(shard.file for shard in manifest.shards)
    problems += [f"{folder / name}: listed twice in the manifest" for name, times in names.items() if times > 1]
    for before, shard in itertools.pairwise(manifest.shards):
        if shard.file < before.file:
            problems.append(f"{folder / shard.file}: listed after {before.file}, expected the order of their names")
            break
    with Progress("verify", len(manifest.shards), unit="shard", quiet=quiet) as progress:
        for shard in manifest.shards:
            try:
                keys = _verify_shard(folder / shard.file, shard, manifest)
            except InputError as error:
                problems.append(str(error))
            else:
                hashes.extend(map(hash, keys))
            progress.advance()
    problems += _repeated_keys(folder, manifest, np.frombuffer(hashes, dtype=np.int64))
    for file in sorted(folder.glob("*.safetensors")):
        if file.name not in names:
            problems.append(f"{file}: not in the manifest, expected a row there or no file")
    return problems


def _repeated_keys(folder: Path, manifest: Manifest, hashes: np.ndarray) -> list[str]:
    """Return one line for each shard that repeats a key; `hashes` are those of all keys, int64 [N], sorted in place.

    Eight bytes a key, where a dictionary of strings takes 170: only keys of equal hashes are read again and compared.
    """
    hashes.sort()
    suspects = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    owner: dict[str, str] = {}
    problems = []
    for shard in manifest.shards if suspects else ():
        file = folder / shard.file
        try:
            tensors = open_shard(file, shard, manifest)
            keys = _decode(file, "keys", tensors["keys"], tensors["key_offsets"])
        except InputError:
            continue  # named already
        for key in keys:
            if hash(key) not in suspects:
                continue
            if key in owner:
                problems.append(f"{file}: key {key!r} is in {owner[key]} too")
                break
            owner[key] = shard.file
    return problems


def _verify_shard(file: Path, shard: ShardEntry, manifest: Manifest) -> list[str]:
    """Return the shard's keys. Raises InputError naming what is wrong."""
    if not os.path.isfile(file):
        raise InputError(f"{file}: missing")
    if (size := file.stat().st_size) != shard.bytes:
        raise InputError(f"{file}: {size} bytes, expected {shard.bytes}")
    if (digest := file_sha256(file)) != shard.sha256:
        raise InputError(f"{file}: SHA-256 {digest}, expected {shard.sha256}")
    tensors = open_shard(file, shard, manifest)
    for name, least in (("code_offsets", 1), ("key_offsets", 1), ("text_offsets", 0)):
        if len(tensors[name]) > 1 and int(np.diff(tensors[name]).min()) < least:
            raise InputError(f"{file}: {name} do not rise")
    _verify_codes(file, tensors, manifest)
    owners = tensors["text_sample"]
    if len(owners) and (
        int(np.diff(owners, prepend=owners[:1]).min()) < 0 or owners[0] < 0 or owners[-1] >= shard.samples
    ):
        raise InputError(f"{file}: text_sample is not sorted within 0 .. {shard.samples - 1}")
    _decode(file, "texts", tensors["texts"], tensors["text_offsets"])
    return _decode(file, "keys", tensors["keys"], tensors["key_offsets"])


def _verify_codes(file: Path, tensors: dict[str, np.ndarray], manifest: Manifest) -> None:
    codes, masks = tensors["codes"], tensors["keep_mask"]
    for start in range(0, len(codes), _BLOCK):
        if (highest := int(codes[start : start + _BLOCK].max())) >= manifest.codebook_size:
            raise InputError(f"{file}: code {highest}, expected 0 .. {manifest.codebook_size - 1}")
    counts = np.diff(tensors["code_offsets"])
    rows_at_once = max(1, _BLOCK // max(1, masks.shape[1] * 8))
    for start in range(0, len(masks), rows_at_once):
        bits = np.unpackbits(masks[start : start + rows_at_once], axis=1, bitorder="little")
        kept = bits.sum(axis=1, dtype=np.int64)
        wrong = np.flatnonzero((kept != 0) & (kept != counts[start : start + rows_at_once]))
        if len(wrong) or bits[:, manifest.num_patches :].any():
            row = start + (int(wrong[0]) if len(wrong) else 0)
            raise InputError(f"{file}: keep_mask of sample {row} does not fit its {int(counts[row])} codes")
    if "features" in tensors:
        flat = tensors["features"].reshape(-1)
        for start in range(0, len(flat), _BLOCK):
            if not np.isfinite(from_bfloat16(flat[start : start + _BLOCK])).all():
                raise InputError(f"{file}: features hold NaN or infinity")


def _decode(file: Path, name: str, content: np.ndarray, offsets: np.ndarray) -> list[str]:
    try:
        bounds = offsets.tolist()
        return [content[a:b].tobytes().decode() for a, b in itertools.pairwise(bounds)]
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: {name} are not UTF-8 ({error.reason})") from None


def inspect_tokens(folder: Path) -> dict[str, Any]:
    """Return counts, lengths, code usage, perplexity and size of a token directory."""
    reader = open_tokens(folder)
    manifest = reader.manifest
    histogram = np.zeros(manifest.codebook_size, dtype=np.int64)
    for start in range(0, len(reader), 1 << 14):
        codes, _ = reader.codes(np.arange(start, min(start + (1 << 14), len(reader))))
        histogram += np.bincount(codes, minlength=manifest.codebook_size)
    share = histogram[histogram > 0] / histogram.sum()
    used = int((histogram > 0).sum())
    total_bytes = sum(shard.bytes for shard in manifest.shards)
    return {
        "path": str(folder),
        "version": manifest.version,
        "tokenizer_digest": manifest.tokenizer_digest,
        "shards": len(manifest.shards),
        "images": len(reader),
        "codes": manifest.num_codes,
        "codes_per_image": {
            "min": int(reader.counts.min()),
            "mean": round(float(reader.counts.mean()), 2),
            "max": int(reader.counts.max()),
        },
        "codebook_size": manifest.codebook_size,
        "codes_used": used,
        "code_usage": round(used / manifest.codebook_size, 4),
        "perplexity": round(float(np.exp(-(share * np.log(share)).sum())), 1),
        "captions": reader.num_texts,
        "feature_dim": manifest.feature_dim,
        "grid": list(manifest.grid),
        "selection": manifest.selection,
        "bytes": total_bytes,
        "bytes_per_image": round(total_bytes / len(reader), 1),
        "caption_bytes": reader.text_bytes,
    }
