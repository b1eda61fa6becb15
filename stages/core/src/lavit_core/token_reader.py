"""Reading token directories: memory-mapped shards, gathered by one index array, never a Python loop over samples.

Letters: B samples asked for, T codes of them all, P patches, D feature width.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from lavit_core.errors import InputError
from lavit_core.files import file_sha256
from lavit_core.modeldir import recorded_digest
from lavit_core.token_format import Manifest, ShardEntry, read_manifest
from lavit_core.token_shard import from_bfloat16, map_shard


class TokenReader:
    """Samples of one or more token directories, one after another; shards are mapped when first read."""

    def __init__(self, folders: tuple[Path, ...], manifests: tuple[Manifest, ...]) -> None:
        self.folders, self.manifests = folders, manifests
        self._shards = [(folder / s.file, s) for folder, m in zip(folders, manifests, strict=True) for s in m.shards]
        self._bounds = np.cumsum([0, *(shard.samples for _, shard in self._shards)])
        self._open: list[dict[str, np.ndarray] | None] = [None] * len(self._shards)

    @property
    def manifest(self) -> Manifest:
        """The manifest; of several directories, the first one's settings with the shards of all."""
        return self.manifests[0].model_copy(update={"shards": tuple(shard for _, shard in self._shards)})

    def __len__(self) -> int:
        return int(self._bounds[-1])

    def __reduce__(self) -> tuple[Callable[..., "TokenReader"], tuple[Path, ...]]:
        return open_tokens, self.folders  # a loader's worker maps the files itself

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
        return self._gather(indices, "codes", np.dtype(np.int64))

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
            tensors = self._tensors(shard)
            found[asked] = _strings(tensors["keys"], tensors["key_offsets"], rows)
        return list(found)

    def texts(self, indices: np.ndarray) -> list[tuple[str, ...]]:
        """Return the samples' captions."""
        found = np.empty(len(indices), dtype=object)
        for shard, asked, rows in self._by_shard(indices):
            tensors = self._tensors(shard)
            first = np.searchsorted(tensors["text_sample"], rows, side="left")
            counts = np.searchsorted(tensors["text_sample"], rows, side="right") - first
            lines = _strings(tensors["texts"], tensors["text_offsets"], _ranges(first, counts))
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
            first = tensors["code_offsets"][rows]
            lengths = tensors["code_offsets"][rows + 1] - first
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


def open_tokens(*folders: Path, check_digests: bool = False) -> TokenReader:
    """Open token directories made with one tokenizer as one sequence of samples.

    Sizes and headers are always held against the manifest, every byte with `check_digests` (reads all the files).
    Raises InputError if a directory or shard is missing or damaged, or if tokenizers differ.
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
            if check_digests and (digest := file_sha256(file)) != shard.sha256:
                raise InputError(
                    f"{file}: SHA-256 {digest[:12]}, expected {shard.sha256[:12]}; "
                    "delete it and run `lavit tokenize-images` again"
                )
    return TokenReader(folders, manifests)


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


def _strings(content: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> list[str]:
    begins, ends = offsets[rows].tolist(), offsets[rows + 1].tolist()
    return [content[begin:end].tobytes().decode() for begin, end in zip(begins, ends, strict=True)]
