"""`detokenize`: a data set of drawn images, written once."""

import contextlib
import json
import shutil

import pytest
from lavit_core.errors import InputError, Interrupted, UsageError
from lavit_detokenizer import detokenize as module
from lavit_detokenizer.config import DrawSettings
from lavit_detokenizer.detokenize import detokenize

from .conftest import NUM_IMAGES, write_model


def test_detokenize_writes_a_data_set_once(world, trained, tmp_path):
    model, how = trained, DrawSettings(num_steps=2, guidance_scale=1.5, batch_size=5)
    first = detokenize(world / "tokens", model, tmp_path / "out", how, device="cpu", quiet=True)
    assert (first["images"], first["drawn"]) == (NUM_IMAGES, NUM_IMAGES)
    rows = [json.loads(line) for line in (tmp_path / "out" / "captions.jsonl").read_text().splitlines()]
    assert rows[3] == {"file_name": "images/000003.png", "captions": ["block 3", "a block"], "key": "images/003.png"}
    before = {file.name: file.read_bytes() for file in (tmp_path / "out" / "images").iterdir()}
    assert sorted(before) == [f"{index:06d}.png" for index in range(NUM_IMAGES)]
    # As after a kill: some images are there, the run is not done. The others come out the same.
    (tmp_path / "out" / "DONE").unlink()
    for index in (0, 7):
        (tmp_path / "out" / "images" / f"{index:06d}.png").unlink()
    again = detokenize(world / "tokens", model, tmp_path / "out", how, device="cpu", quiet=True)
    assert (again["images"], again["drawn"]) == (NUM_IMAGES, 2)
    assert {file.name: file.read_bytes() for file in (tmp_path / "out" / "images").iterdir()} == before
    assert detokenize(world / "tokens", model, tmp_path / "out", how, device="cpu", quiet=True) == again
    with pytest.raises(UsageError, match=r"started with config\.precision = 'auto', now it is 'bf16'"):
        detokenize(world / "tokens", model, tmp_path / "out", how, device="cpu", precision="bf16", quiet=True)


def test_tokens_of_another_tokenizer_are_refused(world, trained, tmp_path):
    other = write_model(tmp_path / "other", seed=1)
    shutil.copytree(trained / "detokenizer", other / "detokenizer")
    with pytest.raises(InputError, match="made with tokenizer"):
        detokenize(world / "tokens", other, tmp_path / "out", DrawSettings(), device="cpu", quiet=True)
    assert not (tmp_path / "out").exists()


def test_a_stopped_run_goes_on(world, trained, tmp_path, monkeypatch):
    how = DrawSettings(num_steps=1, batch_size=5)
    detokenize(world / "tokens", trained, tmp_path / "whole", how, device="cpu", quiet=True)
    looks = iter([False, True])
    with monkeypatch.context() as patch:
        patch.setattr(module, "stop_signals", lambda: contextlib.nullcontext(lambda: next(looks)))
        with pytest.raises(Interrupted, match=f"at step 5 of {NUM_IMAGES}"):
            detokenize(world / "tokens", trained, tmp_path / "cut", how, device="cpu", quiet=True)
    summary = detokenize(world / "tokens", trained, tmp_path / "cut", how, device="cpu", quiet=True)
    assert summary["drawn"] == NUM_IMAGES - 5
    for file in sorted((tmp_path / "whole" / "images").iterdir()):
        assert (tmp_path / "cut" / "images" / file.name).read_bytes() == file.read_bytes()
