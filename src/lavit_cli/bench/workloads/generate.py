"""Codes drawn with guidance: one batch of both branches beside transformers' `generate`.

The baseline is the released code's way, which transformers' users take: `guidance_scale` with `negative_prompt_ids` (a
second pass of the model in every step, `UnbatchedClassifierFreeGuidanceLogitsProcessor`), the text's ids suppressed,
top-k. Before anything is timed, `generate` is led along the codes that ours drew, and the distributions of every step
are compared.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lavit_pretrain.api import SampleSettings, SamplingStep, sample_steps, tokenize_prompt, use_padded
from lavit_trainkit.device import generator
from torch import Tensor
from transformers import LogitsProcessor

from lavit_cli.bench.comparison import Arm, BenchSettings, Comparison, Unequal
from lavit_cli.bench.machine import DTYPES
from lavit_cli.bench.workloads.language_models import (
    FULL,
    SMALL,
    ModelSize,
    as_language_model,
    random_llama,
    words_of,
)

LIMITS = {"fp32": 1e-3, "bf16": 0.15}
"""Total variation between distributions: guidance multiplies what sums of another order, or bf16, differ by."""
GUIDANCE, TOP_K = 4.0, 50
PREFIX = 85


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is drawn."""

    model: ModelSize
    codes: int
    """Codes of an image; each is drawn to its end, so that both arms do the same."""
    batches: tuple[int, ...]
    shared: int
    """Prompts that begin with the same image."""
    shared_codes: int


SIZES = Sizes(model=SMALL, codes=24, batches=(1, 4, 8), shared=64, shared_codes=12)
FULL_SIZES = Sizes(
    model=dataclasses.replace(FULL, layers=32), codes=85, batches=(1, 4, 8, 16), shared=64, shared_codes=85
)


def compare(settings: BenchSettings) -> Iterator[Comparison]:
    """Yield batches of prompts, and prompts of one prefix."""
    sizes = FULL_SIZES if settings.full else SIZES
    for dtype in settings.dtypes:
        for batch in sizes.batches:
            stream = generator(settings.seed, "bench", "prompts", batch)
            texts = [words_of(16 + 8 * place % 9, stream) for place in range(batch)]
            yield drawn(
                settings, sizes.model, texts, sizes.codes, dtype, name=f"{batch} prompts", goal=2.5, curve="prompts"
            )
        stream = generator(settings.seed, "bench", "prefix")
        image = torch.randint(0, sizes.model.codes, (PREFIX,), generator=stream).numpy()
        prompts = [(image, words_of(4 + place % 5, stream)) for place in range(sizes.shared)]
        name = f"{sizes.shared} prompts of one prefix"
        yield drawn(settings, sizes.model, prompts, sizes.shared_codes, dtype, name=name, goal=4.0)


def drawn(
    settings: BenchSettings, size: ModelSize, prompts: list[Any], codes: int, dtype: str, *, name: str,
    goal: float | None = None, curve: str | None = None,
) -> Comparison:  # fmt: skip
    """Return the codes of some prompts, drawn by both arms with the same model."""
    llm, plain = (frozen_llama(size, settings, dtype) for _ in range(2))
    use_padded(llm)
    network = as_language_model(llm, size).arrange()
    sampling = SampleSettings(guidance_scale=GUIDANCE, top_k=TOP_K, min_codes=codes, max_codes=codes)
    seeds = list(range(len(prompts)))

    def ours() -> list[SamplingStep]:
        return list(sample_steps(network, prompts, seeds=seeds, settings=sampling))

    laid = [tokenize_prompt(prompt, size.vocabulary, network.codec.encode) for prompt in prompts]
    ids = [torch.from_numpy(one.ids).to(settings.device) for one in laid]
    theirs = by_generate(plain, size, ids, codes)

    def same(_: Tensor, steps: list[SamplingStep]) -> str:
        return same_distributions(steps, theirs, size, LIMITS[dtype])

    longest = max(map(len, ids))
    return Comparison(
        name=name,
        size=f"{size.words}, up to {longest} tokens and {codes} codes each",
        dtype=dtype,
        baseline=Arm(name=f"transformers' generate, {dtype}", run=theirs),
        ours=Arm(name=f"both branches in one batch, {dtype}", run=ours),
        equal=same,
        unit="codes",
        amount=len(prompts) * codes,
        goal=goal,
        curve=curve,
        at=None if curve is None else len(prompts),
    )


def frozen_llama(size: ModelSize, settings: BenchSettings, dtype: str) -> Any:
    """Return a model of random weights, equal for equal seeds, as inference has it."""
    llm: Any = random_llama(size, settings)
    return llm.to(DTYPES[dtype]).eval().requires_grad_(False)


def by_generate(llm: Any, size: ModelSize, ids: list[Tensor], codes: int) -> Callable[..., Tensor]:
    """Return transformers' `generate` on prompts (ids [n] each), padded on the left; extra processors may follow."""
    longest, vocabulary = max(map(len, ids)), size.vocabulary
    padded = torch.stack([torch.nn.functional.pad(one, (longest - len(one), 0)) for one in ids])
    lengths = torch.tensor([len(one) for one in ids], device=padded.device)
    mask = (torch.arange(longest, device=padded.device) >= longest - lengths[:, None]).long()
    arguments: dict[str, Any] = {
        "input_ids": padded,
        "attention_mask": mask,
        "do_sample": True,
        "top_k": TOP_K,
        "guidance_scale": GUIDANCE,
        "negative_prompt_ids": padded.new_full((len(ids), 1), vocabulary.img),
        "negative_prompt_attention_mask": mask.new_ones(len(ids), 1),
        "suppress_tokens": list(range(vocabulary.end_img)),
        "eos_token_id": vocabulary.end_img,
        "pad_token_id": 0,
        "min_new_tokens": codes,
        "max_new_tokens": codes,
    }

    def run(*more: LogitsProcessor) -> Tensor:
        torch.manual_seed(0)
        return llm.generate(**arguments, logits_processor=list(more))[:, longest:]

    return run


class Led(LogitsProcessor):
    """Keeps what `generate` would draw from in each step, before top-k, and leads it to codes of our choice."""

    def __init__(self, picks: list[Tensor], size: ModelSize) -> None:
        self.picks, self.start, self.seen = picks, size.vocabulary.end_img, list[Tensor]()

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores that leave one id."""
        self.seen.append(scores[:, self.start :].double().softmax(-1))
        chosen = self.picks[len(self.seen) - 1] + self.start
        return torch.full_like(scores, -torch.inf).scatter(1, chosen[:, None], 0.0)


def same_distributions(steps: list[SamplingStep], theirs: Callable[..., Tensor], size: ModelSize, limit: float) -> str:
    """Return how far the distributions of any step are apart, in total variation. Raises Unequal."""
    places = torch.tensor(steps[0].prompts).argsort()
    led = Led([pick[places] for pick in steps[-1].picks], size)
    theirs(led)
    if len(led.seen) != len(steps):
        raise Unequal(f"{len(led.seen)} and {len(steps)} steps")
    ours = (step.scores[places].double().softmax(-1) for step in steps)
    most = max(float((one - other).abs().sum(-1).max()) / 2 for one, other in zip(led.seen, ours, strict=True))
    if not most <= limit:
        raise Unequal(f"distributions differ by up to {most:.2g} in total variation, expected at most {limit:g}")
    return f"distributions of {len(steps)} steps differ by at most {most:.0e} in total variation"
