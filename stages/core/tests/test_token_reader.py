import pickle
import subprocess
import sys

import numpy as np
import pytest
from lavit_core.errors import InputError, VerificationError
from lavit_core.files import write_json
from lavit_core.modeldir import part_digest
from lavit_core.token_format import Manifest, read_manifest, write_manifest
from lavit_core.tokens import TokenSample, check_tokenizer, open_tokens


@pytest.mark.parametrize("asked", [[0], [3, 3, 3], [29, 0, 11, 10, 9], list(range(30)), [], [12, 13, 19]])
def test_against_a_plain_loop(tmp_path, samples, tokens, asked):
    content = samples(30, features=True)
    reader = open_tokens(tokens(tmp_path / "t", content))
    indices = np.array(asked, dtype=np.int64)
    codes, counts = reader.codes(indices)
    expected = [content[i] for i in asked]
    assert codes.dtype == counts.dtype == np.int64
    assert codes.tolist() == [code for sample in expected for code in sample.codes.tolist()]
    assert counts.tolist() == [len(sample.codes) for sample in expected]
    masks = reader.keep_masks(indices)
    assert masks.dtype == np.bool_
    assert masks.shape == (len(asked), 64)
    assert masks.tolist() == [sample.keep_mask.tolist() for sample in expected]
    assert reader.keys(indices) == [sample.key for sample in expected]
    assert reader.texts(indices) == [sample.texts for sample in expected]
    features = reader.features(indices)
    assert features.dtype == np.float32
    wanted = np.concatenate([features[:0], *(sample.features for sample in expected)])
    # bfloat16 keeps 8 significant bits: rounding moves a value by at most 2 ** -8 of itself.
    np.testing.assert_allclose(features, wanted, rtol=2**-8)


def test_counts_length_and_manifest_over_several_folders(tmp_path, samples, tokens):
    first, second = samples(12), samples(15, seed=1)
    reader = open_tokens(tokens(tmp_path / "a", first), tokens(tmp_path / "b", second))
    assert len(reader) == 27
    assert reader.counts.tolist() == [len(sample.codes) for sample in first + second]
    assert reader.manifest.num_samples == 27
    assert reader.keys(np.array([26, 0, 12])) == [second[14].key, first[0].key, second[0].key]


def test_random_order_across_shards(tmp_path, samples, tokens):
    content = samples(100)
    reader = open_tokens(tokens(tmp_path / "t", content, shard_samples=7))
    order = np.random.default_rng(0).permutation(100)
    codes, _ = reader.codes(order)
    np.testing.assert_array_equal(codes, np.concatenate([content[i].codes for i in order]))


def test_codes_without_places(tmp_path, tokens):
    sampled = TokenSample(key="s", codes=np.array([5]), keep_mask=np.zeros(64, bool))
    reader = open_tokens(tokens(tmp_path / "t", [sampled]))
    assert not reader.keep_masks(np.array([0])).any()


def test_pickled_reader_reads_the_same(tmp_path, samples, tokens):
    reader = open_tokens(tokens(tmp_path / "t", samples(20)))
    reader.codes(np.array([0]))
    content = pickle.dumps(reader)
    assert len(content) < 1000
    np.testing.assert_array_equal(pickle.loads(content).codes(np.arange(20))[0], reader.codes(np.arange(20))[0])


def test_bad_indices_are_bugs(tmp_path, samples, tokens):
    reader = open_tokens(tokens(tmp_path / "t", samples(5)))
    for bad in (5, -1):
        with pytest.raises(IndexError, match=r"expected 0 .. 4"):
            reader.codes(np.array([0, bad]))


