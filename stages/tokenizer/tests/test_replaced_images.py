"""Images that are replaced by others of the same name and size while their tokens are being made, or afterwards."""

import os
import tarfile

import pytest
from lavit_core.errors import InputError, UsageError
from lavit_core.image_check import verify_images
from lavit_core.token_format import read_manifest, write_manifest
from lavit_tokenizer import make_shards as making
from lavit_tokenizer import tokenize_images as verb
from lavit_tokenizer.config import TokenizeConfig

from .conftest import write_images

BYTES = 2000


@pytest.fixture
def padded(tmp_path):
    """40 images of one size in bytes, one of which can't be read; shard 1 has images 16 to 31."""
    folder = write_images(tmp_path / "padded", 40)
    for file in (folder / "images").iterdir():
        file.write_bytes(file.read_bytes().ljust(BYTES, b"\0"))
    (folder / "images" / "021.png").write_bytes(bytes(BYTES))
    return folder


def tokenize(data, model, out, *, workers=0):
    config = TokenizeConfig(workers=workers, shard_samples=16, batch_size=5, max_error_rate=0.1)
    return verb.tokenize_images(data, model, out, config, seed=1, device="cpu", quiet=True)


def content(out):
    files = [*out.glob("shard-*"), out / "manifest.json", out / "errors.jsonl"]
    return {file.name: file.read_bytes() for file in files}


def replace(data, name="017.png"):
    other = write_images(data.parent / "others", 40, seed=5) / "images" / name
    (data / "images" / name).write_bytes(other.read_bytes().ljust(BYTES, b"\0"))


def stop_after(monkeypatch, shards):
    """Let the next tokenization end once it has written this many shards."""

    def append(file, shard, count=iter(range(shards))):
        real(file, shard)
        if next(count, None) == shards - 1:
            raise KeyboardInterrupt

    real = verb.append_shard
    monkeypatch.setattr(verb, "append_shard", append)


@pytest.fixture
def written(monkeypatch):
    names = []
    real = making.write_shard
    monkeypatch.setattr(making, "write_shard", lambda *a, **k: names.append(a[1]) or real(*a, **k))
    return names


def fresh(data, model, tmp_path):
    tokenize(data, model, tmp_path / "fresh")
    return content(tmp_path / "fresh")


def test_a_run_that_goes_on_makes_the_shards_of_replaced_images_again(padded, model, tmp_path, monkeypatch, written):
    out = tmp_path / "tokens"
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            tokenize(padded, model, out)
    replace(padded)
    written.clear()
    tokenize(padded, model, out)
    assert written == ["shard-000001.safetensors", "shard-000002.safetensors"]
    assert content(out) == fresh(padded, model, tmp_path)


def test_so_does_a_finished_run_of_which_a_shard_is_gone(padded, model, tmp_path, written):
    out = tmp_path / "tokens"
    tokenize(padded, model, out)
    replace(padded)
    (out / "shard-000000.safetensors").unlink()
    (out / "DONE").unlink()
    written.clear()
    tokenize(padded, model, out, workers=2)
    assert written == ["shard-000000.safetensors", "shard-000001.safetensors"]
    assert content(out) == fresh(padded, model, tmp_path)


def test_copies_with_other_times_are_the_same_images(padded, model, tmp_path, written):
    out = tmp_path / "tokens"
    tokenize(padded, model, out)
    before = content(out)
    for file in (padded / "images").iterdir():
        os.utime(file)
    (out / "shard-000002.safetensors").unlink()
    written.clear()
    tokenize(padded, model, out)
    assert written == ["shard-000002.safetensors"]
    assert content(out) == before == fresh(padded, model, tmp_path)
    assert not verify_images(out, padded, quiet=True).problems


def test_verify_reads_all_images_again(padded, model, tmp_path):
    out = tmp_path / "tokens"
    tokenize(padded, model, out)
    whole = verify_images(out, padded, quiet=True)
    assert whole.line() == "images: 39 files, every byte as it was written"
    before = os.stat(padded / "images" / "017.png")
    replace(padded)
    os.utime(padded / "images" / "017.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    [problem] = verify_images(out, padded, quiet=True).problems
    assert (
        "shard-000001.safetensors: made from other images than are there now (images/016.png to images/031.png)"
        in problem
    )
    (out / "shard-000001.safetensors").unlink()
    tokenize(padded, model, out)  # as the line advises
    assert not verify_images(out, padded, quiet=True).problems
    (padded / "captions.jsonl").write_text("".join((padded / "captions.jsonl").read_text().splitlines(True)[1:]))
    [changed, gone] = verify_images(out, padded, quiet=True).problems
    assert "made from another list of images and captions" in changed
    assert gone.endswith("shard-000000.safetensors: 1 images are gone, the first images/000.png")
    with pytest.raises(InputError, match="found nothing"):
        verify_images(out, tmp_path / "none", quiet=True)


def test_verify_of_a_list_that_changed_advises_a_new_out(padded, model, tmp_path):
    out = tmp_path / "tokens"
    tokenize(padded, model, out)
    write_images(tmp_path / "more", 41)
    other = (tmp_path / "more" / "images" / "040.png").read_bytes()
    (padded / "images" / "040.png").write_bytes(other)
    lines = (tmp_path / "more" / "captions.jsonl").read_text()
    (padded / "captions.jsonl").write_text(lines)
    [problem] = verify_images(out, padded, quiet=True).problems
    assert problem.endswith("give `lavit tokenize-images` a new --out")
    with pytest.raises(UsageError, match="give another --out"):
        tokenize(padded, model, out)


def test_images_in_a_tar(padded, model, tmp_path, written):
    def tar_up():
        with tarfile.open(tmp_path / "0.tar", "w") as tar:
            for file in sorted((padded / "images").iterdir()):
                tar.add(file, file.name)

    tar_up()
    out = tmp_path / "tokens"
    tokenize(tmp_path / "0.tar", model, out)
    replace(padded, "039.png")
    tar_up()
    (out / "shard-000000.safetensors").unlink()
    written.clear()
    tokenize(tmp_path / "0.tar", model, out)
    assert written == ["shard-000000.safetensors", "shard-000002.safetensors"]
    assert content(out) == fresh(tmp_path / "0.tar", model, tmp_path)


def test_directories_of_before_have_no_digests_of_images(padded, model, tmp_path, written):
    out = tmp_path / "tokens"
    tokenize(padded, model, out)
    manifest = read_manifest(out)
    shards = tuple(entry.model_copy(update={"images_sha256": None}) for entry in manifest.shards)
    write_manifest(out, manifest.model_copy(update={"shards": shards}))
    assert "images_sha256" not in (out / "manifest.json").read_text()
    replace(padded)
    assert (
        verify_images(out, padded, quiet=True).line()
        == "images: 39 files, 3 of 3 shards have no digest of their images"
    )
    (out / "shard-000000.safetensors").unlink()
    written.clear()
    tokenize(padded, model, out)
    assert written == ["shard-000000.safetensors"]
