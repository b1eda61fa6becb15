"""Opening and saving a model: what is loaded when, its metadata, and the weights it takes."""

import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lavit import LaVIT, SampleSettings
from lavit.save import save_model
from lavit_core import modeldir
from lavit_core.config import load_preset, resolve
from lavit_core.errors import InputError
from lavit_core.modeldir import IMPORTED, export_part, part_digest
from lavit_pretrain.api import load_llm
from lavit_tokenizer.api import load_tokenizer

from .drawings import DRAWING, pixels_of

SAMPLING = SampleSettings(guidance_scale=2.0, image_guidance_scale=3.0, top_k=9, min_codes=4, max_codes=6)


def test_properties_and_metadata(folders) -> None:
    model = LaVIT.from_pretrained(str(folders["codes"]))
    assert (model.image_px, model.grid, model.codebook_size, model.image_input) == (16, (4, 4), 24, "codes")
    digests = {part: part_digest(folders["codes"] / part) for part in ("tokenizer", "llm", "detokenizer")}
    assert model.metadata == {
        "model": digests,
        "precision": {"llm": "fp32", "detokenizer": "fp32"},
        "image_input": "codes",
    }
    assert model.language_model.precision == model.detokenizer.precision == "fp32"
    half = LaVIT.from_pretrained(folders["codes"], parts=("llm",), precision="bf16")
    assert half.metadata["precision"] == {"llm": half.language_model.precision} == {"llm": "bf16"}


def test_loading_and_metadata_hash_no_weights(folders, images, monkeypatch) -> None:
    hashed, original = [], modeldir.file_sha256

    def noted(file: Path) -> str:
        hashed.append(file.suffix)
        return original(file)

    monkeypatch.setattr(modeldir, "file_sha256", noted)
    model = LaVIT.from_pretrained(folders["codes"])
    model.generate(["a red circle"], seeds=[0])
    assert model.metadata["model"]
    assert hashed
    assert ".safetensors" not in hashed


def test_parts_are_loaded_once_and_with_low_memory_one_at_a_time(folders, images, monkeypatch) -> None:
    import lavit_pretrain.api
    import lavit_tokenizer.api

    loaded: list[str] = []

    def counted(module, name: str) -> None:
        load = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, **more: (loaded.append(name), load(*given, **more))[1])

    counted(lavit_pretrain.api, "load_llm")
    counted(lavit_tokenizer.api, "load_tokenizer")
    counted(lavit_tokenizer.api, "add_decoder")
    model = LaVIT.from_pretrained(folders["codes"])
    for _ in range(2):
        model.caption(images[:1], max_tokens=2)
        model.decode(model.encode(images[:1]), settings=DRAWING)
    assert sorted(loaded) == ["add_decoder", "load_llm", "load_tokenizer"]
    loaded.clear()
    small = LaVIT.from_pretrained(folders["codes"], low_memory=True)
    small.caption(images, max_tokens=2)
    assert small._parts._llm is not None
    assert small._parts._tokenizer is None
    small.generate(["red"], sampling=SAMPLING, drawing=DRAWING)
    assert loaded == ["load_tokenizer", "load_llm", "load_tokenizer"]


def test_halves_of_the_tokenizer_are_loaded_when_they_are_needed_and_share_what_is_shared(folders, images) -> None:
    whole = load_tokenizer(folders["codes"]).state_dict()
    model = LaVIT.from_pretrained(folders["codes"])
    codes = model.encode(images).codes
    parts = model._parts
    half = parts.encoder()
    assert not hasattr(half, "decoder")
    drawn = pixels_of(model.decode(codes, settings=DRAWING))
    assert parts.decoder() is parts.encoder() is model.tokenizer is half
    # The other way round the feature decoder is taken over.
    other = LaVIT.from_pretrained(folders["codes"])
    assert (pixels_of(other.decode(codes, settings=DRAWING)) == drawn).all()
    assert not hasattr(other._parts.decoder(), "encoder")
    decoder = other._parts.decoder().decoder
    assert [own.tolist() for own in other.encode(images).codes] == [own.tolist() for own in codes]
    assert other._parts.decoder() is other.tokenizer
    assert other.tokenizer.decoder is decoder
    for tokenizer in (model.tokenizer, other.tokenizer):
        found = tokenizer.state_dict()
        assert found.keys() == whole.keys()
        assert all(torch.equal(found[name], whole[name]) for name in whole)
        assert not any(parameter.requires_grad for parameter in tokenizer.parameters())
        assert not tokenizer.training