def test_refusals_name_both_values(tmp_path, samples, tokens):
    with pytest.raises(InputError, match="not a token directory"):
        open_tokens(tmp_path)
    folder = tokens(tmp_path / "a", samples(5))
    with pytest.raises(InputError, match=r"holds no features; `lavit tokenize-images --features`"):
        open_tokens(folder).features(np.array([0]))
    with pytest.raises(InputError, match=f"tokenizer_digest is {'e' * 64}"):
        open_tokens(folder, tokens(tmp_path / "b", samples(5), digest="e" * 64))
    with pytest.raises(InputError, match="holds no images"):
        open_tokens(tokens(tmp_path / "c", []))
    shard = folder / "shard-000000.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(InputError, match=f"{len(content) - 1} bytes, expected {len(content)}"):
        open_tokens(folder)
    shard.unlink()
    with pytest.raises(InputError, match=r"shard-000000.safetensors: missing"):
        open_tokens(folder)


def test_a_flipped_byte_of_a_shard_is_refused_when_tokens_are_opened(tmp_path, samples, tokens):
    folder = tokens(tmp_path / "t", samples(30, features=True))
    shard = folder / "shard-000002.safetensors"
    content = shard.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(content), 40):
        broken = bytearray(content)
        broken[place] ^= 1
        shard.write_bytes(broken)
        with pytest.raises(VerificationError, match=r"shard-000002.safetensors: SHA-256 .*; delete it"):
            open_tokens(folder)


def test_digests_are_checked_once_on_each_machine(tmp_path, samples, tokens, monkeypatch):
    folder = tokens(tmp_path / "t", samples(5))
    reader = open_tokens(folder)
    shard = folder / "shard-000000.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    pickle.loads(pickle.dumps(reader))  # a worker of this process
    open_tokens(folder, check_digests=False)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    open_tokens(folder)
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(VerificationError):
        open_tokens(folder)


def test_shard_of_another_manifest(tmp_path, samples, tokens):
    folder = tokens(tmp_path / "a", samples(5))
    write_manifest(folder, read_manifest(folder).model_copy(update={"codebook_size": 300}))
    with pytest.raises(InputError, match="codebook_size is 512, the manifest records 300"):
        open_tokens(folder).codes(np.array([0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": True}, "version: Input should be a valid integer, found True"),
        ({"tokenizer_digest": "\x1b[31m"}, "tokenizer_digest: String should match pattern"),
        ({"codebook_size": 1 << 32}, "codebook_size: Input should be less than or equal to 16777216"),
        ({"codebook_size": 8.0}, "codebook_size: Input should be a valid integer, found 8.0"),
        ({"grid": [-8, -8]}, r"grid.0: Input should be greater than or equal to 1, found -8"),
        ({"grid": [8.0, 8.0]}, r"grid.0: Input should be a valid integer, found 8.0"),
        ({"feature_dim": -1}, "feature_dim: Input should be greater than or equal to 0"),
        ({"samples": 1e30}, r"shards.0.samples: Input should be a valid integer, found 1e\+30"),
        ({"bytes": 1 << 60}, "shards.0.bytes: Input should be less than or equal to 9007199254740992"),
        ({"file": "x" * 5000}, "shards.0.file: String should have at most 255 characters, found 'xxx"),
        ({"file": "a\x1b[2Jb"}, "expected a file name without folders and control characters"),
    ],
)
def test_impossible_values_of_a_manifest_are_named(tmp_path, changes, message):
    entry = {"file": "a", "samples": 1, "codes": 1, "bytes": 1, "sha256": "0" * 64}
    values = {"version": 1, "tokenizer_digest": "d", "codebook_size": 8, "grid": [8, 8], "shards": [entry]}
    write_json(tmp_path / "manifest.json", values)
    read_manifest(tmp_path)
    for name, value in changes.items():
        (entry if name in entry else values)[name] = value
    write_json(tmp_path / "manifest.json", values)
    with pytest.raises(InputError, match=message) as caught:
        read_manifest(tmp_path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "format version None, this lavit-core reads 1"),
        ('{"version": 2}', "format version 2"),
        ('{"version": 1}', "tokenizer_digest: Field required"),
    ],
)
def test_damaged_manifests(tmp_path, content, message):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path)


def test_shard_names_stay_inside_the_folder(tmp_path, samples, tokens):
    folder = tokens(tmp_path / "a", samples(5))
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace("shard-000000", "../a/shard-000000"))
    with pytest.raises(InputError, match="without folders"):
        read_manifest(folder)


