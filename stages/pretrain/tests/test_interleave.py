"""Texts and images by turns: the grammar from random weights, and each token against a plain loop."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lavit_core.errors import UsageError
from lavit_pretrain.attention import use_padded
from lavit_pretrain.config import InterleaveSettings, SampleSettings
from lavit_pretrain.interleave import interleaved_ids, write_interleaved
from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.sample_codes import pick
from lavit_trainkit.device import generator

SETTINGS = InterleaveSettings(
    max_tokens=60,
    max_images=3,
    text_temperature=2.0,
    codes=SampleSettings(guidance_scale=3.0, image_guidance_scale=1.5, temperature=2.0, top_k=0),
)
FEWEST, MOST = 3, 9
"""Codes of an image in the training data of the random model."""


@pytest.fixture(scope="module")
def llm(random_llm: Callable[..., LanguageModel]) -> LanguageModel:
    llm = random_llm("codes")
    llm.llm.lm_head.weight.data.normal_(0, 0.5)
    # Drawn wider, so that images open and close often.
    llm.llm.lm_head.weight.data[[llm.vocabulary.img, llm.vocabulary.end_img]] *= 4
    use_padded(llm.llm)
    return llm.eval().requires_grad_(False)


def spelled(llm: LanguageModel, ids: np.ndarray) -> str:
    """Return a letter for each id: t text, I [IMG], J [/IMG], c code."""
    vocabulary = llm.vocabulary
    bounds = [vocabulary.img, vocabulary.end_img, vocabulary.first_code, vocabulary.total]
    return "".join("tIJc"[int(np.searchsorted(bounds, one, side="right"))] for one in ids)


def test_200_of_200_from_random_weights_at_temperature_2_are_grammatical(llm: LanguageModel) -> None:
    prompts = [["a"], ["a red circle", np.array([1, 2, 3])]] * 100
    written = interleaved_ids(llm, prompts, seeds=range(200), settings=SETTINGS, batch_size=100)
    grammar = re.compile(f"(t|Ic{{{FEWEST},{MOST}}}J)*")
    spellings = [spelled(llm, ids) for ids in written]
    assert sum(grammar.fullmatch(text) is not None for text in spellings) == 200
    images = [text.count("I") for text in spellings]
    lengths = {len(found) for text in spellings for found in re.findall("c+", text)}
    # Both ends of the range occur, and so do samples with several images.
    assert {FEWEST, MOST} <= lengths
    assert 2 <= max(images) <= SETTINGS.max_images
    assert max(map(len, spellings)) == SETTINGS.max_tokens


def reference(llm: LanguageModel, prompt: str, seed: int) -> list[int]:
    """One sample, whole sequences without a cache, the unconditional branch read anew for every code."""
    vocabulary, eos = llm.vocabulary, llm.codec.eos
    ids, tail, images = llm.codec.encode(prompt).tolist(), [], 0
    uniform = torch.rand(SETTINGS.max_tokens, generator=generator(seed, "interleave"), dtype=torch.float64)
    words = SampleSettings(temperature=2.0, top_k=0)
    written: list[int] = []
    for step in range(SETTINGS.max_tokens):
        logits = llm.llm(torch.tensor([ids + written])).logits[0, -1]
        if tail:
            blank = llm.llm(torch.tensor([tail])).logits[0, -1]
            own, other = (one[vocabulary.end_img :].log_softmax(-1) for one in (logits, blank))
            scale = SETTINGS.codes.scale_of(images=images > 0)
            scores = scale * (own - other) + other
            if len(tail) - 1 < FEWEST:
                scores[0] = -torch.inf
            if len(tail) - 1 >= MOST:
                scores[1:] = -torch.inf
            chosen = int(pick(scores[None], uniform[step : step + 1], SETTINGS.codes)) + vocabulary.end_img
        else:
            scores = logits[: vocabulary.end_img].log_softmax(-1)
            if images >= SETTINGS.max_images or SETTINGS.max_tokens - step < MOST + 2:
                scores[vocabulary.img] = -torch.inf
            chosen = int(pick(scores[None], uniform[step : step + 1], words))
        if chosen == eos:
            return written
        written.append(chosen)
        if chosen == vocabulary.end_img:
            tail, images = [], images + 1
        elif tail or chosen == vocabulary.img:
            tail.append(chosen)
    return written


def test_each_token_is_that_of_a_plain_loop_whatever_its_neighbours(llm: LanguageModel) -> None:
    prompts, seeds = ["a", "a red circle and more", "circle", "red"], [7, 3, 11, 29]
    written = interleaved_ids(llm, prompts, seeds=seeds, settings=SETTINGS, batch_size=4)
    expected = [reference(llm, prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
    assert [ids.tolist() for ids in written] == expected
    assert sum(text.count("J") for text in (spelled(llm, ids) for ids in written)) >= 2


def test_parts_are_texts_and_codes_in_order(llm: LanguageModel) -> None:
    [ids] = interleaved_ids(llm, ["a"], seeds=[7], settings=SETTINGS, batch_size=1)
    [parts] = write_interleaved(llm, ["a"], seeds=[7], settings=SETTINGS)
    images = [part for part in parts if not isinstance(part, str)]
    codes = np.concatenate([np.empty(0, np.int64), *images])
    assert codes.tolist() == [int(one) - llm.vocabulary.first_code for one in ids if one >= llm.vocabulary.first_code]
    assert [len(part) for part in images] == [len(found) for found in re.findall("c+", spelled(llm, ids))]


@pytest.mark.parametrize(
    ("prompt", "changes", "message"),
    [
        ("", {}, "prompt: it is empty"),
        ("a", {"max_tokens": 500}, r"up to 500 tokens after it.* 128 positions; .* or lower max_tokens"),
        ("a", {"codes": SampleSettings(min_codes=9, max_codes=3)}, "min_codes: 9 is more than max_codes 3"),
    ],
)
def test_what_can_not_be_written_is_refused(
    llm: LanguageModel, prompt: str, changes: dict[str, Any], message: str
) -> None:
    settings = SETTINGS.model_copy(update=changes)
    with pytest.raises(UsageError, match=message):
        write_interleaved(llm, [prompt], seeds=[0], settings=settings)
