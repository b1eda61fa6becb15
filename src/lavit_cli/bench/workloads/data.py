"""Reading: codes of an epoch in batches, beside the other ways to keep them; images, beside Pillow alone."""

import importlib.util
import io
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.images import square_pixels
from lavit_core.seeds import derive_seed
from lavit_core.tokens import Manifest, TokenReader, TokenSample, open_tokens, write_manifest, write_shard
from PIL import Image

from lavit_cli.bench.comparison import Arm, BenchSettings, Comparison, Skipped, Unequal

CODEBOOK_SIZE, GRID, BATCH = 16_384, (16, 16), 512
IMAGE_PX = 224
Codes = tuple[np.ndarray, np.ndarray]
"""Codes [T] of an epoch, one sample after another, and how many each sample has [N]."""


def compare(settings: BenchSettings) -> Iterator[Comparison | Skipped]:
    """Yield readers of tokens and of images."""
    counts = (10_000, 100_000, 1_000_000) if settings.full else (1_000, 5_000, 25_000)
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            yield from tokens(Path(folder), count, settings, last=count == counts[-1])
    yield from decoding(settings)


def draw_samples(count: int, seed: int) -> list[TokenSample]:
    """Return samples that keep about a third of the patches."""
    random = np.random.default_rng(derive_seed(seed, "bench", "tokens"))
    masks = random.random((count, GRID[0] * GRID[1])) < 1 / 3
    masks[:, 0] = True
    return [
        TokenSample(
            key=f"{i:09d}", codes=random.integers(0, CODEBOOK_SIZE, int(mask.sum()), dtype=np.int32), keep_mask=mask
        )
        for i, mask in enumerate(masks)
    ]


def tokens(folder: Path, count: int, settings: BenchSettings, *, last: bool) -> Iterator[Comparison | Skipped]:
    """Yield an epoch in order against a tar; of the largest size also in random order, against other stores."""
    samples = draw_samples(count, settings.seed)
    num_codes = sum(len(sample.codes) for sample in samples)
    reader = _shards(folder / "shards", samples)
    in_order = np.arange(count)
    shuffled = np.random.default_rng(derive_seed(settings.seed, "bench", "order")).permutation(count)
    size = f"{count:,} samples of {num_codes / count:.0f} codes, batches of {BATCH}"

    def against(name: str, plain: Callable[[], Codes], order: np.ndarray, goal: float | None) -> Comparison:
        return Comparison(
            name=f"tokens, {'in' if order is in_order else 'random'} order",
            size=size,
            dtype="",
            baseline=Arm(name=name, run=plain),
            ours=Arm(name="token shard", run=lambda: _read(reader, order)),
            equal=_same_arrays,
            unit="codes",
            amount=num_codes,
            goal=goal,
            curve="tokens in order, tar" if order is in_order else None,
            at=count if order is in_order else None,
        )

    tar = _write_tar(folder / "samples.tar", samples)
    yield against("tar of arrays", lambda: _read_tar(tar), in_order, 40.0 if last else None)
    if not last:
        return
    stored = _write_tensors(folder / "samples.safetensors", samples)
    yield against("safetensors, get_slice a sample", lambda: _read_slices(stored, samples, shuffled), shuffled, None)
    if importlib.util.find_spec("pyarrow") is None:
        yield Skipped(name="tokens, random order: Parquet", why="needs pyarrow")
        return
    parquet = _write_parquet(folder / "samples.parquet", samples)
    yield against("Parquet, rows taken from memory", lambda: _read_parquet(parquet, shuffled), shuffled, None)
    if importlib.util.find_spec("datasets") is None:
        yield Skipped(name="tokens, random order: Parquet through datasets", why="needs datasets")
        return
    rows = _open_dataset(parquet, folder / "cache")
    yield against("Parquet through datasets", lambda: _read_dataset(rows, shuffled), shuffled, 10.0)


def _shards(folder: Path, samples: list[TokenSample]) -> TokenReader:
    folder.mkdir()
    entry = write_shard(folder, "shard-000000.safetensors", samples, codebook_size=CODEBOOK_SIZE, grid=GRID)
    write_manifest(folder, Manifest(tokenizer_digest="bench", codebook_size=CODEBOOK_SIZE, grid=GRID, shards=(entry,)))
    return open_tokens(folder)


def _read(reader: TokenReader, order: np.ndarray) -> Codes:
    return _joined([reader.codes(order[start : start + BATCH]) for start in range(0, len(order), BATCH)])


def _write_tar(file: Path, samples: list[TokenSample]) -> Path:
    with tarfile.open(file, "w") as tar:
        for sample in samples:
            out = io.BytesIO()
            np.save(out, sample.codes.astype(np.uint16))
            member = tarfile.TarInfo(f"{sample.key}.npy")
            member.size = out.tell()
            out.seek(0)
            tar.addfile(member, out)
    return file


