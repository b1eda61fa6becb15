"""The LaVIT object against the stages it is made of, alone and in batches, with all parts in memory or one."""

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
from lavit import DrawSettings, ImageTokens, LaVIT, SampleSettings
from lavit.save import save_model
from lavit.settings import seed_list
from lavit_core import modeldir
from lavit_core.config import load_preset, resolve
from lavit_core.errors import InputError, UsageError
from lavit_core.modeldir import IMPORTED, export_part, part_digest
from lavit_detokenizer.api import draw_codes, load_detokenizer
from lavit_pretrain.api import ANSWERS, answer, caption, encode_images, load_llm, sample_codes, text_log_likelihoods
from lavit_tokenizer.api import load_tokenizer
from PIL import Image

SAMPLING = SampleSettings(guidance_scale=2.0, image_guidance_scale=3.0, top_k=9, min_codes=4, max_codes=6)
DRAWING = DrawSettings(num_steps=3, guidance_scale=1.5, batch_size=2)


@pytest.fixture(params=[False, True], ids=["all parts", "low memory"])
def low_memory(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def pixels_of(images: list[Image.Image]) -> np.ndarray:
    assert all(image.mode == "RGB" for image in images)
    return np.stack([np.asarray(image) for image in images])


def test_encode_against_the_tokenizer(folders, images) -> None:
    tokens = LaVIT.from_pretrained(folders["codes"], parts=("tokenizer",)).encode(images)
    expected = load_tokenizer(folders["codes"], device="cpu").encode(torch.from_numpy(images))
    assert isinstance(tokens, ImageTokens)
    assert len(tokens) == 5
    assert np.concatenate(tokens.codes).tolist() == expected.codes.tolist()
    assert tokens.counts.tolist() == expected.counts.tolist() == [len(codes) for codes in tokens.codes]
    assert (tokens.keep_mask == expected.keep_mask.numpy()).all()
    np.testing.assert_array_equal(tokens.features, expected.merged.numpy())
    chosen = LaVIT.from_pretrained(folders["codes"]).encode(images[0], selection="sample", seed=3, keys=["a"])
    again = load_tokenizer(folders["codes"]).encode(
        torch.from_numpy(images[:1]), selection="sample", seed=3, keys=["a"]
    )
    assert chosen.codes[0].tolist() == again.codes.tolist()


def test_decode_against_the_detokenizer(folders, images, low_memory: bool) -> None:
    model = LaVIT.from_pretrained(folders["codes"], low_memory=low_memory)
    tokens = model.encode(list(images))
    drawn = pixels_of(model.decode(tokens, seeds=[7, 8, 9, 10, 11], settings=DRAWING))
    tokenizer, detokenizer = load_tokenizer(folders["codes"]), load_detokenizer(folders["codes"])
    expected = draw_codes(detokenizer, tokenizer, tokens.codes, seeds=[7, 8, 9, 10, 11], settings=DRAWING)
    assert (drawn == expected).all()
    assert (pixels_of(model.reconstruct(images, seeds=7, settings=DRAWING)) == expected).all()
    # An image depends on its own codes and seed alone.
    alone = pixels_of(model.decode([tokens.codes[3]], seeds=10, settings=DRAWING))
    assert np.abs(alone[0].astype(int) - expected[3]).max() <= 1


def test_sample_and_generate_against_the_stages(folders, low_memory: bool) -> None:
    model = LaVIT.from_pretrained(folders["codes"], low_memory=low_memory)
    texts = ["a red circle", "blue", ""]
    codes = model.sample(texts, seeds=4, settings=SAMPLING)
    expected = sample_codes(load_llm(folders["codes"]), texts, seeds=[4, 5, 6], settings=SAMPLING)
    assert [own.tolist() for own in codes] == [own.tolist() for own in expected]
    images = pixels_of(model.generate(texts, seeds=4, sampling=SAMPLING, drawing=DRAWING))
    assert (images == pixels_of(model.decode(codes, seeds=4, settings=DRAWING))).all()
    other = model.sample(texts, seeds=4, settings=SAMPLING.model_copy(update={"guidance_scale": 1.0}))
    first = model.generate_steps(texts, seeds=4, guidance_scale=1.0, sampling=SAMPLING, drawing=DRAWING)
    assert [own.tolist() for own in list(first)[-1].read_codes()] == [own.tolist() for own in other]


def test_steps_report_progress(folders) -> None:
    model = LaVIT.from_pretrained(folders["codes"])
    steps = list(model.generate_steps(["red", "blue", "green"], sampling=SAMPLING, drawing=DRAWING, batch_size=2))
    codes = [step for step in steps if step.stage == "codes"]
    assert {tuple(step.indices) for step in codes} == {(0, 1), (2,)} or len({tuple(s.indices) for s in codes}) == 2
    assert [step.step for step in codes if 2 in step.indices] == sorted(
        {step.step for step in codes if 2 in step.indices}
    )
    assert all(0 < step.step <= step.num_steps == 6 for step in codes)
    drawn = steps[-1].read_codes()
    for step in codes:
        for place, so_far in zip(step.indices, step.read_codes(), strict=True):
            assert drawn[place][: len(so_far)].tolist() == so_far.tolist()
    pixels = [(tuple(step.indices), step.step, step.num_steps) for step in steps if step.stage == "pixels"]
    assert pixels == [((0, 1), n, 3) for n in (1, 2, 3)] + [((2,), n, 3) for n in (1, 2, 3)]
    assert steps[-1].stage == "done"
    assert len(steps[-1].images or []) == 3
    assert all(step.images is None for step in steps[:-1])


def test_prompts_with_images(folders, images, tmp_path: Path, low_memory: bool) -> None:
    model = LaVIT.from_pretrained(folders["codes"], low_memory=low_memory)
    file = tmp_path / "a.png"
    Image.fromarray(images[0]).save(file)
    codes = model.encode(images[0]).codes[0]
    prompts = [
        ["<image> as an oil painting", Image.fromarray(images[0])],
        [file, "as an oil painting"],
        [codes, "as an oil painting"],
        ["<image> as an oil painting", images[1]],
    ]
    drawn = [own.tolist() for own in model.sample(prompts, seeds=[0] * 4, settings=SAMPLING)]
    assert drawn[0] == drawn[1] == drawn[2] != drawn[3]


@pytest.mark.parametrize("image_input", ["codes", "live", "none"])
def test_captions_and_answers_against_the_language_model(folders, images, image_input, low_memory: bool) -> None:
    model = LaVIT.from_pretrained(folders[image_input], low_memory=low_memory)
    llm, tokenizer = load_llm(folders[image_input]), load_tokenizer(folders[image_input])
    read = encode_images(llm, tokenizer, images)
    assert model.caption(images, max_tokens=8) == caption(llm, read, max_tokens=8)
    questions = ["what is blue?", "what is red?", "what is blue?"]
    expected = answer(llm, read.take([2, 0, 2]), questions, max_tokens=5)
    assert model.answer([images[2], images[0], images[2]], questions, max_tokens=5) == expected
    repeated = answer(llm, read.take([1, 1]), questions[:2], max_tokens=5, beams=ANSWERS)
    assert model.answer(images[1], questions[:2], max_tokens=5, beams=ANSWERS) == repeated
    assert model.answer(None, questions[0]) == answer(llm, None, questions[:1])
    assert model.image_input == image_input


def test_scores_against_the_language_model(folders, images, low_memory: bool) -> None:
    model = LaVIT.from_pretrained(folders["live"], low_memory=low_memory)
    llm, tokenizer = load_llm(folders["live"]), load_tokenizer(folders["live"])
    texts = ["a red circle", "blue", "what is red?"]
    expected = np.stack(list(text_log_likelihoods(llm, encode_images(llm, tokenizer, images), texts)))
    np.testing.assert_allclose(model.score(images, texts, all_pairs=True), expected, rtol=0, atol=1e-9)
    pairs = model.score(images[:3], texts)
    np.testing.assert_allclose(pairs, expected[:3].diagonal(), rtol=1e-5)
    assert model.count_tokens(["", "a red circle"]).tolist() == [1, 1 + len(llm.codec.encode("a red circle"))]
    codes = model.encode(images).codes
    matrix = model.score_codes([*texts, ""], codes, all_pairs=True)
    assert matrix.shape == (4, 5)
    np.testing.assert_allclose(model.score_codes(texts, codes[:3]), matrix[:3, :3].diagonal(), rtol=1e-5)


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
    assert LaVIT.from_pretrained(folders["codes"])._sample_settings().top_k == 8
    model = tmp_path / "model"
    LaVIT.from_pretrained(folders["codes"]).save_pretrained(model)
    with export_part(model, "tokenizer", metadata=IMPORTED) as part:
        shutil.copytree(folders["codes"] / "tokenizer", part, dirs_exist_ok=True)
    (model / "detokenizer-highres").mkdir() if highres else None
    opened = LaVIT.from_pretrained(model)
    assert opened._sample_settings() == resolve(SampleSettings, preset=load_preset("lavit_pretrain", "sample", preset))
    assert (opened._sample_settings().guidance_scale, opened.draw_settings().guidance_scale) == (4.0, 7.0)
    changed = opened.draw_settings(num_steps=3, guidance_scale=None)
    assert (changed.num_steps, changed.guidance_scale) == (3, 7.0)
    assert LaVIT.from_pretrained(model, preset="tiny")._sample_settings().top_k == 8


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


def test_bad_arguments_are_refused(folders, images, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tokenizer/ here"):
        LaVIT.from_pretrained(tmp_path)
    with pytest.raises(UsageError, match="parts: found eyes, expected some of tokenizer, llm, detokenizer"):
        LaVIT.from_pretrained(folders["codes"], parts=("eyes",))
    with pytest.raises(InputError, match="no detokenizer-highres/ here"):
        LaVIT.from_pretrained(folders["codes"], highres=True).generate("red")
    with pytest.raises(UsageError, match="this needs 'llm' too"):
        LaVIT.from_pretrained(folders["codes"], parts=["tokenizer"]).caption(images)
    model = LaVIT.from_pretrained(folders["codes"])
    with pytest.raises(UsageError, match="seeds: found 1, expected 2, one an image"):
        model.generate(["red", "blue"], seeds=[1])
    with pytest.raises(InputError, match=r"codes\[1\]: they lie in \[-1, 3\], expected \[0, 24\)"):
        model.decode([np.array([1]), np.array([-1, 3])])
    with pytest.raises(InputError, match=r"codes\[0\]: found float64 \[1\], expected integers \[n\]"):
        model.decode([np.array([1.0])])
    with pytest.raises(UsageError, match="2 questions but 3 images, expected one image a question"):
        model.answer(list(images[:3]), ["what?", "who?"])
    with pytest.raises(UsageError, match="1 texts but 2 images, expected as many, or all_pairs=True"):
        model.score(images[:2], ["red"])
    blind = LaVIT.from_pretrained(folders["none"])
    with pytest.raises(UsageError, match="trained without images"):
        blind.score(images[0], "red")
    with pytest.raises(UsageError, match="trained without images"):
        blind.sample([["red", images[0]]])
    continuous = SAMPLING.model_copy(update={"prompt_images": "continuous"})
    with pytest.raises(UsageError, match="prompt_images: continuous, but this model reads images as codes"):
        model.sample([["red", images[0]]], settings=continuous)


@pytest.mark.parametrize("seeds", [1.5, "12", [1.7, 2], {"a": 1}])
def test_seeds_that_are_no_integers_are_refused(folders, seeds) -> None:
    with pytest.raises(UsageError, match=r"seeds: found .*, expected one integer, or one an image"):
        LaVIT.from_pretrained(folders["codes"]).decode([np.array([1]), np.array([2])], seeds=seeds)


def test_seeds_may_be_numpy_integers(folders) -> None:
    model, codes = LaVIT.from_pretrained(folders["codes"]), [np.array([1]), np.array([2])]
    expected = pixels_of(model.decode(codes, seeds=[3, 4], settings=DRAWING))
    for seeds in (np.int64(3), np.array([3, 4]), torch.tensor([3, 4]), range(3, 5)):
        assert (pixels_of(model.decode(codes, seeds=seeds, settings=DRAWING)) == expected).all()


def test_numbers_that_cannot_be_are_refused(folders, images) -> None:
    model = LaVIT.from_pretrained(folders["codes"])
    with pytest.raises(UsageError, match=r"setting guidance_scale: .* greater than or equal to 0, found -1"):
        model.generate("red", guidance_scale=-1)
    for call in (
        lambda: model.generate("red", batch_size=0),
        lambda: model.sample("red", batch_size=-1),
        lambda: model.score(images[0], "red", batch_size=0),
        lambda: model.score_codes("red", [np.array([1])], batch_size=0),
    ):
        with pytest.raises(UsageError, match=r"batch_size: found (0|-1), expected an integer of at least 1"):
            call()
    for call in (lambda: model.caption(images, max_tokens=0), lambda: model.answer(images, "what?", max_tokens=0)):
        with pytest.raises(UsageError, match="max_tokens: found 0, expected an integer of at least 1"):
            call()


def test_sampled_patches_are_keyed_by_the_pixels_or_by_one_key_an_image(folders, images) -> None:
    model = LaVIT.from_pretrained(folders["codes"])
    tokens = model.encode(images, selection="sample", seed=3)
    own = LaVIT.from_pretrained(folders["codes"], selection="sample").encode(images, seed=3)
    assert (tokens.keep_mask == own.keep_mask).all()
    assert (model.encode(images[2], selection="sample", seed=3).keep_mask == tokens.keep_mask[2:3]).all()
    for keys, found in ((["a"], "1"), ("abcde", "a text")):
        with pytest.raises(UsageError, match=f"keys: found {found}, expected 5, one an image"):
            model.encode(images, selection="sample", keys=keys)


def test_exact_budgets_are_those_of_the_call_then_of_opening_then_of_training(folders, images, tmp_path) -> None:
    model = LaVIT.from_pretrained(folders["codes"])
    own = int(model.encode(images).counts[0])  # the tokenizer's keep_ratio: lavit.json has no number
    assert model.encode(images, tokens=own + 2).counts.tolist() == [own + 2] * len(images)
    five = LaVIT.from_pretrained(folders["codes"], tokens=5)
    assert five.encode(images).counts.tolist() == [5] * len(images)
    assert five.encode(images, selection="topk", tokens=3).counts.tolist() == [3] * len(images)
    assert (five.encode(images, selection="threshold").keep_mask == model.encode(images, "threshold").keep_mask).all()
    for given, message in (
        ({"tokens": 17}, "tokens: found 17, expected 1 to 16, the patches of an image"),
        ({"tokens": 0}, "tokens: found 0, expected a whole number"),
        ({"tokens": 2, "selection": "sample"}, "tokens: found 2 with selection 'sample'"),
    ):
        with pytest.raises(UsageError, match=message):
            model.encode(images, **given)
        with pytest.raises(UsageError, match=message):
            LaVIT.from_pretrained(folders["codes"], **given).encode(images)


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


def test_every_integer_is_a_seed(folders) -> None:
    assert seed_list(None, 2) == [0, 1]
    assert seed_list(np.int64(3), 2) == seed_list(torch.tensor(3), 2) == [3, 4]
    assert seed_list(np.array([5, -1]), 2) == seed_list((np.int32(5), -1), 2) == [5, -1]
    for seeds in (2.0, "12", [1.5, 2], np.array(2.0)):
        with pytest.raises(UsageError, match=r"seeds: found .*, expected one integer, or one an image"):
            seed_list(seeds, 2)
    model = LaVIT.from_pretrained(folders["codes"])
    images = model.generate(["red"] * 3, seeds=[-1, 2**80, 7], sampling=SAMPLING, drawing=DRAWING)
    assert len({image.tobytes() for image in images}) == 3


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


def test_unknown_words_are_refused_when_a_model_is_opened(folders) -> None:
    for given, message in (
        ({"precision": "int4"}, "--precision int4: expected auto, fp32 or bf16"),
        ({"selection": "best"}, "selection: found 'best', expected threshold, topk, sample or None"),
        ({"preset": "huge"}, "--preset huge: sample has the presets base, "),
        ({"parts": "eyes"}, "parts: found eyes, expected some of"),
    ):
        with pytest.raises(UsageError, match=message):
            LaVIT.from_pretrained(folders["codes"], **given)  # type: ignore[arg-type]
    assert LaVIT.from_pretrained(folders["codes"], parts="tokenizer").grid == (4, 4)
    assert LaVIT.from_pretrained(folders["codes"], preset="published-sdxl").image_px == 16  # of drawing alone


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


def test_what_is_no_text_is_refused(folders, images) -> None:
    model, codes = LaVIT.from_pretrained(folders["live"]), [np.array([1])]
    lone = "a \ud800 b"
    for call, name in (
        (lambda text: model.sample(text), "prompts"),
        (lambda text: model.generate([[text]]), "prompts"),
        (lambda text: model.answer(images, text), "questions"),
        (lambda text: model.score(images[:1], text), "texts"),
        (lambda text: model.score_codes(text, codes), "texts"),
        (lambda text: model.count_tokens(text), "texts"),
    ):
        with pytest.raises(UsageError, match=rf"{name}\[0\]: found a surrogate without its partner .*character 2"):
            call(lone)
        with pytest.raises(UsageError, match=rf"{name}(\[0\])?: found int"):
            call(5)
    with pytest.raises(UsageError, match=r"texts\[1\]: found NoneType, expected a text"):
        model.score(images[:2], ["red", None])  # type: ignore[list-item]
    for texts, given, name in (([], codes, "texts"), ("red", [], "codes")):
        with pytest.raises(UsageError, match=f"{name}: found none"):
            model.score_codes(texts, given, all_pairs=True)
    assert model.count_tokens("a red circle").tolist() == model.count_tokens(["a red circle"]).tolist()
    with pytest.raises(UsageError, match=r"max_tokens: 100000 after \d+ tokens .* language model's \d+ positions"):
        model.caption(images[:1], max_tokens=100000)


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