def test_parts_of_another_tokenizer_are_refused_before_anything_is_loaded(folders, images, tmp_path: Path) -> None:
    model = tmp_path / "model"
    LaVIT.from_pretrained(folders["codes"]).save_pretrained(model)
    made_with = {"tokenizer_digest": "f" * 64}
    with export_part(model, "detokenizer", metadata=made_with) as part:
        shutil.copytree(folders["codes"] / "detokenizer", part, dirs_exist_ok=True)
    message = "detokenizer: trained with tokenizer ffffffffffff, this model holds tokenizer"
    with pytest.raises(InputError, match=message):
        LaVIT.from_pretrained(model, parts=("tokenizer", "detokenizer"))
    opened = LaVIT.from_pretrained(model)
    for draw in (lambda: opened.generate(["red"]), lambda: opened.decode([np.array([1])])):
        with pytest.raises(InputError, match=message):
            draw()
    assert opened._parts._llm is opened._parts._tokenizer is opened._parts._detokenizer is None
    assert opened.caption(images[:1], max_tokens=2)


@pytest.mark.parametrize(("highres", "preset"), [(False, "published"), (True, "released-v2-readme")])
def test_imported_weights_have_the_released_settings(folders, tmp_path: Path, highres: bool, preset: str) -> None:
    assert LaVIT.from_pretrained(folders["codes"])._sample_settings.top_k == 8
    model = tmp_path / "model"
    LaVIT.from_pretrained(folders["codes"]).save_pretrained(model)
    with export_part(model, "tokenizer", metadata=IMPORTED) as part:
        shutil.copytree(folders["codes"] / "tokenizer", part, dirs_exist_ok=True)
    (model / "detokenizer-highres").mkdir() if highres else None
    opened = LaVIT.from_pretrained(model)
    assert opened.sample_settings() == resolve(SampleSettings, preset=load_preset("lavit_pretrain", "sample", preset))
    assert (opened.sample_settings().guidance_scale, opened.draw_settings().guidance_scale) == (4.0, 7.0)
    changed = opened.draw_settings(num_steps=3, guidance_scale=None)
    assert (changed.num_steps, changed.guidance_scale) == (3, 7.0)
    assert LaVIT.from_pretrained(model, preset="tiny").sample_settings().top_k == 8


def test_save_pretrained_keeps_the_digests(folders, images, tmp_path: Path) -> None:
    model = LaVIT.from_pretrained(folders["codes"])
    model.save_pretrained(tmp_path / "deep" / "copy")
    saved = LaVIT.from_pretrained(tmp_path / "deep" / "copy")
    assert saved.metadata == model.metadata
    assert saved.caption(images, max_tokens=4) == model.caption(images, max_tokens=4)
    stored = json.loads((tmp_path / "deep" / "copy" / "lavit.json").read_text())
    assert list(stored["parts"]) == ["tokenizer", "llm", "detokenizer"]
    with pytest.raises(InputError, match="copy: a folder with files in it, expected no such folder"):
        model.save_pretrained(tmp_path / "deep" / "copy")
    (tmp_path / "deep" / "copy" / "note").touch()
    save_model(folders["codes"], tmp_path / "deep" / "copy", replace=True)
    assert (tmp_path / "deep" / "copy" / "note").exists(), "the same model stays as it is"
    save_model(folders["live"], tmp_path / "deep" / "copy", replace=True)
    assert LaVIT.from_pretrained(tmp_path / "deep" / "copy").image_input == "live"
    assert not (tmp_path / "deep" / "copy" / "note").exists()


