"""Reading token directories: memory-mapped shards, gathered by one index array, never a Python loop over samples.

Letters: B samples asked for, T codes of them all, P patches, D feature width.
"""

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from lavit_core.errors import InputError, VerificationError
from lavit_core.files import file_sha256
from lavit_core.modeldir import recorded_digest
from lavit_core.processes import is_first_of_machine
from lavit_core.token_format import Manifest, ShardEntry, read_manifest
from lavit_core.token_shard import from_bfloat16, map_shard

_HASHING_THREADS = 8
"""Shards that are hashed at once; Python lets go of its lock meanwhile."""


class TokenReader:
    """Samples of one or more token directories, one after another; shards are mapped when first read."""

    def __init__(
        self, folders: tuple[Path, ...], manifests: tuple[Manifest, ...], prefixes: tuple[str, ...] | None = None
    ) -> None:
        self.folders, self.manifests = folders, manifests
        self.prefixes = prefixes or ("",) * len(folders)
        self._shards = [(folder / s.file, s) for folder, m in zip(folders, manifests, strict=True) for s in m.shards]
        self._before = [prefix for prefix, m in zip(self.prefixes, manifests, strict=True) for _ in m.shards]
        self._bounds = np.cumsum([0, *(shard.samples for _, shard in self._shards)])
        self._open: list[dict[str, np.ndarray] | None] = [None] * len(self._shards)

    @property
    def manifest(self) -> Manifest:
        """The manifest; of several directories, the first one's settings with the shards of all."""
        return self.manifests[0].model_copy(update={"shards": tuple(shard for _, shard in self._shards)})

    def __len__(self) -> int:
        return int(self._bounds[-1])

    def __reduce__(self) -> tuple[Callable[..., "TokenReader"], tuple[Path, ...]]:
        # A loader's worker maps the files itself; their bytes are known to be right.
        return functools.partial(open_tokens, check_digests=False, prefixes=self.prefixes), self.folders

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """Number of codes of every sample, int64 [n]."""
        parts = [np.diff(self._tensors(shard)["code_offsets"]) for shard in range(len(self._shards))]
        return np.concatenate([np.empty(0, np.int64), *parts])

    @property
    def num_texts(self) -> int:
        """Number of captions of all samples."""
        return sum(len(self._tensors(shard)["text_sample"]) for shard in range(len(self._shards)))

    @property
    def text_bytes(self) -> int:
        """Bytes that captions take in the shards, their offsets included."""
        names = ("texts", "text_offsets", "text_sample")
        return sum(self._tensors(shard)[name].nbytes for shard in range(len(self._shards)) for name in names)

    def codes(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (codes int64 [T], counts int64 [B]) of the samples, one after another in the order asked for."""
        codes, counts = self._gather(indices, "codes", np.dtype(np.int64))
        if len(codes) and (highest := int(codes.max())) >= self.manifests[0].codebook_size:
            raise InputError(
                f"{self.folders[0]}: code {highest}, expected 0 .. {self.manifests[0].codebook_size - 1}; "
                "`lavit tokens verify` names the shard"
            )
        return codes, counts

    def features(self, indices: np.ndarray) -> np.ndarray:
        """Return the stored features float32 [T, D], one row per code. Raises InputError if none are stored."""
        if self.manifests[0].feature_dim is None:
            raise InputError(f"{self.folders[0]}: holds no features; `lavit tokenize-images --features` stores them")
        return from_bfloat16(self._gather(indices, "features", np.dtype(np.uint16))[0])

    def keep_masks(self, indices: np.ndarray) -> np.ndarray:
        """Return which patches were kept, bool [B, P] in raster order; a row without any where places are unknown."""
        num_patches = self.manifests[0].num_patches
        packed = np.empty((len(indices), -(-num_patches // 8)), dtype=np.uint8)
        for shard, asked, rows in self._by_shard(indices):
            packed[asked] = self._tensors(shard)["keep_mask"][rows]
        return np.unpackbits(packed, axis=1, count=num_patches, bitorder="little").view(np.bool_)

    def keys(self, indices: np.ndarray) -> list[str]:
        """Return the samples' keys."""
        found = np.empty(len(indices), dtype=object)
        for shard, asked, rows in self._by_shard(indices):
            before = self._before[shard]
            found[asked] = [before + key for key in self._strings(shard, "keys", "key_offsets", rows)]
        return list(found)

    def texts(self, indices: np.ndarray) -> list[tuple[str, ...]]:
        """Return the samples' captions."""
        found = np.empty(len(indices), dtype=object)
        for shard, asked, rows in self._by_shard(indices):
            tensors = self._tensors(shard)
            first = np.searchsorted(tensors["text_sample"], rows, side="left")
            counts = np.searchsorted(tensors["text_sample"], rows, side="right") - first
            lines = self._strings(shard, "texts", "text_offsets", _ranges(first, counts))
            ends = np.cumsum(counts)
            groups = np.empty(len(rows), dtype=object)
            groups[:] = [tuple(lines[e - c : e]) for e, c in zip(ends.tolist(), counts.tolist(), strict=True)]
            found[asked] = groups
        return list(found)

    def _gather(self, indices: np.ndarray, name: str, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        counts = np.empty(len(indices), dtype=np.int64)
        parts = []
        for shard, asked, rows in self._by_shard(indices):
            tensors = self._tensors(shard)
            first, after = self._bounds_of(shard, "code_offsets", rows, len(tensors[name]))
            lengths = after - first
            counts[asked] = lengths
            # Checked already: every index lies inside the tensor, so "clip" only spares numpy a second pass.
            parts.append((asked, np.take(tensors[name], _ranges(first, lengths), axis=0, mode="clip")))
        if len(parts) == 1 and isinstance(parts[0][0], slice):
            return parts[0][1].astype(dtype, copy=False), counts
        width = self.manifests[0].feature_dim
        out = np.empty((int(counts.sum()), *((width or 0,) if name == "features" else ())), dtype=dtype)
        begins = np.cumsum(counts) - counts
        for asked, values in parts:
            out[_ranges(begins[asked], counts[asked])] = values
        return out, counts

    def _by_shard(self, indices: np.ndarray) -> Iterator[tuple[int, np.ndarray | slice, np.ndarray]]:
        """Yield (shard, which of `indices` lie in it, their rows there)."""
        indices = np.asarray(indices, dtype=np.int64)
        if len(indices) == 0:
            return
        low, high = int(indices.min()), int(indices.max())
        if low < 0 or high >= len(self):
            raise IndexError(f"sample {low if low < 0 else high}, expected 0 .. {len(self) - 1}")
        first, last = np.searchsorted(self._bounds, [low, high], side="right") - 1
        if first == last:
            yield int(first), slice(None), indices - self._bounds[first]
            return
        shards = np.searchsorted(self._bounds, indices, side="right") - 1
        for shard in np.unique(shards).tolist():
            asked = np.flatnonzero(shards == shard)
            yield shard, asked, indices[asked] - self._bounds[shard]

    def _bounds_of(self, shard: int, offsets: str, rows: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return where the rows begin and end in a tensor of `size`. Raises InputError if that is nowhere."""
        values = self._tensors(shard)[offsets]
        first, after = values[rows], values[rows + 1]
        if len(rows) and (int(first.min()) < 0 or int(after.max()) > size or int((after - first).min()) < 0):
            raise InputError(
                f"{self._shards[shard][0]}: {offsets} lead out of its {size} values; `lavit tokens verify` checks it"
            )
        return first, after

    def _strings(self, shard: int, name: str, offsets: str, rows: np.ndarray) -> list[str]:
        content = self._tensors(shard)[name]
        first, after = self._bounds_of(shard, offsets, rows, len(content))
        spans = zip(first.tolist(), after.tolist(), strict=True)
        try:
            return [content[begin:end].tobytes().decode() for begin, end in spans]
        except UnicodeDecodeError as error:
            file = self._shards[shard][0]
            raise InputError(f"{file}: {name} are not UTF-8 ({error.reason}); tokenize again") from None

    def _tensors(self, shard: int) -> dict[str, np.ndarray]:
        tensors = self._open[shard]
        if tensors is None:
            tensors = self._open[shard] = open_shard(*self._shards[shard], self.manifests[0])
        return tensors


def open_shard(file: Path, entry: ShardEntry, manifest: Manifest) -> dict[str, np.ndarray]:
    """Map one shard and hold it against the manifest. Raises InputError naming the shard and both values."""
    tensors, metadata = map_shard(file)
    feature_dim = tensors["features"].shape[1] if "features" in tensors else None
    found = (
        len(tensors["code_offsets"]) - 1,
        len(tensors["codes"]),
        metadata["codebook_size"],
        tuple(metadata["grid"]),
        feature_dim,
    )
    expected = (entry.samples, entry.codes, manifest.codebook_size, manifest.grid, manifest.feature_dim)
    for name, here, there in zip(
        ("samples", "codes", "codebook_size", "grid", "feature_dim"), found, expected, strict=True
    ):
        if here != there:
            raise InputError(
                f"{file}: {name} is {here}, the manifest records {there}; `lavit tokens verify` checks them all"
            )
    return tensors


def open_tokens(*folders: Path, prefixes: tuple[str, ...] | None = None, check_digests: bool = True) -> TokenReader:
    """Open token directories made with one tokenizer as one sequence of samples; `prefixes` go before their keys.

    Sizes and headers are always held against the manifest. With `check_digests` every byte is too: all files are read,
    under torchrun by the first process of each machine.
    Raises InputError if a directory or shard is missing or malformed, or if tokenizers differ; VerificationError if a
    shard's bytes are not those that were written.
    """
    manifests = tuple(read_manifest(folder) for folder in folders)
    for folder, manifest in zip(folders, manifests, strict=True):
        if not manifest.num_samples:
            raise InputError(f"{folder}: holds no images; `lavit tokenize-images` fills a token directory")
        for name in ("tokenizer_digest", "codebook_size", "grid", "feature_dim"):
            here, there = getattr(manifest, name), getattr(manifests[0], name)
            if here != there:
                raise InputError(
                    f"{folder}: {name} is {here}, {folders[0]} has {there}; tokenize both with one tokenizer"
                )
        for shard in manifest.shards:
            file = folder / shard.file
            size = file.stat().st_size if file.is_file() else None
            if size != shard.bytes:
                found = "missing" if size is None else f"{size} bytes"
                raise InputError(f"{file}: {found}, expected {shard.bytes} bytes; run `lavit tokenize-images` again")
    reader = TokenReader(folders, manifests, prefixes)
    if check_digests and is_first_of_machine():
        _check_digests(reader)
    return reader


def _check_digests(reader: TokenReader) -> None:
    """Read every shard. Raises VerificationError naming the first one whose bytes were changed."""
    folders = dict(zip(reader.folders, reader.manifests, strict=True))
    shards = [(folder / shard.file, shard.sha256) for folder, manifest in folders.items() for shard in manifest.shards]
    with ThreadPoolExecutor(min(_HASHING_THREADS, os.cpu_count() or 1)) as pool:
        digests = pool.map(file_sha256, (file for file, _ in shards))
        for (file, expected), found in zip(shards, digests, strict=True):
            if found != expected:
                pool.shutdown(cancel_futures=True)
                raise VerificationError(
                    f"{file}: SHA-256 {found[:12]}, expected {expected[:12]}: damaged after it was written; "
                    "delete it and run the same `lavit tokenize-images` again"
                )


def check_tokenizer(reader: TokenReader, model: Path) -> None:
    """Raise InputError, with both digests, if tokens were made by another tokenizer than the model's."""
    made_with, present = reader.manifest.tokenizer_digest, recorded_digest(model, "tokenizer")
    if made_with != present:
        raise InputError(
            f"{reader.folders[0]}: made with tokenizer {made_with[:12]}, {model} holds tokenizer {present[:12]}; "
            "run `lavit tokenize-images` with this model"
        )


def _ranges(first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return first[0] .. first[0]+counts[0]-1, first[1] .. as one int64 array."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    index = np.repeat(first - (ends - counts), counts)
    index += np.arange(total)
    return index
