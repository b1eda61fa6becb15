"""Token directories: equal bytes whatever the workers, kills and unreadable images."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from lavit_core.data import open_data
from lavit_core.errors import ErrorBudgetExceeded, InputError, UsageError
from lavit_core.images import square_pixels
from lavit_core.json_lines import read_json_lines
from lavit_core.modeldir import export_part
from lavit_core.token_check import inspect_tokens
from lavit_core.tokens import check_tokenizer, open_tokens
from lavit_tokenizer import make_shards as making
from lavit_tokenizer import tokenize_images as verb
from lavit_tokenizer.config import TokenizeConfig
from lavit_tokenizer.tokenizer_folder import write_tokenizer
from PIL import Image

from .conftest import make_tokenizer, write_images


def settings(**changes):
    return TokenizeConfig.model_validate({"workers": 0, "shard_samples": 16, "batch_size": 5, **changes})


def tokenize(data, model, out, **changes):
    return verb.tokenize_images(data, model, out, settings(**changes), seed=1, device="cpu", quiet=True)


def content(folder):
    files = [*folder.glob("shard-*"), folder / "manifest.json", folder / "errors.jsonl"]
    return {file.name: file.read_bytes() for file in files}


@pytest.fixture
def damaged(tmp_path):
    """40 images, of which two can't be read."""
    folder = write_images(tmp_path / "damaged", 40)
    (folder / "images" / "007.png").write_text("<html>not found</html>")
    image = folder / "images" / "021.png"
    image.write_bytes(image.read_bytes()[:60])
    return folder


@pytest.mark.parametrize("selection", ["threshold", "sample"])
def test_workers_do_not_change_a_byte(damaged, model, tmp_path, selection):
    found = []
    for workers in (0, 1, 2, 3):
        out = tmp_path / f"tokens-{workers}"
        tokenize(damaged, model, out, workers=workers, selection=selection, features=True, max_error_rate=0.1)
        found.append(content(out))
    assert all(one == found[0] for one in found)
    errors = [json.loads(line) for line in found[0]["errors.jsonl"].splitlines()]
    assert [row["key"] for row in errors] == ["images/007.png", "images/021.png"]
    assert all("not a readable image" in row["reason"] for row in errors)


def test_exact_budgets_are_written_and_recorded(data, model, tmp_path):
    tokenize(data, model, tmp_path / "five", selection="topk", tokens=5)
    reader = open_tokens(tmp_path / "five")
    assert set(reader.counts) == {5}
    assert (reader.keep_masks(np.arange(len(reader))).sum(1) == 5).all()
    assert reader.manifest.selection == {"policy": "topk", "tokens": 5}
    assert inspect_tokens(tmp_path / "five")["selection"] == {"policy": "topk", "tokens": 5}
    # A language model beside the tokenizer that learned from nine tokens changes nothing.
    with export_part(model, "llm", metadata={"selection": "topk", "selection_tokens": 9}) as folder:
        (folder / "config.json").write_text("{}")
    tokenize(data, model, tmp_path / "own", selection="topk")
    assert open_tokens(tmp_path / "own").manifest.selection == {"policy": "topk", "tokens": 6}
    assert set(open_tokens(tmp_path / "own").counts) == {6}
    # More tokens add to fewer, and what they have in common is chosen equally.
    six = open_tokens(tmp_path / "own").keep_masks(np.arange(len(reader)))
    assert (six | ~reader.keep_masks(np.arange(len(reader)))).all()
    with pytest.raises(UsageError, match=r"started with config.tokens = 5, now it is 6"):
        tokenize(data, model, tmp_path / "five", selection="topk", tokens=6)


def test_budgets_that_can_not_be_leave_nothing_behind(data, model, tmp_path):
    with pytest.raises(UsageError, match="tokens: found 17, expected 1 to 16, the patches of an image"):
        tokenize(data, model, tmp_path / "tokens", selection="topk", tokens=17)
    assert not (tmp_path / "tokens").exists()
    with pytest.raises(UsageError, match="tokens: found 5 with selection 'threshold'; a number of tokens needs topk"):
        settings(tokens=5)


def test_a_pair_of_factors_is_stored_as_one_code(data, tmp_path):
    tokenizer = make_tokenizer(codebook_factors=(8, 4))
    with export_part(tmp_path / "factored", "tokenizer") as part:
        write_tokenizer(tokenizer, part)
    tokenize(data, tmp_path / "factored", tmp_path / "tokens")
    reader = open_tokens(tmp_path / "tokens")
    codes, counts = reader.codes(np.arange(len(reader)))
    pixels = np.stack([square_pixels(record.image, 16) for record in open_data(data).records])
    steps = tokenizer.encode(torch.from_numpy(pixels), return_intermediates=True)
    books = tokenizer.quantizer.codebook.split([8, 4])
    halves = zip(steps.intermediates.vectors.chunk(2, dim=1), books, strict=True)
    first, second = (torch.cdist(2**0.5 * half, book).argmin(1) for half, book in halves)
    assert reader.manifest.codebook_size == 32
    assert counts.tolist() == steps.counts.tolist()
    assert codes.tolist() == (first * 4 + second).tolist()


