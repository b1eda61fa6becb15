"""Drawing an image as codes: guidance, grammar, filters, and one random stream a sample.

Source: arXiv 2309.04669, settings of the released code; guidance as in transformers' classifier-free guidance
processor, scale * (log p_cond - log p_uncond) + log p_uncond, before suppression and filters. The unconditional prompt
is a bare [IMG]. Differs: both branches lie in one batch, and only the rows of [/IMG] and of the codes are computed
(guided log-probabilities shift by a constant, so the distribution is the same).
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from lavit_core.errors import UsageError
from lavit_trainkit.device import generator
from torch import Tensor

from lavit_pretrain.config import SampleSettings
from lavit_pretrain.decoding import DecodingBatch
from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.sequence import Prompt, TokenizedPrompt, tokenize_prompt


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingStep:
    """One more code of each prompt in a batch."""

    prompts: Sequence[int]
    """Indices of the prompts in the batch."""
    step: int
    """Codes drawn so far, of `max_codes` at most."""
    max_codes: int
    last: bool
    """Whether every image of the batch is complete."""
    picks: Sequence[Tensor]
    """int64 [B] a step: 0 is [/IMG], 1 + c is code c."""
    scores: Tensor
    """Guided log-scores [b, 1 + K] that the last pick was drawn from, before temperature and filters, of the images
    that were not complete before."""

    def codes(self) -> list[np.ndarray]:
        """Return the codes drawn so far, int64 [n] a prompt (on a GPU this waits for it)."""
        picks_BM = torch.stack(list(self.picks), dim=1).cpu().numpy()
        return [row[: np.argmin(row) if (row == 0).any() else len(row)].astype(np.int64) - 1 for row in picks_BM]


def sample_codes(
    llm: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    seeds: Sequence[int],
    settings: SampleSettings,
    batch_size: int = 64,
) -> list[np.ndarray]:
    """Return the codes int64 [n] drawn for each prompt; sample i depends on prompt i and seed i alone.

    An empty prompt draws without condition. Raises UsageError for contradictory settings or a prompt that is too long,
    InputError for codes outside the codebook.
    """
    steps = sample_steps(llm, prompts, seeds=seeds, settings=settings, batch_size=batch_size)
    return codes_in_order(step for step in steps if step.last)


def codes_in_order(complete: Iterable[SamplingStep]) -> list[np.ndarray]:
    """Return the codes int64 [n] of every prompt, from the last step of each batch."""
    drawn = {place: codes for step in complete for place, codes in zip(step.prompts, step.codes(), strict=True)}
    return [drawn[place] for place in range(len(drawn))]


def sample_steps(
    llm: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    seeds: Sequence[int],
    settings: SampleSettings,
    batch_size: int = 64,
) -> Iterator[SamplingStep]:
    """Draw as `sample_codes` does, and yield after every code; the last step of a batch holds its whole images."""
    limits = code_limits(llm, settings)
    if len(prompts) != len(seeds):
        raise UsageError(f"{len(prompts)} prompts but {len(seeds)} seeds, expected one seed a prompt")
    laid = [
        tokenize_prompt(prompt, llm.vocabulary, llm.codec.encode, brackets=settings.prompt_images != "bare")
        for prompt in prompts
    ]
    check_room(llm, laid, limits[1])
    scales = [settings.scale_of(images=one.num_images > 0) for one in laid]
    for scale in sorted(set(scales)):
        # Longest first: neighbours in a batch have nearly equal lengths.
        own = (place for place in range(len(prompts)) if scales[place] == scale)
        order = sorted(own, key=lambda place: -len(laid[place]))
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            heads, streams = [laid[place] for place in places], [seeds[place] for place in places]
            for picks, scores, last in _sample_batch(llm, heads, streams, settings, scale, limits):
                yield SamplingStep(
                    prompts=places, step=len(picks), max_codes=limits[1], last=last, picks=picks, scores=scores
                )


def code_limits(llm: LanguageModel, settings: SampleSettings) -> tuple[int, int]:
    """Return the fewest and most codes of an image. Raises UsageError if settings contradict each other."""
    fewest, most = llm.visual.code_range
    rows, columns = llm.visual.grid
    # An image of more codes than patches could not be decoded, and would end all others with it.
    most = min(settings.max_codes or most, rows * columns)
    limits = settings.min_codes or min(fewest, most), most
    if limits[0] > limits[1]:
        raise UsageError(f"setting min_codes: {limits[0]} is more than max_codes {limits[1]}")
    return limits


def check_room(
    llm: LanguageModel, laid: Sequence[TokenizedPrompt], most: int, *, what: str = "codes", setting: str = "max_codes"
) -> None:
    """Refuse prompts that leave no room for `most` codes, or what else is written. Raises UsageError."""
    room = getattr(llm.llm.config.get_text_config(), "max_position_embeddings", None)
    longest = max(map(len, laid), default=0)
    if room is not None and longest + most > room:
        raise UsageError(
            f"prompt: {longest} tokens and up to {most} {what} after it, more than the language model's {room} "
            f"positions; give fewer images, or lower {setting}"
        )


@torch.inference_mode()
def _sample_batch(
    llm: LanguageModel,
    heads: Sequence[TokenizedPrompt],
    seeds: Sequence[int],
    settings: SampleSettings,
    scale: float,
    limits: tuple[int, int],
) -> Iterator[tuple[list[Tensor], Tensor, bool]]:
    """Yield the picks int64 [B] so far after every step, the last one's scores, and whether they are all."""
    vocabulary, size, (min_codes, max_codes) = llm.vocabulary, len(heads), limits
    guided = scale != 1
    nothing = [llm.embed_prompt(tokenize_prompt("", vocabulary, llm.codec.encode))] * size if guided else []
    rows = DecodingBatch(llm, [*(llm.embed_prompt(head) for head in heads), *nothing], max_codes)
    draws = [torch.rand(max_codes, generator=generator(seed, "codes"), dtype=torch.float64) for seed in seeds]
    uniform_BM = torch.stack(draws).to(llm.device)
    visual_head = llm.head_of_ids(vocabulary.end_img)  # row 0 is [/IMG], row 1 + c is code c

    places_B, ended_B = torch.arange(size, device=llm.device), torch.zeros(size, dtype=torch.bool, device=llm.device)
    chosen: list[Tensor] = []
    hidden = rows.start()
    for step in range(max_codes):
        scores_BC = guided_scores(visual_head.logits(hidden).float(), scale if guided else None)
        if step < min_codes:
            scores_BC[:, 0] = -torch.inf
        pick_B = pick(scores_BC, uniform_BM[places_B, step], settings)
        ended_B = ended_B | (pick_B == 0)
        pick_B = pick_B.masked_fill(ended_B, 0)
        chosen.append(pick_B.new_zeros(size).index_copy(0, places_B, pick_B))
        # Asking costs a wait for the GPU; a CPU answers at once.
        last = step + 1 == max_codes or ((not ended_B.is_cuda or step % 16 == 15) and bool(ended_B.all()))
        yield list(chosen), scores_BC, last
        if last:
            return
        if not ended_B.is_cuda and bool(ended_B.any()):
            # Complete images leave the batch. On a GPU shapes stay as they are.
            left = (~ended_B).nonzero()[:, 0]
            rows.keep(torch.cat([left, left + len(ended_B)]) if guided else left)
            places_B, pick_B, ended_B = places_B[left], pick_B[left], ended_B[left]
        next_B = pick_B + vocabulary.end_img
        hidden = rows.extend(torch.cat([next_B, next_B]) if guided else next_B)


