"""The frozen token directory of format version 1 reads as it always did, by lavit and by the example without lavit."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from lavit_core.token_check import verify_tokens
from lavit_core.tokens import TokenSample, open_tokens, read_manifest, write_manifest, write_shard

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "tokens-v1"
EXPECTED = json.loads(GOLDEN.with_suffix(".json").read_text(encoding="utf-8"))


def test_reads_as_frozen():
    reader = open_tokens(GOLDEN, check_digests=True)
    everything = np.arange(len(reader))
    codes, counts = reader.codes(everything)
    found = zip(
        reader.keys(everything),
        np.split(codes, np.cumsum(counts)[:-1]),
        reader.keep_masks(everything),
        reader.texts(everything),
        np.split(reader.features(everything), np.cumsum(counts)[:-1]),
        strict=True,
    )
    for row, (key, image_codes, mask, texts, features) in zip(EXPECTED, found, strict=True):
        assert (key, image_codes.tolist(), list(texts)) == (row["key"], row["codes"], row["captions"])
        assert np.flatnonzero(mask).tolist() == row["patches"]
        assert features.tolist() == row["features"]
    assert verify_tokens(GOLDEN, quiet=True) == []


def test_written_again_gives_the_same_bytes(tmp_path):
    manifest = read_manifest(GOLDEN)
    samples = [
        TokenSample(
            key=row["key"],
            codes=np.array(row["codes"]),
            keep_mask=np.isin(np.arange(manifest.num_patches), row["patches"]),
            texts=tuple(row["captions"]),
            features=np.array(row["features"], dtype=np.float32),
        )
        for row in EXPECTED
    ]
    start = 0
    for shard in manifest.shards:
        part = samples[start : start + shard.samples]
        size = manifest.codebook_size
        entry = write_shard(tmp_path, shard.file, part, codebook_size=size, grid=manifest.grid, source=shard.source)
        assert entry == shard
        start += shard.samples
    write_manifest(tmp_path, manifest)
    for file in GOLDEN.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_example_reads_the_same():
    file = ROOT / "examples" / "read_tokens.py"
    if not file.exists():
        pytest.skip("examples/ is not part of this distribution")
    spec = importlib.util.spec_from_file_location("read_tokens", file)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    rows = list(example.read_tokens(GOLDEN))
    assert [(k, c.tolist(), p.tolist(), t) for k, c, p, t in rows] == [
        (row["key"], row["codes"], row["patches"], row["captions"]) for row in EXPECTED
    ]
    features = np.concatenate([example.read_features(file) for file in sorted(GOLDEN.glob("*.safetensors"))])
    assert features.tolist() == [vector for row in EXPECTED for vector in row["features"]]
    assert "lavit" not in {
        line.split()[1] for line in file.read_text().splitlines() if line.startswith(("import", "from"))
    }
