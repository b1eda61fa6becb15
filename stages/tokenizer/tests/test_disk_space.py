"""Disk space that is estimated before a tokenization begins."""

import os
import shutil
from types import SimpleNamespace

import pytest
from lavit_core.errors import InputError
from lavit_tokenizer import tokenize_images as verb
from lavit_tokenizer.config import TokenizeConfig
from lavit_tokenizer.disk_space import needed_bytes
from lavit_tokenizer.tokenizer_folder import read_config

NAMED = {"selection": "topk", "tokens": 3}


def settings(**changes):
    return TokenizeConfig.model_validate({"workers": 0, "shard_samples": 16, **changes})


def tokenize(data, model, out, **changes):
    return verb.tokenize_images(data, model, out, settings(**changes), seed=1, device="cpu", quiet=True)


@pytest.mark.parametrize("changes", [{}, {"features": True}, NAMED, {**NAMED, "features": True}])
def test_shards_lie_within_the_estimate(data, model, tmp_path, changes):
    tokenize(data, model, tmp_path / "out", **changes)
    size = sum(file.stat().st_size for file in (tmp_path / "out").glob("*.safetensors"))
    least, most = needed_bytes(40, read_config(model / "tokenizer"), settings(**changes))
    keys_texts_headers = (data / "captions.jsonl").stat().st_size + 40 * 48 + 3 * 1200
    assert least <= size <= most + keys_texts_headers
    assert (least == most) == ("tokens" in changes)


def test_a_disk_that_is_certainly_too_small_is_refused_and_one_that_may_be_is_said(
    data, model, tmp_path, monkeypatch, capfd
):
    free = 100
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(
        InputError, match=r"the tokens of 40 images take at least 0\.0 MB, and 0\.0 MB are free; free some"
    ):
        tokenize(data, model, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.safetensors"))
    free = needed_bytes(40, read_config(model / "tokenizer"), settings())[0]
    tokenize(data, model, tmp_path / "out")
    assert (
        "images take 0.0 MB to 0.0 MB, and 0.0 MB are free; if the disk is full before the end"
        in capfd.readouterr().err
    )
    monkeypatch.undo()
    tokenize(data, model, tmp_path / "again")
    assert "are free" not in capfd.readouterr().err
    names = [name for name in os.listdir(tmp_path / "out") if name.endswith(".safetensors")]
    assert len(names) == 3
