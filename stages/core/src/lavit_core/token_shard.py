"""One shard: a safetensors file written byte for byte the same way, and read as views over a memory map.

Letters: n samples, m captions, T codes of all samples, P patches, D feature width.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lavit_core.errors import InputError
from lavit_core.files import canonical_json, write_chunks
from lavit_core.safetensors_stream import safetensors_chunks
from lavit_core.token_format import DTYPES, FORMAT_VERSION, METADATA_KEY, RANKS, REQUIRED, ShardEntry, code_dtype

MAX_HEADER_BYTES = 1 << 20
"""A shard has a dozen tensors, so a file with a longer header is not a shard."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenSample:
    """One image as tokens.

    `codes` integers [T]; `keep_mask` bool [P], with as many True as codes, or no True at all if the patches are unknown
    (codes that a language model sampled); `texts` its captions; `features` float32 [T, D], stored as bfloat16, or None.
    """

    key: str
    codes: np.ndarray
    keep_mask: np.ndarray
    texts: tuple[str, ...] = ()
    features: np.ndarray | None = None


def write_shard(
    folder: Path,
    name: str,
    samples: Sequence[TokenSample],
    *,
    codebook_size: int,
    grid: tuple[int, int],
    source: str = "",
    temporary: Path | None = None,
) -> ShardEntry:
    """Write `folder/name` atomically and return its manifest row; equal samples give equal bytes.

    `temporary` is as in `lavit_core.files.atomic_file`.

    Raises ValueError for samples that break the format (a bug of the caller), naming the sample's key.
    """
    tensors = _tensors(samples, codebook_size, grid)
    metadata = {"codebook_size": codebook_size, "format": "lavit-tokens", "grid": list(grid), "version": FORMAT_VERSION}
    layout = {tensor: (dtype, values.shape, values.nbytes) for tensor, (dtype, values) in tensors.items()}
    data = (np.ascontiguousarray(values).data.cast("B") for _, values in tensors.values() if values.size)
    digest, num_bytes = hashlib.sha256(), 0

    def chunks() -> Iterator[bytes | memoryview]:
        nonlocal num_bytes
        for chunk in safetensors_chunks(layout, data, {METADATA_KEY: canonical_json(metadata)}):
            digest.update(chunk)
            num_bytes += len(chunk)
            yield chunk

    write_chunks(folder / name, chunks(), temporary=temporary)
    return ShardEntry(
        file=name,
        samples=len(samples),
        codes=int(tensors["code_offsets"][1][-1]),
        bytes=num_bytes,
        sha256=digest.hexdigest(),
        source=source,
    )


def _tensors(
    samples: Sequence[TokenSample], codebook_size: int, grid: tuple[int, int]
) -> dict[str, tuple[str, np.ndarray]]:
    """Return the shard's tensors, widest type first so that every one starts aligned."""
    num_patches = grid[0] * grid[1]
    if len({sample.key for sample in samples}) != len(samples):
        raise ValueError("two samples of the shard have the same key")
    for sample in samples:
        _check_sample(sample, codebook_size, num_patches)
    keys = [sample.key.encode() for sample in samples]
    texts = [text.encode() for sample in samples for text in sample.texts]
    owners = np.repeat(np.arange(len(samples), dtype=np.int64), [len(sample.texts) for sample in samples])
    dtype = code_dtype(codebook_size)
    codes = [np.asarray(sample.codes).astype(DTYPES[dtype]) for sample in samples]
    masks = np.zeros((len(samples), num_patches), dtype=bool)
    for row, sample in enumerate(samples):
        masks[row] = sample.keep_mask
    tensors = {
        "code_offsets": ("I64", _offsets([len(part) for part in codes])),
        "key_offsets": ("I64", _offsets([len(part) for part in keys])),
        "text_offsets": ("I64", _offsets([len(part) for part in texts])),
        "text_sample": ("I64", owners),
        "codes": (dtype, np.concatenate([np.empty(0, dtype=DTYPES[dtype]), *codes])),
        "keep_mask": ("U8", np.packbits(masks, axis=1, bitorder="little")),
        "keys": ("U8", np.frombuffer(b"".join(keys), dtype=np.uint8)),
        "texts": ("U8", np.frombuffer(b"".join(texts), dtype=np.uint8)),
    }
    features = [sample.features for sample in samples if sample.features is not None]
    if features:
        if len(features) != len(samples):
            raise ValueError("some samples of the shard have features and some have none")
        rows = ("BF16", to_bfloat16(np.concatenate(features)))
        tensors = {**dict(list(tensors.items())[:5]), "features": rows, **dict(list(tensors.items())[5:])}
    return tensors


def _check_sample(sample: TokenSample, codebook_size: int, num_patches: int) -> None:
    codes, mask = np.asarray(sample.codes), np.asarray(sample.keep_mask)
    if codes.ndim != 1 or codes.dtype.kind not in "iu" or len(codes) == 0:
        raise ValueError(f"{sample.key}: codes are {codes.dtype} {codes.shape}, expected at least one integer in a row")
    if int(codes.min()) < 0 or int(codes.max()) >= codebook_size:
        found = int(codes.min()) if int(codes.min()) < 0 else int(codes.max())
        raise ValueError(f"{sample.key}: code {found}, expected 0 .. {codebook_size - 1}")
    if mask.dtype != np.bool_ or mask.shape != (num_patches,):
        raise ValueError(f"{sample.key}: keep_mask is {mask.dtype} {mask.shape}, expected bool ({num_patches},)")
    if int(mask.sum()) not in (0, len(codes)):
        raise ValueError(
            f"{sample.key}: keep_mask keeps {int(mask.sum())} patches, expected {len(codes)} (its codes) or 0"
        )
    if sample.features is not None and (sample.features.ndim != 2 or len(sample.features) != len(codes)):
        raise ValueError(f"{sample.key}: features {sample.features.shape}, expected ({len(codes)}, D)")