def test_check_tokenizer(tmp_path, samples, tokens):
    part = tmp_path / "model" / "tokenizer"
    part.mkdir(parents=True)
    (part / "config.json").write_text("{}")
    check_tokenizer(open_tokens(tokens(tmp_path / "a", samples(3), digest=part_digest(part))), tmp_path / "model")
    with pytest.raises(InputError, match=r"made with tokenizer dddddddddddd, .* holds tokenizer [0-9a-f]{12}"):
        check_tokenizer(open_tokens(tokens(tmp_path / "b", samples(3))), tmp_path / "model")


def test_manifest_bytes_depend_on_content_alone(tmp_path):
    manifest = Manifest(tokenizer_digest="a", codebook_size=4, grid=(2, 2), selection={"policy": "topk", "k": 3})
    write_manifest(tmp_path, manifest)
    first = (tmp_path / "manifest.json").read_bytes()
    write_manifest(tmp_path, read_manifest(tmp_path))
    assert (tmp_path / "manifest.json").read_bytes() == first


MILLION = """
import json, sys
from pathlib import Path
import numpy as np
from lavit_core.files import canonical_json, file_sha256
from lavit_core.token_format import Manifest, ShardEntry, write_manifest

folder, n = Path(sys.argv[1]), 1_000_000
tensors = {"code_offsets": ("I64", [n + 1], 8), "key_offsets": ("I64", [n + 1], 8), "text_offsets": ("I64", [1], 8),
           "text_sample": ("I64", [0], 8), "codes": ("U16", [85 * n], 2), "keep_mask": ("U8", [n, 32], 1),
           "keys": ("U8", [9 * n], 1), "texts": ("U8", [0], 1)}
about = canonical_json({"codebook_size": 16384, "format": "lavit-tokens", "grid": [16, 16], "version": 1})
header, end = {"__metadata__": {"lavit": about}}, 0
for name, (dtype, shape, width) in tensors.items():
    size = int(np.prod(shape)) * width
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
    end += size
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(folder / "big.safetensors", "wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    file.write((np.arange(n + 1) * 85).tobytes() + (np.arange(n + 1) * 9).tobytes())
    file.truncate(8 + len(text) + end)
entry = ShardEntry(file="big.safetensors", samples=n, codes=85 * n, bytes=8 + len(text) + end,
                   sha256=file_sha256(folder / "big.safetensors"))
write_manifest(folder, Manifest(tokenizer_digest="x", codebook_size=16384, grid=(16, 16), shards=(entry,)))
"""

OPEN = """
import sys
from pathlib import Path
import numpy as np
from lavit_core.tokens import open_tokens
def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split()[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss")}
before = resident()
reader = open_tokens(Path(sys.argv[1]))
codes, counts = reader.codes(np.array([0, 999_999, 500_000]))
reader.keep_masks(np.array([7]))
assert len(reader) == 1_000_000 and counts.tolist() == [85] * 3
print(*(resident()[name] - before[name] for name in ("RssAnon:", "RssFile:")))
"""


def test_opening_a_million_images_takes_no_memory(tmp_path):
    subprocess.run([sys.executable, "-c", MILLION, str(tmp_path)], check=True)
    done = subprocess.run([sys.executable, "-c", OPEN, str(tmp_path)], check=True, capture_output=True, text=True)
    own, mapped = map(int, done.stdout.split())
    # The file has 227 MB, its offsets alone 16 MB; touched pages are mapped with their neighbours, as is the library
    # of SHA-256.
    assert own < 4 << 20
    assert mapped < 12 << 20


def test_bytes_an_image(tmp_path, tokens):
    random = np.random.default_rng(0)
    content = [
        TokenSample(key=f"{i:06d}", codes=random.integers(0, 512, 22), keep_mask=np.arange(64) < 22) for i in range(200)
    ]
    reader = open_tokens(tokens(tmp_path / "t", content, shard_samples=200))
    # Codes 44, mask 8, two offsets 16, key 6; the header is shared.
    assert reader.manifest.shards[0].bytes / 200 < 74 + 8