def guided_scores(logits_RC: Tensor, scale: float | Tensor | None) -> Tensor:
    """Return guided log-scores [B, C]: of R = 2B rows the first half is conditional, the second unconditional.

    `scale` is one for all, or [B, 1].
    """
    scores_RC = logits_RC.log_softmax(-1)
    if scale is None:
        return scores_RC
    conditional_BC, unconditional_BC = scores_RC.chunk(2)
    return scale * (conditional_BC - unconditional_BC) + unconditional_BC


def pick(scores_BC: Tensor, uniform_B: Tensor, settings: SampleSettings) -> Tensor:
    """Return one index a row: temperature, top-k, top-p in this order, then the inverse distribution at `uniform_B`."""
    if settings.temperature == 0:
        return scores_BC.argmax(-1)
    scores_BC = scores_BC / settings.temperature
    if 0 < settings.top_k < scores_BC.shape[-1]:
        kth_B1 = scores_BC.topk(settings.top_k).values[:, -1:]
        scores_BC = scores_BC.masked_fill(scores_BC < kth_B1, -torch.inf)
    probs_BC = scores_BC.double().softmax(-1)
    if settings.top_p < 1:
        sorted_BC, order_BC = probs_BC.sort(-1, descending=True)
        # A code stays when those before it hold less than top_p: the likeliest one always stays.
        dropped_BC = sorted_BC.cumsum(-1) - sorted_BC >= settings.top_p
        probs_BC = probs_BC.masked_fill(torch.zeros_like(dropped_BC).scatter(-1, order_BC, dropped_BC), 0.0)
    cumulative_BC = probs_BC.cumsum(-1)
    target_B1 = uniform_B[:, None] * cumulative_BC[:, -1:]
    picked_B = torch.searchsorted(cumulative_BC, target_B1, right=True)[:, 0]
    # Rounding can land past the last open index; the last index with probability is meant.
    last_open_B = probs_BC.shape[-1] - 1 - (probs_BC > 0).flip(-1).int().argmax(-1)
    return torch.minimum(picked_B, last_open_B)