def _offsets(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Return float32 values as bfloat16 bits (uint16), to nearest even. Raises ValueError when one is not finite."""
    if not np.isfinite(values).all():
        raise ValueError("features hold NaN or infinity")
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Return float32 values from bfloat16 bits (uint16)."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def map_shard(file: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return a shard's tensors as read-only views over a memory map, and its metadata.

    The header is checked before anything is mapped; memory use does not grow with the file.
    Raises InputError naming the file and what is wrong in it.
    """
    try:
        with open(file, "rb") as handle:
            size = handle.seek(0, 2)
            handle.seek(0)
            length = int.from_bytes(handle.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                raise InputError(f"{file}: not a token shard (header of {length} bytes in a file of {size})")
            text = handle.read(length)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}; `lavit tokens verify` checks the directory") from None
    try:
        header = json.loads(text, object_pairs_hook=_without_duplicates)
        metadata = json.loads(header.pop("__metadata__")[METADATA_KEY])
        layout = _check_layout(header, metadata, size - 8 - length)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{file}: damaged header ({type(error).__name__}: {error}); tokenize again") from None
    raw = np.asarray(np.memmap(file, dtype=np.uint8, mode="r")) if size else np.empty(0, np.uint8)
    start = 8 + length
    tensors = {
        name: raw[start + first : start + last].view(DTYPES[dtype]).reshape(shape)
        for name, (dtype, shape, first, last) in layout.items()
    }
    for name, holder in (("code_offsets", "codes"), ("key_offsets", "keys"), ("text_offsets", "texts")):
        offsets = tensors[name]
        if int(offsets[0]) != 0 or int(offsets[-1]) != len(tensors[holder]):
            raise InputError(
                f"{file}: {name} end at {int(offsets[-1])}, expected {len(tensors[holder])}; tokenize again"
            )
    return tensors, metadata


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return dict(pairs)


def _check_layout(
    header: dict[str, Any], metadata: dict[str, Any], data_bytes: int
) -> dict[str, tuple[str, tuple[int, ...], int, int]]:
    """Return name -> (dtype, shape, first byte, last byte). Raises ValueError when the header breaks the format."""
    if metadata["format"] != "lavit-tokens" or metadata["version"] != FORMAT_VERSION:
        raise ValueError(
            f"format {metadata['format']!r} version {metadata['version']!r}, expected lavit-tokens {FORMAT_VERSION}"
        )
    expected = {**REQUIRED, "codes": code_dtype(metadata["codebook_size"])}
    if missing := sorted(expected.keys() - header.keys()):
        raise ValueError(f"no tensor {', '.join(missing)}")
    expected["features"] = "BF16"
    if unknown := sorted(header.keys() - expected.keys()):
        raise ValueError(f"unknown tensor {', '.join(unknown)}")
    layout = {}
    for name, entry in header.items():
        dtype, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        if dtype != expected[name]:
            raise ValueError(f"{name} is {dtype}, expected {expected[name]}")
        if any(type(number) is not int or number < 0 for number in (*shape, first, last)):
            raise ValueError(f"{name} has shape {shape} at {first}..{last}, expected whole numbers from 0")
        if len(shape) != RANKS.get(name, 1):
            raise ValueError(f"{name} has {len(shape)} dimensions, expected {RANKS.get(name, 1)}")
        if last - first != math.prod(shape) * DTYPES[dtype].itemsize:
            raise ValueError(f"{name} takes {last - first} bytes, expected shape {shape} of {dtype}")
        layout[name] = (dtype, shape, first, last)
    end = 0
    for name, (_, _, first, last) in sorted(layout.items(), key=lambda item: item[1][2:]):
        if first != end:
            raise ValueError(f"{name} begins at byte {first}, expected {end}")
        end = last
    if end != data_bytes:
        raise ValueError(f"tensors end at byte {end}, the file at {data_bytes}")
    _check_shapes({name: shape for name, (_, shape, _, _) in layout.items()}, metadata)
    return layout


def _check_shapes(shapes: dict[str, tuple[int, ...]], metadata: dict[str, Any]) -> None:
    num_samples, num_texts = shapes["code_offsets"][0] - 1, shapes["text_sample"][0]
    grid = metadata["grid"]
    if len(grid) != 2 or any(type(number) is not int or number < 1 for number in grid):
        raise ValueError(f"grid {grid!r:.80}, expected two whole numbers from 1")
    rows, columns = grid
    expected = {
        "key_offsets": (num_samples + 1,),
        "text_offsets": (num_texts + 1,),
        "keep_mask": (num_samples, -(-rows * columns // 8)),
    }
    if "features" in shapes:
        expected["features"] = (shapes["codes"][0], shapes["features"][1])
    for name, shape in expected.items():
        if num_samples < 0 or shapes[name] != shape:
            raise ValueError(f"{name} has shape {shapes[name]}, expected {shape}")
