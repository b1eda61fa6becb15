"""Drawing codes against a plain loop, alone and in batches, and their frequencies."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lavit_core.errors import UsageError
from lavit_pretrain.attention import use_padded
from lavit_pretrain.config import SampleSettings
from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.sample_codes import guided_scores, pick, sample_codes
from lavit_trainkit.device import generator

PROMPTS = ["a red circle", "", "a very long prompt about a blue square and a green triangle", "blue"]


@pytest.fixture(scope="module")
def llm(random_llm: Callable[..., LanguageModel]) -> LanguageModel:
    llm = random_llm("codes", PROMPTS * 3)
    # A spread-out head, so that untrained codes differ from each other.
    llm.llm.lm_head.weight.data.normal_(0, 0.5)
    use_padded(llm.llm)
    return llm.eval().requires_grad_(False)


def reference(llm: LanguageModel, prompt: str, seed: int, settings: SampleSettings) -> list[int]:
    """One sample at a time, whole sequences without cache or padding, full vocabulary."""
    vocabulary, codes = llm.vocabulary, []
    uniform = torch.rand(9, generator=generator(seed, "codes"), dtype=torch.float64)
    for step in range(9):
        tail = [vocabulary.img, *(code + vocabulary.first_code for code in codes)]
        text = llm.codec.encode(prompt).tolist()
        rows = [text + tail, tail]
        both = [llm.llm(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1) for ids in rows]
        scores = settings.guidance_scale * (both[0] - both[1]) + both[1]
        scores[: vocabulary.end_img] = -torch.inf
        if step < 3:
            scores[vocabulary.end_img] = -torch.inf
        scores /= settings.temperature
        kept = scores.topk(settings.top_k).indices
        probs = (
            torch.zeros_like(scores)
            .scatter(0, kept, scores[kept])
            .where(torch.isin(torch.arange(len(scores)), kept), torch.tensor(-torch.inf))
        )
        probs = probs.double().softmax(-1)
        choice = int(torch.searchsorted(probs.cumsum(0), uniform[step] * probs.sum(), right=True))
        if choice == vocabulary.end_img:
            break
        codes.append(choice - vocabulary.first_code)
    return codes


def test_against_a_plain_loop(llm: Any) -> None:
    settings = SampleSettings(guidance_scale=2.5, top_k=9, temperature=0.9)
    drawn = sample_codes(llm, PROMPTS, seeds=[3, 4, 5, 6], settings=settings)
    expected = [reference(llm, prompt, seed, settings) for prompt, seed in zip(PROMPTS, [3, 4, 5, 6], strict=True)]
    assert [codes.tolist() for codes in drawn] == expected


def test_a_sample_does_not_depend_on_its_batch(llm: Any) -> None:
    settings = SampleSettings(guidance_scale=1.5, top_k=0, top_p=0.9)
    prompts, seeds = PROMPTS * 4, list(range(16))
    together = sample_codes(llm, prompts, seeds=seeds, settings=settings)
    alone = [sample_codes(llm, [p], seeds=[s], settings=settings)[0] for p, s in zip(prompts, seeds, strict=True)]
    in_threes = sample_codes(llm, prompts, seeds=seeds, settings=settings, batch_size=3)
    for a, b, c in zip(together, alone, in_threes, strict=True):
        assert a.tolist() == b.tolist() == c.tolist()
    assert len({tuple(codes) for codes in together}) > 8


def test_lengths_and_codes_stay_in_bounds(llm: Any) -> None:
    for low, high in ((1, 2), (4, 4), (2, 7)):
        settings = SampleSettings(min_codes=low, max_codes=high, top_k=0)
        drawn = sample_codes(llm, ["red"] * 20, seeds=list(range(20)), settings=settings)
        assert all(low <= len(codes) <= high for codes in drawn)
        assert all(codes.dtype == np.int64 and codes.min() >= 0 and codes.max() < 24 for codes in drawn)
    most = SampleSettings(min_codes=16, max_codes=200, top_k=0)
    assert {len(codes) for codes in sample_codes(llm, ["red"] * 4, seeds=list(range(4)), settings=most)} == {16}
    by_model = sample_codes(llm, ["red"] * 20, seeds=list(range(20)), settings=SampleSettings(top_k=0))
    assert all(3 <= len(codes) <= 9 for codes in by_model)


def test_contradictory_settings_are_refused(llm: Any) -> None:
    with pytest.raises(UsageError, match="min_codes: 5 is more than max_codes 4"):
        sample_codes(llm, ["x"], seeds=[0], settings=SampleSettings(min_codes=5, max_codes=4))
    with pytest.raises(UsageError, match="1 prompts but 2 seeds"):
        sample_codes(llm, ["x"], seeds=[0, 1], settings=SampleSettings())


def test_a_prompt_that_leaves_no_room_for_codes_is_refused(llm: LanguageModel) -> None:
    long = [np.zeros(60, np.int64), np.zeros(60, np.int64)]
    with pytest.raises(UsageError, match=r"prompt: 125 tokens and up to 9 codes after it, more than .* 128 positions"):
        sample_codes(llm, [long], seeds=[0], settings=SampleSettings())


def test_temperature_zero_and_top_k_one_take_the_likeliest(llm: Any) -> None:
    settings = SampleSettings(temperature=0, guidance_scale=1)
    greedy = sample_codes(llm, ["red"], seeds=[0], settings=settings)[0]
    top_one = sample_codes(llm, ["red"], seeds=[9], settings=SampleSettings(top_k=1, guidance_scale=1))[0]
    assert greedy.tolist() == top_one.tolist()


def test_guidance_is_the_published_formula() -> None:
    logits = torch.randn(4, 6)
    conditional, unconditional = logits[:2].log_softmax(-1), logits[2:].log_softmax(-1)
    torch.testing.assert_close(guided_scores(logits, 3.0), 3.0 * (conditional - unconditional) + unconditional)
    torch.testing.assert_close(guided_scores(logits, 1.0), conditional)
    torch.testing.assert_close(guided_scores(logits[:2], None), conditional)


def test_drawn_frequencies_follow_the_filtered_distribution() -> None:
    scores = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(20_000, 4)
    uniform = torch.rand(20_000, generator=generator(0, "test"), dtype=torch.float64)
    for settings, expected in (
        (SampleSettings(top_k=0), [0.5, 0.3, 0.15, 0.05]),
        (SampleSettings(top_k=2), [0.625, 0.375, 0, 0]),
        (SampleSettings(top_k=0, top_p=0.8), [0.625, 0.375, 0, 0]),
        (SampleSettings(top_k=0, temperature=0.5), [0.6849, 0.2466, 0.0616, 0.0068]),
    ):
        found = torch.bincount(pick(scores, uniform, settings), minlength=4) / 20_000
        torch.testing.assert_close(found, torch.tensor(expected), atol=0.012, rtol=0)  # three standard errors
