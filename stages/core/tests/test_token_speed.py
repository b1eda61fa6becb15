"""Speed of reading tokens, packed: pytest -m slow -s stages/core/tests/test_token_speed.py

200,000 images of about 85 codes, page cache warm. CPU time, not wall time: a busy machine does not matter.
"""

import time

import numpy as np
import pytest
from lavit_core.tokens import Manifest, TokenReader, TokenSample, open_tokens, write_manifest, write_shard

NUM_IMAGES = 200_000
BATCH = 512
WANTED = 80e6


@pytest.fixture(scope="module", name="readers")
def readers_fixture(tmp_path_factory) -> dict[str, TokenReader]:
    random = np.random.default_rng(0)
    folders = {name: tmp_path_factory.mktemp(name) for name in ("one", "two")}
    masks = random.random((NUM_IMAGES, 256)) < 1 / 3
    masks[:, 0] = True
    samples = [
        TokenSample(key=f"{i:09d}", codes=random.integers(0, 16_384, int(mask.sum()), dtype=np.int32), keep_mask=mask)
        for i, mask in enumerate(masks)
    ]
    for name, parts in (("one", 1), ("two", 2)):
        size = NUM_IMAGES // parts
        began = time.process_time()
        shards = tuple(
            write_shard(
                folders[name],
                f"shard-{i:06d}.safetensors",
                samples[i * size : (i + 1) * size],
                codebook_size=16_384,
                grid=(16, 16),
            )
            for i in range(parts)
        )
        print(f"\nwrite, {parts} shards: {NUM_IMAGES / (time.process_time() - began):,.0f} images/CPU-s")
        manifest = Manifest(tokenizer_digest="x", codebook_size=16_384, grid=(16, 16), shards=shards)
        write_manifest(folders[name], manifest)
        size_bytes = sum(shard.bytes for shard in shards) / NUM_IMAGES
        print(f"size: {size_bytes:.1f} bytes/image at {manifest.num_codes / NUM_IMAGES:.1f} codes")
    return {name: open_tokens(folder) for name, folder in folders.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "order", "wanted"),
    # Across shards every value is moved twice: half the speed is asked for there.
    [
        ("one", "sequential", WANTED),
        ("one", "random", WANTED),
        ("two", "sequential", WANTED),
        ("two", "random", WANTED / 2),
    ],
)
def test_packed_reading(readers, name, order, wanted):
    reader = readers[name]
    indices = np.arange(len(reader)) if order == "sequential" else np.random.default_rng(1).permutation(len(reader))
    rates = []
    for _ in range(5):
        began, tokens = time.process_time(), 0
        for start in range(0, NUM_IMAGES // 2, BATCH):
            codes, _ = reader.codes(indices[start : start + BATCH])
            tokens += len(codes)
        rates.append(tokens / (time.process_time() - began))
    print(f"\nread, {name} shard(s), {order}, batches of {BATCH}: {np.median(rates) / 1e6:.0f} M tokens/CPU-s")
    assert np.median(rates) >= wanted
