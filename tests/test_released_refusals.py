"""Damaged, hostile and mismatched checkpoints: one line that says what and why, exit 3, and nothing written."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from released_folder import Geometry, write_language_model, write_visual

ENCODER = "visual_tokenizer/eva_vitg_psz14.bin"
TOKENIZER = "visual_tokenizer/tokenizer_encoder.bin"
DECODER = "visual_tokenizer/tokenizer_decoder.bin"
HIGHRES = "visual_tokenizer/highres_tokenizer_decoder.bin"
VISUAL = "language_model/visual_weight.bin"
FLAGS = ["--encoder-heads", "3", "--heads", "4"]


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A checkpoint that would be imported."""
    root = tmp_path_factory.mktemp("good")
    write_visual(root, Geometry())
    write_language_model(root, Geometry())
    return root


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def change(file: Path, edit: Callable[[dict], object]) -> None:
    tensors = torch.load(file, weights_only=True)
    edit(tensors)
    torch.save(tensors, file)


def edit_json(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


CASES: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "cut short": (lambda src: cut(src / TOKENIZER), FLAGS, "tokenizer_encoder.bin: not a whole torch checkpoint"),
    "cut short encoder": (lambda src: cut(src / ENCODER), FLAGS, "eva_vitg_psz14.bin: not a whole torch checkpoint"),
    "empty": (lambda src: (src / VISUAL).write_bytes(b""), FLAGS, "visual_weight.bin: not a whole torch checkpoint"),
    "a web page": (
        lambda src: (src / ENCODER).write_text("<html>404</html>"), FLAGS, "not a checkpoint of plain tensors",
    ),
    "a missing tensor": (
        lambda src: change(src / TOKENIZER, lambda t: t.pop("causal_encoder.norm.bias")), FLAGS,
        "weights 1 missing (causal_encoder.norm.bias)",
    ),
    "a tensor too many": (
        lambda src: change(src / DECODER, lambda t: t.update(extra=torch.ones(1))), FLAGS,
        "weights 1 unexpected (extra)",
    ),
    "another shape": (
        lambda src: change(src / TOKENIZER, lambda t: t.update({"encode_task_layer.0.bias": torch.ones(5)})), FLAGS,
        "encode_task_layer.0.bias is (5,), expected (24,)",
    ),
    "a far block": (
        lambda src: change(src / ENCODER, lambda t: t.update({"blocks.1000000000.norm1.bias": torch.ones(24)})), FLAGS,
        "unexpected (blocks.1000000000.norm1.bias)",
    ),
    "nothing but a list": (lambda src: torch.save([1, 2], src / ENCODER), FLAGS, "holds a list, expected a dictionary"),
    "no tensor inside": (
        lambda src: torch.save({"cls_token": 3}, src / ENCODER), FLAGS, "cls_token is a int, expected a tensor",
    ),
    "more claimed than stored": (
        lambda src: change(src / ENCODER, lambda t: t.update(cls_token=torch.ones(1).expand(10**6, 10**6))), FLAGS,
        "the file is truncated or malformed",
    ),
    "heads that do not divide": (
        lambda src: None, ["--encoder-heads", "3", "--heads", "5"], "--heads 5 does not divide width 24",
    ),
    "encoder heads that do not divide": (
        lambda src: None, ["--encoder-heads", "7", "--heads", "4"], "--encoder-heads 7 does not divide width 24",
    ),
    "heads that do not divide the pool": (
        lambda src: None, ["--encoder-heads", "3", "--heads", "3"],
        "--heads 3 does not divide width 32 of its attention pooling",
    ),
    "heads not given": (lambda src: None, [], "so the head count is unknown; give --encoder-heads N"),
    "no encoder": (lambda src: (src / ENCODER).unlink(), FLAGS, "eva_vitg_psz14.bin: file not found"),
    "a decoder alone": (lambda src: (src / TOKENIZER).unlink(), FLAGS, "tokenizer_decoder.bin is of no use without it"),
    "a decoder of other codes": (
        lambda src: change(src / HIGHRES, lambda t: t.update({"in_proj.weight": torch.ones(24, 6)})), FLAGS,
        "in_proj.weight is (24, 6), expected (24, 5)",
    ),
    "a merger of another width": (
        lambda src: change(src / VISUAL, lambda t: t.update({"vit_proj.weight": torch.ones(16, 25)})), FLAGS,
        "vit_proj.weight is (16, 25), expected (16, 24)",
    ),
    "a shard missing": (
        lambda src: (src / "language_model" / "pytorch_model-00002-of-00002.bin").unlink(), FLAGS,
        "names pytorch_model-00002-of-00002.bin, which is not in",
    ),
    "a vocabulary without codes": (
        lambda src: edit_json(src / "language_model" / "config.json", vocab_size=299), FLAGS,
        "weights 2 of another shape",
    ),
    "code of its own": (
        lambda src: edit_json(src / "language_model" / "config.json", auto_map={"AutoConfig": "evil.Evil"}), FLAGS,
        "asks for code of its own (auto_map)",
    ),
    "a damaged text tokenizer": (
        lambda src: cut(src / "language_model" / "tokenizer.model"), FLAGS,
        "tokenizer.model: not a whole sentencepiece model",
    ),
    "no text tokenizer": (
        lambda src: (src / "language_model" / "tokenizer.model").unlink(), FLAGS,
        "tokenizer.model: file not found, expected the text tokenizer",
    ),
    "no language model": (
        lambda src: edit_json(src / "language_model" / "config.json", model_type="nothing"), FLAGS,
        "not a causal language model's",
    ),
    "another folder": (lambda src: [shutil.rmtree(entry) for entry in src.iterdir()], FLAGS, "holds neither"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_damaged_checkpoints_are_refused_in_one_line(name, good, tmp_path, here):
    spoil, flags, message = CASES[name]
    src = tmp_path / "src"
    shutil.copytree(good, src)
    spoil(src)
    done = here("import-checkpoint", src, "--out", tmp_path / "model", *flags)
    assert message in done.last_error, done.err
    assert done.code == 3
    assert done.err.count("\n") == 1
    assert done.out == ""
    assert [entry.name for entry in tmp_path.iterdir()] == ["src"]


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_code_in_a_checkpoint_is_not_run(form, good, tmp_path, here):
    src = tmp_path / "src"
    shutil.copytree(good, src)
    trap, file = {"cls_token": Trap(tmp_path / "sprung")}, src / TOKENIZER
    if form == "torch":
        torch.save(trap, file)
    else:
        file.write_bytes(pickle.dumps(trap, protocol=2))
    done = here("import-checkpoint", src, "--out", tmp_path / "model", *FLAGS)
    assert done.code == 3
    assert "tokenizer_encoder.bin: asks to run pathlib.Path.touch" in done.last_error or "refused" in done.last_error
    assert "nothing of it was run" in done.last_error
    assert [entry.name for entry in tmp_path.iterdir()] == ["src"]


def test_an_unknown_attention_is_a_usage_error(good, tmp_path, here):
    done = here("import-checkpoint", good, "--out", tmp_path / "model", *FLAGS, "--attention", "soft")
    assert done.code == 2
    assert "--attention soft: expected dense or packed" in done.last_error


def test_a_write_that_fails_leaves_nothing(good, tmp_path, here, monkeypatch):
    import lavit_tokenizer.released as released

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(released, "save_tensors", full)
    done = here("import-checkpoint", good, "--out", tmp_path / "model", *FLAGS, "--quiet")
    assert done.code == 3
    assert "can't be written (No space left on device); nothing was kept; free some space" in done.last_error
    assert done.last_error.endswith("then run the same command again")
    assert not list(tmp_path.iterdir())
