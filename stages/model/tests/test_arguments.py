"""Arguments of a model's methods: what is taken, and what is refused with a line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lavit import LaVIT, SampleSettings
from lavit.settings import seed_list
from lavit_core.errors import InputError, UsageError

from .drawings import DRAWING, pixels_of

SAMPLING = SampleSettings(guidance_scale=2.0, image_guidance_scale=3.0, top_k=9, min_codes=4, max_codes=6)


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
    with pytest.raises(InputError, match=r"codes: found lists inside of one's codes, expected integers \[n\] an image"):
        model.decode([[1, [2, 3]]])
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


@pytest.mark.parametrize(
    ("earlier", "message"),
    [
        ([[("x", "y", "z")]], r"earlier\[0\]\[0\]: found 3 values, expected a \(question, answer\) pair"),
        ([["xy"]], r"earlier\[0\]\[0\]: found str, expected a \(question, answer\) pair"),
        ([[("x", 5)]], r"earlier\[0\]\[0\]: answer: found int, expected a text"),
        (["xy"], r"earlier\[0\]: found str, expected a list of \(question, answer\) pairs"),
        (5, r"earlier: found int, expected a list of \(question, answer\) pairs for each question"),
    ],
)
def test_earlier_turns_of_another_form_are_refused(folders, images, earlier, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LaVIT.from_pretrained(folders["codes"]).answer(images[:1], "what?", earlier=earlier)


def test_mappings_and_what_cannot_be_listed_are_refused(folders, images) -> None:
    model = LaVIT.from_pretrained(folders["codes"])
    for call, name in (
        (lambda: model.generate({"a": 1}), "prompts"),  # type: ignore[arg-type]
        (lambda: model.answer(images[:1], {"a": 1}), "questions"),
        (lambda: model.score(images[:1], {"a": 1}), "texts"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError, match=f"{name}: found dict, expected a text"):
            call()
    for codes in (None, 5, np.array(5)):
        with pytest.raises(InputError, match=r"codes: found (NoneType|int|ndarray), expected integers \[n\] an image"):
            model.decode(codes)  # type: ignore[arg-type]


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