def test_threads_that_begin_at_once_load_each_part_once(folders, images, monkeypatch) -> None:
    loads: list[Path] = []

    def slow(*args: Any, **options: Any) -> Any:
        loads.append(args[0])
        time.sleep(0.2)
        return load_llm(*args, **options)

    monkeypatch.setattr("lavit_pretrain.api.load_llm", slow)
    model = LaVIT.from_pretrained(folders["codes"])
    with ThreadPoolExecutor(4) as pool:
        captions = list(pool.map(lambda _: model.caption(images[:2]), range(4)))
    assert loads == [folders["codes"]]
    assert captions == [model.caption(images[:2])] * 4


def test_importing_lavit_and_opening_a_model_are_light(folders) -> None:
    code = (
        "import sys, lavit; m = lavit.LaVIT.from_pretrained(sys.argv[1]); "
        "print([n for n in ('torch', 'transformers', 'diffusers') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, folders["codes"]], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("missing", ["lavit_pretrain", "lavit_detokenizer"])
def test_the_tokenizer_works_without_the_other_stages(folders, missing: str) -> None:
    code = f"""
import sys, numpy as np
sys.modules["lavit_pretrain"] = sys.modules["lavit_detokenizer"] = None
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("lavit_pretrain", "lavit_detokenizer"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
for name in ("lavit_pretrain", "lavit_detokenizer"):
    del sys.modules[name]
sys.meta_path.insert(0, Missing())
from lavit import LaVIT
from lavit_core.errors import InputError
model = LaVIT.from_pretrained(sys.argv[1])
assert len(model.encode(np.zeros((16, 16, 3), np.uint8))) == 1
try:
    model.caption(np.zeros((16, 16, 3), np.uint8)) if {missing!r} == "lavit_pretrain" else model.decode([np.array([1])])
except InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, folders["codes"]], capture_output=True, text=True, check=True)
    name = missing.replace("_", "-")
    assert f"needs {name}, which is not installed; run `pip install ./stages/core" in done.stdout


def test_save_pretrained_refuses_places_that_cannot_be(folders, tmp_path: Path) -> None:
    model = LaVIT.from_pretrained(folders["codes"])
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/copy: can't be written \(Not a directory\)"):
        model.save_pretrained(tmp_path / "file" / "copy")
    for place in ("tokenizer/copy", "llm", "detokenizer/a/b"):
        with pytest.raises(InputError, match=r"of the model itself, expected a place outside"):
            model.save_pretrained(folders["codes"] / place)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert not (folders["codes"] / "tokenizer" / "copy").exists()
    assert not (folders["codes"] / "detokenizer" / "a").exists()


def test_libraries_say_nothing_on_stderr(folders) -> None:
    code = """
import sys, lavit
model = lavit.LaVIT.from_pretrained(sys.argv[1])
drawing = lavit.DrawSettings(num_steps=2)
for own in (model, lavit.LaVIT.from_pretrained(sys.argv[1], precision="bf16")):
    own.caption(own.generate("red", drawing=drawing), max_tokens=2)
"""
    done = subprocess.run([sys.executable, "-c", code, folders["codes"]], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_its_name_is_directory_parts_and_device_and_loading_is_silent(folders, images, capsys) -> None:
    model = LaVIT.from_pretrained(folders["codes"], device="cpu")
    assert repr(model) == f"LaVIT('{folders['codes']}', parts: tokenizer, llm, detokenizer, device: cpu)"
    model.reconstruct(images[:1], settings=DRAWING)
    assert "kept in float32" not in capsys.readouterr().err


def test_what_is_changed_in_the_network_counts_from_then_on(folders) -> None:
    """As a merge of adapters changes it, through `.data`; on some CPUs weights that draw are held a second time."""

    def change(model: LaVIT) -> None:
        for weight in model.language_model.llm.parameters():
            weight.data.copy_(weight.flip(0))

    drew, drew_not = (LaVIT.from_pretrained(folders["codes"]) for _ in range(2))
    before = drew.sample(["a red circle"], 0, SAMPLING)
    for model in (drew, drew_not):
        change(model)
    after, expected = (model.sample(["a red circle"], 0, SAMPLING) for model in (drew, drew_not))
    assert [codes.tolist() for codes in after] == [codes.tolist() for codes in expected]
    assert [codes.tolist() for codes in after] != [codes.tolist() for codes in before]
    drew.language_model.to(torch.bfloat16)
    assert drew.sample(["a red circle"], 0, SAMPLING)
