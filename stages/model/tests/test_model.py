"""The LaVIT object against the stages it is made of, alone and in batches, with all parts in memory or one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lavit import ImageTokens, LaVIT, SampleSettings
from lavit_core.errors import UsageError
from lavit_detokenizer.api import draw_codes, load_detokenizer
from lavit_pretrain.api import ANSWERS, answer, caption, encode_images, load_llm, sample_codes, text_log_likelihoods
from lavit_tokenizer.api import load_tokenizer
from PIL import Image

from .drawings import DRAWING, pixels_of

SAMPLING = SampleSettings(guidance_scale=2.0, image_guidance_scale=3.0, top_k=9, min_codes=4, max_codes=6)


@pytest.fixture(params=[False, True], ids=["all parts", "low memory"])
def low_memory(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


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
            assert len(so_far) <= step.step
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
    if image_input == "none":
        with pytest.raises(UsageError, match="was trained without images; a question with images needs one that sees"):
            model.answer(None, [[images[0], "what?"]])
        with pytest.raises(UsageError, match="was trained without images; a question with images needs one that sees"):
            model.answer(None, [[np.array([1, 2]), "what?"]])
        return
    first, second = read.take([0, 1]).each()
    talk = [(("<image>which?", images[0]), "a"), ("and now?", "b")]
    earlier = [([first, "which?"], "a"), ("and now?", "b")]
    asked = ["like <image> or ?", images[1]]
    assert model.answer(None, [asked], earlier=[talk]) == answer(
        llm, None, [["like", second, "or ?"]], earlier=[earlier]
    )
    with pytest.raises(UsageError, match="questions: found images in them and `images` too"):
        model.answer(images[0], [asked])
    with pytest.raises(UsageError, match="questions: found images in them and `images` too"):
        answer(llm, read.take([0]), [[second, "which?"]])
    with pytest.raises(UsageError, match=r"earlier\[1\]\[1\]: 1 <image> but 0 images"):
        model.answer(None, ["?", "?"], earlier=[[("a", "b")], [("a", "b"), (["<image> what?"], "a")]])
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
