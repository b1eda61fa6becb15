"""The model of a command line that names none."""

import json
import os
from pathlib import Path

import pytest
from lavit_core.command import NO_PRESET, CommonOptions
from lavit_core.default_model import model_or_default, with_default_preset
from lavit_core.errors import UsageError
from lavit_core.modeldir import IMPORTED, export_part


@pytest.fixture(name="here", autouse=True)
def here_fixture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAVIT_MODEL", raising=False)


def make(model, when, *parts, image_input="features"):
    for part in parts:
        Path(model, part).mkdir(parents=True)
    made = {part: {"image_input": image_input} if part == "llm" else {} for part in parts}
    Path(model, "lavit.json").write_text(json.dumps({"format": 1, "parts": made}))
    os.utime(Path(model, "lavit.json"), (when, when))


def test_what_is_given_comes_first_then_the_environment(monkeypatch, capsys):
    monkeypatch.setenv("LAVIT_MODEL", "elsewhere")
    assert model_or_default(Path("given"), "llm") == Path("given")
    assert capsys.readouterr().err == ""
    assert model_or_default(None, "llm") == Path("elsewhere")
    assert capsys.readouterr().err == "model: elsewhere ($LAVIT_MODEL)\n"


def test_else_the_newest_that_has_the_parts_and_sees(capsys):
    make("runs/old/model", 100, "tokenizer", "llm", "detokenizer")
    make("runs/demo/model", 200, "tokenizer", "llm", "detokenizer")
    make("runs/demo/detokenizer/model", 200, "tokenizer", "llm", "detokenizer")
    make("runs/demo/pretrain/model", 300, "tokenizer", "llm")
    make("runs/demo/blind/model", 400, "tokenizer", "llm", image_input="none")
    assert model_or_default(None, "llm", "detokenizer") == Path("runs/demo/model")
    assert capsys.readouterr().err == "model: runs/demo/model (the newest under ./runs; choose with --model)\n"
    assert model_or_default(None, "tokenizer", "llm") == Path("runs/demo/pretrain/model")
    Path("runs/unfinished/model/llm").mkdir(parents=True)
    assert model_or_default(None, "llm") == Path("runs/demo/pretrain/model")


def test_without_any_one_line_says_how_to_get_one():
    with pytest.raises(UsageError, match=r"give --model DIR .* has llm, detokenizer .*make demo"):
        model_or_default(None, "llm", "detokenizer")


def test_the_preset_is_the_models_if_none_is_given(monkeypatch, capsys):
    for name, metadata in (("ours", None), ("released", IMPORTED)):
        with export_part(Path(name), "tokenizer", metadata=metadata):
            pass

    def preset(model):
        return with_default_preset(NO_PRESET, model, "llm").preset

    assert (preset(Path("ours")), preset(Path("released")), preset(None)) == ("tiny", "published", "tiny")
    Path("released/detokenizer-highres").mkdir()
    assert preset(Path("released")) == "released-v2-readme"
    assert with_default_preset(CommonOptions(preset="base"), Path("released")).preset == "base"
    monkeypatch.setenv("LAVIT_MODEL", "released")
    assert preset(None) == "released-v2-readme"
    assert capsys.readouterr().err == ""