def test_an_unreadable_file_with_a_line_separator_in_its_name_does_not_stop_a_resumed_run(model, tmp_path):
    folder = tmp_path / "data"
    write_images(folder, 20)
    (folder / "captions.jsonl").unlink()
    name = "no\u2028image\x85.png"
    (folder / "images" / name).write_text("<html>not found</html>")
    out = tmp_path / "tokens"
    tokenize(folder, model, out, max_error_rate=0.1)
    before = content(out)
    (out / "DONE").unlink()
    (out / "shard-000001.safetensors").unlink()
    tokenize(folder, model, out, max_error_rate=0.1)
    assert content(out) == before
    assert [row["key"] for row in read_json_lines(out / "errors.jsonl")] == [f"images/{name}"]


def test_out_inside_the_data_folder_is_refused(data, model):
    with pytest.raises(UsageError, match="inside the data folder"):
        tokenize(data, model, data / "tokens")
    assert not (data / "tokens").exists()


def test_a_reader_finds_codes_masks_texts_and_features(data, model, tmp_path):
    from lavit_core.data import open_data
    from lavit_tokenizer.tokenizer_folder import load_tokenizer
    from lavit_trainkit.pixels import Pixels

    summary = tokenize(data, model, tmp_path / "tokens", features=True)
    reader, records = open_tokens(tmp_path / "tokens"), open_data(data).records
    check_tokenizer(reader, model)
    everything = np.arange(40)
    assert reader.keys(everything) == [record.key for record in records]
    assert reader.texts(everything) == [record.captions for record in records]
    tokenizer = load_tokenizer(model, device="cpu")
    image = Pixels([records[17].image], 16).batch([0])
    encoded = tokenizer.encode(image)
    codes, counts = reader.codes(np.array([17]))
    assert codes.tolist() == encoded.codes.tolist()
    assert counts.tolist() == encoded.counts.tolist()
    assert reader.keep_masks(np.array([17])).tolist() == encoded.keep_mask.tolist()
    assert np.allclose(reader.features(np.array([17])), encoded.merged.numpy(), rtol=0.01, atol=0.01)
    assert (summary["images"], summary["errors"], summary["shards"]) == (40, 0, 3)
    assert summary["codes"] == int(reader.counts.sum())


def test_kill_at_any_time_then_the_same_command(damaged, model, tmp_path):
    tokenize(damaged, model, tmp_path / "whole", workers=2, max_error_rate=0.1)
    script = (
        "import sys, time; from pathlib import Path\n"
        "from lavit_tokenizer import make_shards as making, tokenize_images as verb\n"
        "from lavit_tokenizer.config import TokenizeConfig\n"
        "real = making.write_shard\n"
        "def slow(*a, **k):\n"
        "    print('shard', flush=True); time.sleep(0.2); entry = real(*a, **k); print('done', flush=True)\n"
        "    time.sleep(0.2); return entry\n"
        "making.write_shard = slow\n"
        "config = TokenizeConfig(workers=2, shard_samples=16, batch_size=5, max_error_rate=0.1)\n"
        "verb.tokenize_images(*map(Path, sys.argv[1:4]), config, seed=1, device='cpu', quiet=True)\n"
    )
    command = [sys.executable, "-c", script, str(damaged), str(model), str(tmp_path / "cut")]
    for marks in (1, 2, 3):  # killed before the first shard is written, after it, and before the second
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert worker.stdout is not None
        for _ in range(marks):
            worker.stdout.readline()
        time.sleep(0.1)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    time.sleep(1)  # the kernel ends the decoding processes, which hold the directory's lock, a moment later
    tokenize(damaged, model, tmp_path / "cut", max_error_rate=0.1)
    assert content(tmp_path / "whole") == content(tmp_path / "cut")


def test_finished_shards_are_kept_and_damaged_ones_made_again(data, model, tmp_path, monkeypatch):
    out = tmp_path / "tokens"
    tokenize(data, model, out)
    before = content(out)
    assert tokenize(data, model, out)["images"] == 40  # answers from DONE
    shard = out / "shard-000001.safetensors"
    shard.unlink()  # as `lavit tokens verify` advises of a damaged one
    tokenize(data, model, out)
    assert content(out) == before
    (out / "DONE").unlink()
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x00")
    written = []
    real = making.write_shard
    monkeypatch.setattr(
        making, "write_shard", lambda folder, name, *a, **k: written.append(name) or real(folder, name, *a, **k)
    )
    tokenize(data, model, out)
    assert written == ["shard-000001.safetensors"]
    assert content(out) == before


