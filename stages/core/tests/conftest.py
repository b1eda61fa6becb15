"""Small token directories and images that the tests of lavit-core share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from lavit_core.tokens import Manifest, TokenSample, write_manifest, write_shard

if TYPE_CHECKING:
    from .layout_writers import Photos


def make_samples(count: int, *, seed: int = 0, features: bool = False, codebook_size: int = 512) -> list[TokenSample]:
    random = np.random.default_rng(seed)
    samples = []
    for i in range(count):
        mask = random.random(64) < 0.35
        mask[i % 64] = True
        num = int(mask.sum())
        samples.append(
            TokenSample(
                key=f"images/{seed}-{i:05d}.png",
                codes=random.integers(0, codebook_size, num),
                keep_mask=mask,
                texts=tuple(f"caption {j} of {i} é" for j in range(i % 4)),
                features=random.standard_normal((num, 6)).astype(np.float32) if features else None,
            )
        )
    return samples


def write_tokens(
    folder: Path,
    samples: list[TokenSample],
    *,
    shard_samples: int = 10,
    codebook_size: int = 512,
    digest: str = "d" * 64,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    shards = [
        write_shard(
            folder,
            f"shard-{start // shard_samples:06d}.safetensors",
            samples[start : start + shard_samples],
            codebook_size=codebook_size,
            grid=(8, 8),
            source="test",
        )
        for start in range(0, len(samples), shard_samples)
    ]
    first = samples[0].features if samples else None
    manifest = Manifest(
        tokenizer_digest=digest,
        codebook_size=codebook_size,
        grid=(8, 8),
        feature_dim=None if first is None else first.shape[1],
        shards=tuple(shards),
    )
    write_manifest(folder, manifest)
    return folder


@pytest.fixture(name="samples")
def samples_fixture() -> Callable[..., list[TokenSample]]:
    return make_samples


@pytest.fixture(name="tokens")
def tokens_fixture() -> Callable[..., Path]:
    return write_tokens


@pytest.fixture(name="photos")
def photos_fixture(tmp_path: Path) -> "Photos":
    from .layout_writers import make_photos  # here: processes of test_token_shard import this file alone

    return make_photos(tmp_path / "photos")
