import dataclasses
import hashlib
import json

import numpy as np
import pytest
from lavit_core.errors import InputError
from lavit_core.token_check import inspect_tokens, verify_tokens
from lavit_core.token_export import export_tokens
from lavit_core.token_format import read_manifest, write_manifest

SHARD = "shard-000001.safetensors"


def damage(folder, tensor: str, position: int, value: bytes) -> None:
    """Overwrite bytes of a tensor in the second shard and make the manifest's digest agree again."""
    content = bytearray((folder / SHARD).read_bytes())
    length = int.from_bytes(content[:8], "little")
    first, last = json.loads(content[8 : 8 + length])[tensor]["data_offsets"]
    at = 8 + length + (first + position if position >= 0 else last + position)
    content[at : at + len(value)] = value
    (folder / SHARD).write_bytes(content)
    manifest = read_manifest(folder)
    shards = [
        shard.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()}) if shard.file == SHARD else shard
        for shard in manifest.shards
    ]
    write_manifest(folder, manifest.model_copy(update={"shards": tuple(shards)}))


def test_a_whole_directory_has_no_problems(tmp_path, samples, tokens):
    assert verify_tokens(tokens(tmp_path / "t", samples(25, features=True)), quiet=True) == []


@pytest.mark.parametrize(
    ("tensor", "position", "value", "message"),
    [
        ("codes", 0, b"\xff\xff", "code 65535, expected 0 .. 511"),
        ("code_offsets", 0, b"\x01", "code_offsets end at"),
        ("code_offsets", 8, b"\xff\x00", "code_offsets do not rise"),
        ("keep_mask", 0, b"\xff\xff\xff", "keep_mask of sample 0 does not fit its"),
        ("keys", 0, b"\xff", "keys are not UTF-8"),
        ("keys", 18 + 13, b"0", "is in shard-000001.safetensors too"),
        ("texts", 0, b"\xff", "texts are not UTF-8"),
        ("text_sample", -8, b"\x63", "text_sample is not sorted within 0 .. 9"),
        ("features", 0, b"\x80\x7f", "features hold NaN or infinity"),
    ],
)
def test_broken_rules_are_named(tmp_path, samples, tokens, tensor, position, value, message):
    folder = tokens(tmp_path / "t", samples(25, features=True))
    damage(folder, tensor, position, value)
    problems = verify_tokens(folder, quiet=True)
    assert len(problems) == 1
    assert SHARD in problems[0]
    assert message in problems[0]


@pytest.mark.parametrize(
    ("tensor", "position", "value", "message"),
    [
        ("codes", 0, b"\xff\xff", "code 65535, expected 0 .. 511"),
        ("code_offsets", 12, b"\x80", "code_offsets lead out of its"),
        ("code_offsets", 13, b"\x01", "code_offsets lead out of its"),
        ("code_offsets", 8, b"\xfb" + b"\xff" * 7, "code_offsets lead out of its"),
        ("key_offsets", 13, b"\x01", "key_offsets lead out of its"),
        ("text_offsets", 8, b"\xfd" + b"\xff" * 7, "text_offsets lead out of its"),
        ("keys", 0, b"\xff", "keys are not UTF-8"),
        ("texts", 0, b"\xff", "texts are not UTF-8"),
    ],
)
def test_a_reader_refuses_what_leads_out_of_a_shard(tmp_path, samples, tokens, tensor, position, value, message):
    folder = tokens(tmp_path / "t", samples(25))
    damage(folder, tensor, position, value)  # the digests fit: somebody made it so
    with pytest.raises(InputError, match=message):
        export_tokens(folder, "jsonl", tmp_path / "out.jsonl")
    if tensor.startswith("code"):
        with pytest.raises(InputError, match=message):
            inspect_tokens(folder)


def test_damaged_files_are_named(tmp_path, samples, tokens):
    folder = tokens(tmp_path / "t", samples(35))
    shards = sorted(folder.glob("*.safetensors"))
    content = shards[0].read_bytes()
    shards[0].write_bytes(content[:-1] + bytes([content[-1] ^ 4]))
    shards[1].write_bytes(shards[1].read_bytes()[:-3])
    shards[2].unlink()
    (folder / "stray.safetensors").write_bytes(b"")
    problems = verify_tokens(folder, quiet=True)
    for name, reason in zip(
        ("shard-000000", "shard-000001", "shard-000002", "stray"),
        ("SHA-256", "bytes, expected", "missing", "not in the manifest"),
        strict=True,
    ):
        assert any(name in problem and reason in problem for problem in problems)
    assert len(problems) == 4
    with pytest.raises(InputError, match="holds t; give one of them"):
        verify_tokens(tmp_path)
    with pytest.raises(InputError, match="not a token directory"):
        verify_tokens(tmp_path / "none")


def test_a_shard_whose_name_is_too_long_for_the_disk_is_missing(tmp_path, samples, tokens):
    folder = tokens(tmp_path / "t", samples(5))
    manifest = read_manifest(folder)
    shard = manifest.shards[0].model_copy(update={"file": "é" * 200})
    write_manifest(folder, manifest.model_copy(update={"shards": (shard,)}))
    problems = verify_tokens(folder, quiet=True)
    assert [problem.split(": ")[-1] for problem in problems] == [
        "missing",
        "not in the manifest, expected a row there or no file",
    ]


def test_shards_out_of_order_are_named(tmp_path, samples, tokens):
    folder = tokens(tmp_path / "t", samples(25))
    manifest = read_manifest(folder)
    write_manifest(folder, manifest.model_copy(update={"shards": manifest.shards[::-1]}))
    [problem] = verify_tokens(folder, quiet=True)
    assert problem.endswith("listed after shard-000002.safetensors, expected the order of their names")


def test_every_flipped_bit_is_found(tmp_path, samples, tokens):
    folder = tokens(tmp_path / "t", samples(4), shard_samples=4)
    shard = folder / "shard-000000.safetensors"
    content = shard.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(content), 40):
        broken = bytearray(content)
        broken[position] ^= 1
        shard.write_bytes(broken)
        assert len(verify_tokens(folder, quiet=True)) == 1


def test_inspect_counts(tmp_path, samples, tokens):
    content = samples(25)
    report = inspect_tokens(tokens(tmp_path / "t", content))
    codes = np.concatenate([sample.codes for sample in content])
    assert (report["images"], report["codes"], report["shards"]) == (25, len(codes), 3)
    assert report["captions"] == sum(len(sample.texts) for sample in content)
    assert report["codes_used"] == len(set(codes.tolist()))
    share = np.unique(codes, return_counts=True)[1] / len(codes)
    assert report["perplexity"] == pytest.approx(np.exp(-(share * np.log(share)).sum()), abs=0.1)


def test_a_key_of_two_shards_is_named_with_both(tmp_path, samples, tokens):
    content = samples(25)
    content[17] = dataclasses.replace(content[17], key=content[3].key)
    [problem] = verify_tokens(tokens(tmp_path / "t", content), quiet=True)
    assert problem.endswith(f"shard-000001.safetensors: key {content[3].key!r} is in shard-000000.safetensors too")
