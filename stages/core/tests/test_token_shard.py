import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from lavit_core.errors import InputError
from lavit_core.token_shard import TokenSample, from_bfloat16, map_shard, to_bfloat16, write_shard
from safetensors import safe_open
from safetensors.numpy import load_file

NAME = "shard-000000.safetensors"


def sample(**changes) -> TokenSample:
    values = {"key": "a", "codes": np.array([1, 2]), "keep_mask": np.arange(64) < 2, "texts": ("x",), **changes}
    return TokenSample(**values)


def write(folder: Path, content: list[TokenSample], codebook_size: int = 512):
    return write_shard(folder, NAME, content, codebook_size=codebook_size, grid=(8, 8))


def test_safetensors_reads_what_we_write(tmp_path, samples):
    content = samples(7)
    entry = write(tmp_path, content)
    found = load_file(tmp_path / NAME)
    np.testing.assert_array_equal(found["codes"], np.concatenate([s.codes for s in content]))
    assert found["codes"].dtype == np.uint16
    np.testing.assert_array_equal(np.diff(found["code_offsets"]), [len(s.codes) for s in content])
    bits = np.unpackbits(found["keep_mask"], axis=1, bitorder="little")
    np.testing.assert_array_equal(bits, np.stack([s.keep_mask for s in content]))
    assert found["keys"].tobytes().decode() == "".join(s.key for s in content)
    assert found["texts"].tobytes().decode() == "".join(text for s in content for text in s.texts)
    np.testing.assert_array_equal(found["text_sample"], [i for i, s in enumerate(content) for _ in s.texts])
    assert (entry.samples, entry.codes, entry.bytes) == (7, len(found["codes"]), (tmp_path / NAME).stat().st_size)
    with safe_open(tmp_path / NAME, "np") as file:
        assert list(file.metadata()) == ["lavit"]


def test_map_agrees_with_safetensors(tmp_path, samples):
    write(tmp_path, samples(5))
    tensors, about = map_shard(tmp_path / NAME)
    for name, values in load_file(tmp_path / NAME).items():
        np.testing.assert_array_equal(tensors[name], values)
        assert tensors[name].flags.aligned
        assert not tensors[name].flags.writeable
    assert about["grid"] == [8, 8]


def test_four_bytes_a_code_past_65536(tmp_path):
    write(tmp_path, [sample(codes=np.array([65_536, 3]))], codebook_size=65_537)
    assert load_file(tmp_path / NAME)["codes"].tolist() == [65_536, 3]
    write(tmp_path, [sample(codes=np.array([65_535, 3]))], codebook_size=65_536)
    assert load_file(tmp_path / NAME)["codes"].dtype == np.uint16


def test_empty_shard(tmp_path):
    assert write(tmp_path, []).samples == 0
    tensors, _ = map_shard(tmp_path / NAME)
    assert len(tensors["code_offsets"]) == 1


def test_same_bytes_in_every_process(tmp_path):
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); import conftest;"
        "conftest.write_tokens(Path(sys.argv[1]), conftest.make_samples(12, features=True))"
    )
    for seed in ("0", "1", "777"):
        command = [sys.executable, "-c", script, str(tmp_path / seed), str(Path(__file__).parent)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
    for file in (tmp_path / "0").iterdir():
        assert (
            file.read_bytes()
            == (tmp_path / "1" / file.name).read_bytes()
            == (tmp_path / "777" / file.name).read_bytes()
        )


def test_mode_follows_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path, [sample()])
    finally:
        os.umask(before)
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": np.array([512, 1])}, r"a: code 512, expected 0 .. 511"),
        ({"codes": np.array([-1, 1])}, r"a: code -1, expected"),
        ({"codes": np.array([], dtype=np.int64), "keep_mask": np.zeros(64, bool)}, r"at least one integer"),
        ({"codes": np.array([0.5, 1])}, r"codes are float64"),
        ({"keep_mask": np.ones(64, bool)}, r"keeps 64 patches, expected 2"),
        ({"keep_mask": np.ones(63, bool)}, r"keep_mask is bool \(63,\), expected bool \(64,\)"),
        ({"features": np.zeros((3, 4), np.float32)}, r"features \(3, 4\), expected \(2, D\)"),
        ({"features": np.full((2, 4), np.nan, np.float32)}, r"NaN or infinity"),
    ],
)
def test_refuses_samples_that_break_the_format(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path, [sample(**changes)])
    assert not list(tmp_path.iterdir())


def test_refuses_equal_keys_and_mixed_features(tmp_path):
    with pytest.raises(ValueError, match="same key"):
        write(tmp_path, [sample(), sample()])
    with pytest.raises(ValueError, match="some have none"):
        write(tmp_path, [sample(), sample(key="b", features=np.zeros((2, 4), np.float32))])