def _read_tar(file: Path) -> Codes:
    """Read the members one after another, as webdataset does, and batch them."""
    batches, batch = [], []
    with tarfile.open(file, "r|") as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            batch.append(np.load(io.BytesIO(content.read())))
            if len(batch) == BATCH:
                batches.append(_batched(batch))
                batch = []
    return _joined([*batches, *([_batched(batch)] if batch else [])])


def _write_tensors(file: Path, samples: list[TokenSample]) -> Path:
    from safetensors.numpy import save_file

    ends = np.cumsum([len(sample.codes) for sample in samples])
    codes = np.concatenate([sample.codes for sample in samples]).astype(np.uint16)
    save_file({"codes": codes, "ends": ends}, file)
    return file


def _read_slices(file: Path, samples: list[TokenSample], order: np.ndarray) -> Codes:
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as opened:
        bounds = np.concatenate([[0], opened.get_tensor("ends")]).tolist()
        codes, batches = opened.get_slice("codes"), []
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH].tolist()
            batches.append(_batched([codes[bounds[row] : bounds[row + 1]] for row in rows]))
    return _joined(batches)


def _write_parquet(file: Path, samples: list[TokenSample]) -> Path:
    import pyarrow
    import pyarrow.parquet

    column = pyarrow.array([sample.codes.astype(np.uint16) for sample in samples], pyarrow.list_(pyarrow.uint16()))
    pyarrow.parquet.write_table(pyarrow.table({"codes": column}), file)
    return file


def _read_parquet(file: Path, order: np.ndarray) -> Codes:
    """Read the column once, and take each batch's rows from it."""
    import pyarrow.parquet

    column = pyarrow.parquet.read_table(file, use_threads=False)["codes"].combine_chunks()
    batches = []
    for start in range(0, len(order), BATCH):
        taken = column.take(pyarrow.array(order[start : start + BATCH]))
        batches.append((taken.flatten().to_numpy().astype(np.int64), np.diff(taken.offsets.to_numpy())))
    return _joined(batches)


def _open_dataset(file: Path, cache: Path) -> Any:
    import datasets

    datasets.disable_progress_bars()
    return datasets.Dataset.from_parquet(str(file), cache_dir=str(cache)).with_format("numpy")


def _read_dataset(rows: Any, order: np.ndarray) -> Codes:
    """Read batches of rows by their numbers."""
    return _joined([_batched(rows[order[at : at + BATCH]]["codes"]) for at in range(0, len(order), BATCH)])


def _batched(rows: Sequence[np.ndarray]) -> Codes:
    return np.concatenate(rows).astype(np.int64), np.array([len(row) for row in rows])


def _joined(batches: list[Codes]) -> Codes:
    codes, counts = zip(*batches, strict=True)
    return np.concatenate(codes), np.concatenate(counts)


def _same_arrays(theirs: Codes, ours: Codes) -> str:
    for one, other in zip(theirs, ours, strict=True):
        if not np.array_equal(one, other):
            raise Unequal("other numbers were read")
    return f"{len(theirs[0]):,} codes are equal"


def decoding(settings: BenchSettings) -> Iterator[Comparison]:
    """Yield JPEG files into the encoder's square, against Pillow alone."""
    count = 100 if settings.full else 20
    for width, height in ((500, 375), (2000, 1500)):
        files = _photos(count, (width, height), settings.seed)
        yield Comparison(
            name="JPEG to pixels",
            size=f"{count} images of {width} x {height} to {IMAGE_PX} px",
            dtype="",
            baseline=Arm(name="Pillow alone", run=lambda files=files: np.stack([_bare(file) for file in files])),  # type: ignore[misc]
            ours=Arm(
                name="checked, upright, opaque",
                run=lambda files=files: np.stack([square_pixels(file, IMAGE_PX) for file in files]),  # type: ignore[misc]
            ),
            equal=_same_pixels,
            unit="images",
            amount=count,
            goal=0.95,
        )


def _bare(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB").resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BICUBIC))


def _photos(count: int, size: tuple[int, int], seed: int) -> list[bytes]:
    """Return JPEG files of smooth noise."""
    random = np.random.default_rng(derive_seed(seed, "bench", "photos", *size))
    files = []
    for _ in range(count):
        out = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(size).save(out, "JPEG", quality=85)
        files.append(out.getvalue())
    return files


def _same_pixels(theirs: np.ndarray, ours: np.ndarray) -> str:
    if not np.array_equal(theirs, ours):
        raise Unequal("other pixels were read")
    return "every pixel is equal"