def test_too_many_errors_finish_and_exit_with_5(damaged, model, tmp_path):
    with pytest.raises(ErrorBudgetExceeded, match=r"2 of 40 images could not be read .*errors.jsonl") as raised:
        tokenize(damaged, model, tmp_path / "tokens", max_error_rate=0.01)
    assert raised.value.exit_code == 5
    assert len(open_tokens(tmp_path / "tokens")) == 38
    with pytest.raises(ErrorBudgetExceeded):  # asked again, the finished job says so again
        tokenize(damaged, model, tmp_path / "tokens", max_error_rate=0.01)


def test_unusable_input(data, model, tmp_path):
    with pytest.raises(InputError, match="expected a folder of images"):
        tokenize(tmp_path / "missing", model, tmp_path / "tokens")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image"):
        tokenize(tmp_path / "empty", model, tmp_path / "tokens")
    note = tmp_path / "note.png"
    note.write_text("a text")
    with pytest.raises(InputError, match="found a file, expected a folder"):
        tokenize(note, model, tmp_path / "tokens")
    with pytest.raises(InputError, match=r"no tokenizer/ here .*lavit train-tokenizer"):
        tokenize(data, tmp_path / "empty", tmp_path / "tokens")
    tokenize(data, model, tmp_path / "tokens")
    with pytest.raises(UsageError, match=r"this run was started with config.selection = 'threshold', now it is 'topk'"):
        tokenize(data, model, tmp_path / "tokens", selection="topk")


def test_a_run_without_readable_images_ends_with_an_error(tmp_path, model):
    folder = tmp_path / "bad"
    folder.mkdir()
    for index in range(3):
        (folder / f"{index}.png").write_text("text")
    with pytest.raises(ErrorBudgetExceeded, match="3 of 3 images"):
        tokenize(folder, model, tmp_path / "tokens")


@pytest.mark.parametrize("same_size", [True, False])
def test_images_that_failed_are_read_again_on_request(damaged, model, tmp_path, same_size):
    out, bad = tmp_path / "tokens", damaged / "images" / "021.png"
    torn = bad.read_bytes()
    whole = write_images(tmp_path / "again", 40) / "images" / "021.png"
    if same_size:
        bad.write_bytes(torn + bytes(whole.stat().st_size - len(torn)))
    tokenize(damaged, model, out, max_error_rate=0.1)
    before = content(out)
    bad.write_bytes(whole.read_bytes())
    if same_size:  # the data set is known by names and sizes
        tokenize(damaged, model, out, max_error_rate=0.1)
    else:
        with pytest.raises(UsageError, match="files that could not be read have changed since; --retry-errors"):
            tokenize(damaged, model, out, max_error_rate=0.1)
    assert content(out) == before
    again = {"seed": 1, "device": "cpu", "retry_errors": True, "quiet": True}
    verb.tokenize_images(damaged, model, out, settings(max_error_rate=0.1), **again)
    tokenize(damaged, model, tmp_path / "clean", max_error_rate=0.1)
    assert content(out) == content(tmp_path / "clean")
    assert [row["key"] for row in read_json_lines(out / "errors.jsonl")] == ["images/007.png"]
    assert (out / "config.yaml").read_text() == (tmp_path / "clean" / "config.yaml").read_text()
    tokenize(damaged, model, out, max_error_rate=0.1)  # it is finished for this data set


def test_a_readable_image_that_changed_with_a_failed_one_is_refused(damaged, model, tmp_path):
    out = tmp_path / "tokens"
    tokenize(damaged, model, out, max_error_rate=0.1)
    whole = write_images(tmp_path / "again", 40) / "images"
    (damaged / "images" / "021.png").write_bytes((whole / "021.png").read_bytes())
    (damaged / "images" / "001.png").write_bytes((whole / "001.png").read_bytes() + b"0")
    before = content(out)
    with pytest.raises(UsageError, match=r"was started with inputs.data"):
        verb.tokenize_images(
            damaged, model, out, settings(max_error_rate=0.1), seed=1, device="cpu", retry_errors=True, quiet=True
        )
    assert content(out) == before


def test_small_images_are_left_out_and_large_ones_are_errors(data, model, tmp_path):
    for name, size in (("tiny.png", (1, 1)), ("wide.png", (600, 2))):
        Image.new("RGB", size).save(data / "images" / name)
    (data / "captions.jsonl").unlink()
    limits = {"min_pixels": 16, "max_pixels": 1100}
    summary = tokenize(data, model, tmp_path / "tokens", max_error_rate=0.1, **limits)
    assert (summary["images"], summary["errors"], summary["too_small"]) == (40, 1, 1)
    rows = read_json_lines(tmp_path / "tokens" / "errors.jsonl")
    assert [(row["key"], row["kind"]) for row in rows] == [
        ("images/tiny.png", "too small"),
        ("images/wide.png", "too large"),
    ]
    with pytest.raises(ErrorBudgetExceeded, match="1 of 42 images"):
        tokenize(data, model, tmp_path / "tokens", max_error_rate=0, **limits)
    with pytest.raises(UsageError, match=r"config.min_pixels = 16, now it is None"):
        tokenize(data, model, tmp_path / "tokens", max_error_rate=0.1)
