"""Speed of writing and reading tokens, packed: about 85 codes an image, files in the page cache.

    python stages/core/benchmarks/read_tokens.py --images 200000

CPU time, not wall time: a busy machine matters less.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from lavit_core.tokens import Manifest, TokenReader, TokenSample, open_tokens, write_manifest, write_shard

CODEBOOK_SIZE, GRID = 16_384, (16, 16)


def main() -> None:
    """Print the rates of one and of two shards, read in order and at random."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    samples = draw_samples(asked.images)
    for shards in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            reader = write(Path(folder), samples, shards)
            for name in ("sequential", "random"):
                rate = statistics.median(read(reader, name, asked.batch) for _ in range(asked.rounds))
                print(f"read, {shards} shards, {name}, batches of {asked.batch}: {rate / 1e6:.0f} M tokens/CPU-s")


def draw_samples(count: int) -> list[TokenSample]:
    """Return samples that keep a third of the patches."""
    random = np.random.default_rng(0)
    masks = random.random((count, GRID[0] * GRID[1])) < 1 / 3
    masks[:, 0] = True
    return [
        TokenSample(
            key=f"{i:09d}", codes=random.integers(0, CODEBOOK_SIZE, int(mask.sum()), dtype=np.int32), keep_mask=mask
        )
        for i, mask in enumerate(masks)
    ]


def write(folder: Path, samples: list[TokenSample], shards: int) -> TokenReader:
    """Write the samples in that many shards, and open them."""
    size = len(samples) // shards
    began = time.process_time()
    written = tuple(
        write_shard(
            folder,
            f"shard-{i:06d}.safetensors",
            samples[i * size : (i + 1) * size],
            codebook_size=CODEBOOK_SIZE,
            grid=GRID,
        )
        for i in range(shards)
    )
    print(f"write, {shards} shards: {len(samples) / (time.process_time() - began):,.0f} images/CPU-s")
    manifest = Manifest(tokenizer_digest="x", codebook_size=CODEBOOK_SIZE, grid=GRID, shards=written)
    write_manifest(folder, manifest)
    num_bytes, num_images = sum(shard.bytes for shard in written), size * shards
    print(f"size: {num_bytes / num_images:.1f} bytes/image at {manifest.num_codes / num_images:.1f} codes")
    return open_tokens(folder)


def read(reader: TokenReader, order: str, batch: int) -> float:
    """Return the tokens a CPU second of one pass over half of the images."""
    indices = np.arange(len(reader)) if order == "sequential" else np.random.default_rng(1).permutation(len(reader))
    began, tokens = time.process_time(), 0
    for start in range(0, len(reader) // 2, batch):
        codes, _ = reader.codes(indices[start : start + batch])
        tokens += len(codes)
    return tokens / (time.process_time() - began)


if __name__ == "__main__":
    main()
