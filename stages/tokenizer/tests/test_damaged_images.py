"""Seven images of a hundred can't be read, each for another reason: an exact report, and the rest as if alone."""

import json
import os
import random
import re
import shutil
import struct
import zlib

import numpy as np
import pytest
from lavit_core.errors import ErrorBudgetExceeded
from lavit_core.json_lines import read_json_lines
from lavit_core.tokens import open_tokens
from lavit_core.verify import verify
from lavit_tokenizer.config import TokenizeConfig
from lavit_tokenizer.tokenize_images import tokenize_images

from .conftest import write_images


def bomb(side):
    """Return a PNG that says it has `side` x `side` pixels, and holds eight bytes of them."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(8))
    chunks = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (header, data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


DAMAGED = {
    "images/003.png": (lambda whole: whole[: len(whole) // 2], "unreadable", r"\(damaged PNG\)|truncated"),
    "images/017.png": (lambda whole: b"", "unreadable", "found an empty file"),
    "images/031.png": (lambda whole: b"<!DOCTYPE html><html>404</html>", "unreadable", "found HTML"),
    "images/046.png": (lambda whole: bomb(60_000), "too large", "3600000000 pixels, more than the limit of 89000000"),
    "images/058.png": (lambda whole: b"PK\x03\x04" + bytes(200), "unreadable", "not a readable image"),
    "images/072.png": (lambda whole: random.Random(0).randbytes(3000), "unreadable", "not a readable image"),
    "images/099.png": (None, "unreadable", "not a regular file"),
}
"""Key -> what its bytes become (None: a pipe), the kind of the error, and what its reason says."""


def tokenize(data, model, out, **changes):
    config = TokenizeConfig.model_validate({"workers": 0, "shard_samples": 30, "batch_size": 16, **changes})
    return tokenize_images(data, model, out, config, device="cpu", quiet=True)


@pytest.fixture
def damaged(tmp_path):
    folder = write_images(tmp_path / "damaged", 100)
    for key, (change, _, _) in DAMAGED.items():
        content = (folder / key).read_bytes()
        (folder / key).unlink()
        if change is None:
            os.mkfifo(folder / key)
        else:
            (folder / key).write_bytes(change(content))
    return folder


def test_seven_of_a_hundred_are_reported_and_the_rest_is_what_it_would_be_alone(damaged, model, tmp_path):
    with pytest.raises(
        ErrorBudgetExceeded, match=r"7 of 100 images could not be read \(--max-error-rate 0.05\)"
    ) as end:
        tokenize(damaged, model, tmp_path / "tokens", max_error_rate=0.05)
    assert end.value.exit_code == 5
    rows = read_json_lines(tmp_path / "tokens" / "errors.jsonl")
    assert [row["key"] for row in rows] == sorted(DAMAGED)
    for row, (_, kind, reason) in zip(rows, DAMAGED.values(), strict=True):
        assert row["kind"] == kind, row
        assert re.search(reason, row["reason"]), row
    assert [part.problems for part in verify(tmp_path / "tokens", quiet=True)] == [(), (), ()]

    good = shutil.copytree(
        damaged, tmp_path / "good", ignore=lambda _, names: {f"{key[7:]}" for key in DAMAGED} & {*names}
    )
    lines = (damaged / "captions.jsonl").read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["file_name"] not in DAMAGED]
    (good / "captions.jsonl").write_text("\n".join(kept) + "\n")
    assert tokenize(good, model, tmp_path / "alone")["errors"] == 0
    found, alone = open_tokens(tmp_path / "tokens"), open_tokens(tmp_path / "alone")
    everything = np.arange(93)
    assert found.keys(everything) == alone.keys(everything)
    assert found.texts(everything) == alone.texts(everything)
    for one, other in zip(found.codes(everything), alone.codes(everything), strict=True):
        assert np.array_equal(one, other)


def test_within_the_budget_the_job_succeeds(damaged, model, tmp_path):
    assert tokenize(damaged, model, tmp_path / "tokens", max_error_rate=0.07)["errors"] == 7