def test_bfloat16_rounds_like_torch():
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    values[:5] = [0.0, -0.0, 1.00390625, 1.01171875, 3e38]
    expected = torch.from_numpy(values).bfloat16()
    np.testing.assert_array_equal(from_bfloat16(to_bfloat16(values)), expected.float().numpy())


def rewrite_header(file: Path, change) -> None:
    """Replace a shard's header text by `change(header text)`, the data untouched."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = change(content[8 : 8 + length].decode()).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def edited(name: str, **changes):
    def change(text: str) -> str:
        header = json.loads(text)
        header[name].update(changes)
        return json.dumps(header)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace('"keys"', '"texts"', 1), "'texts' occurs twice"),
        (lambda t: t.replace('"dtype":"U16"', '"dtype":"F16"'), "codes is F16, expected U16"),
        (lambda t: t.replace('"keys"', '"kex"'), "no tensor keys"),
        (lambda t: t.replace('"lavit"', '"other"'), "KeyError: 'lavit'"),
        (lambda t: t.replace('\\"version\\":1', '\\"version\\":9'), "version 9, expected lavit-tokens 1"),
        (lambda t: t[:40], "damaged header"),
        (lambda t: "[" * 500, "damaged header"),
        (lambda t: "[" * 100_000, "damaged header"),
        (edited("keys", shape=[-1]), "whole numbers"),
        (edited("codes", shape=[1 << 62]), "codes takes"),
        (edited("keep_mask", shape=[24]), "keep_mask has 1 dimensions, expected 2"),
        (edited("keep_mask", shape=[1, 24]), r"keep_mask has shape \(1, 24\)"),
        (edited("code_offsets", data_offsets=[8, 40]), "begins at byte"),
        (edited("key_offsets", data_offsets=[0, 32]), "begins at byte 0, expected"),
        (edited("codes", data_offsets=[0, True]), "whole numbers"),
        (lambda t: t.replace("[8,8]", "[1.5,1" + "0" * 400 + "]"), "expected two whole numbers from 1"),
        (lambda t: t.replace("[8,8]", "[4.5,14.2]"), r"grid \[4.5, 14.2\], expected two whole numbers from 1"),
        (lambda t: t.replace("[8,8]", "[true,64]"), r"grid \[True, 64\], expected two whole numbers from 1"),
    ],
)
def test_damaged_headers_are_refused_before_mapping(tmp_path, samples, change, message):
    write(tmp_path, samples(3))
    rewrite_header(tmp_path / NAME, change)
    with pytest.raises(InputError, match=message) as caught:
        map_shard(tmp_path / NAME)
    assert NAME in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"1234567", b"\xff" * 64, (100).to_bytes(8, "little") + b"{}"])
def test_files_that_are_no_shard(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(InputError, match="not a token shard"):
        map_shard(tmp_path / NAME)


def test_cut_and_lengthened_files(tmp_path, samples):
    write(tmp_path, samples(3))
    whole = (tmp_path / NAME).read_bytes()
    for content in (whole[:-1], whole + b"\0"):
        (tmp_path / NAME).write_bytes(content)
        with pytest.raises(InputError, match="the file at"):
            map_shard(tmp_path / NAME)
    with pytest.raises(InputError, match="No such file"):
        map_shard(tmp_path / "absent")


def test_fuzzed_bytes_give_one_line_or_a_shard(tmp_path, samples):
    write(tmp_path, samples(3))
    whole = bytearray((tmp_path / NAME).read_bytes())
    random = np.random.default_rng(0)
    refused = []
    for _ in range(300):
        content = bytearray(whole)
        for position in random.integers(0, 900, 3):
            content[position] = random.integers(0, 256)
        (tmp_path / NAME).write_bytes(content)
        try:
            map_shard(tmp_path / NAME)
        except InputError as error:
            refused.append(str(error))
    assert refused
    assert not any("\n" in message for message in refused)


WRITER = """
import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); import conftest
from lavit_core.token_shard import write_shard
contents = [conftest.make_samples(400, seed=seed, features=True) for seed in (0, 1)]
print("ready", flush=True)
while True:
    for content in contents:
        write_shard(Path(sys.argv[1]), "shard-000000.safetensors", content, codebook_size=512, grid=(8, 8))
"""


def test_kill_leaves_a_whole_shard_or_none(tmp_path, samples):
    whole = {
        write_shard(tmp_path, "x", samples(400, seed=seed, features=True), codebook_size=512, grid=(8, 8)).sha256
        for seed in (0, 1)
    }
    (tmp_path / "x").unlink()
    for wait in (0.0, 0.02, 0.05, 0.11):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
        if (tmp_path / NAME).exists():
            from lavit_core.files import file_sha256

            assert file_sha256(tmp_path / NAME) in whole
    # What a kill left beside the shard does not stand in the way.
    assert write(tmp_path, samples(2)).samples == 2
    assert [file.name for file in tmp_path.iterdir()] == [NAME]
