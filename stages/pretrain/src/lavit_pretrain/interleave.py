"""Texts and images written by turns under a grammar: each image opens, has codes within the limits, and closes.

At `[IMG]` guidance switches on, as in `sample_codes`: the unconditional branch starts anew there, at a bare `[IMG]`.
Letters: R samples, V text ids, C = 1 + K ids ([/IMG] and the codes), M tokens.
"""

from collections.abc import Sequence

import numpy as np
import torch
from lavit_core.errors import UsageError
from lavit_trainkit.device import generator
from torch import Tensor

from lavit_pretrain.config import InterleaveSettings, SampleSettings
from lavit_pretrain.decoding import DecodingBatch
from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.sample_codes import check_room, code_limits, guided_scores, pick
from lavit_pretrain.sequence import Prompt, TokenizedPrompt, join_prompts, tokenize_parts
from lavit_pretrain.vocabulary import Vocabulary


def write_interleaved(
    llm: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    seeds: Sequence[int],
    settings: InterleaveSettings,
    batch_size: int = 64,
) -> list[list[str | np.ndarray]]:
    """Return the texts and images (codes int64 [n]) that follow each prompt, in their order.

    Sample i depends on prompt i and seed i alone. Raises UsageError for contradictory settings, an empty prompt or one
    that is too long, InputError for codes outside the codebook.
    """
    written = interleaved_ids(llm, prompts, seeds=seeds, settings=settings, batch_size=batch_size)
    return [_parts_of(llm, ids) for ids in written]


def interleaved_ids(
    llm: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    seeds: Sequence[int],
    settings: InterleaveSettings,
    batch_size: int,
) -> list[np.ndarray]:
    """Return the same as ids int64 [M], without the end token."""
    if len(prompts) != len(seeds):
        raise UsageError(f"{len(prompts)} prompts but {len(seeds)} seeds, expected one seed a prompt")
    if llm.image_input == "none":
        raise UsageError("this model was trained without images; it writes texts alone (`lavit ask`)")
    laid = [join_prompts(tokenize_parts(prompt, llm.vocabulary, llm.codec.encode)) for prompt in prompts]
    if any(len(one) == 0 for one in laid):
        raise UsageError("prompt: it is empty, and there is nothing to go on from; give a word or an image")
    code_limits(llm, settings.codes)
    check_room(llm, laid, settings.max_tokens, what="tokens", setting="max_tokens")
    written: dict[int, np.ndarray] = {}
    order = sorted(range(len(laid)), key=lambda place: -len(laid[place]))
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        ids_RM = _write_batch(llm, [laid[place] for place in places], [seeds[place] for place in places], settings)
        for place, ids in zip(places, ids_RM.cpu().numpy(), strict=True):
            ends = np.flatnonzero(ids == llm.codec.eos)
            written[place] = ids[: ends[0]] if len(ends) else ids
    return [written[place] for place in range(len(laid))]


@torch.inference_mode()
def _write_batch(
    llm: LanguageModel, heads: Sequence[TokenizedPrompt], seeds: Sequence[int], settings: InterleaveSettings
) -> Tensor:
    """Return ids [R, M]; a row is filled up with the end token."""
    vocabulary, longest, limits = llm.vocabulary, settings.max_tokens, code_limits(llm, settings.codes)
    words = SampleSettings(temperature=settings.text_temperature, top_k=settings.text_top_k)
    rows = DecodingBatch(llm, [llm.embed_prompt(head) for head in heads], longest)
    opening = llm.embed(torch.tensor([vocabulary.img], device=llm.device))
    blank = DecodingBatch(llm, [opening] * len(heads), longest)
    draws = [torch.rand(longest, generator=generator(seed, "interleave"), dtype=torch.float64) for seed in seeds]
    uniform_RM = torch.stack(draws).to(llm.device)
    shown_R = torch.tensor([head.num_images for head in heads], device=llm.device)
    codes_R, images_R = torch.zeros_like(shown_R), torch.zeros_like(shown_R)
    inside_R, ended_R = shown_R < 0, shown_R < 0
    hidden_RH, blank_RH = rows.start(), blank.start()
    written: list[Tensor] = []
    for step in range(longest):
        room = longest - step >= limits[1] + 2  # [IMG], the codes and [/IMG]
        may_open_R = (images_R < settings.max_images) & room & ~ended_R
        text_RV = _text_scores(llm, hidden_RH, may_open_R)
        scale_R1 = _scales(settings.codes, shown_R + images_R - inside_R.long())
        code_RC = _code_scores(llm, torch.cat([hidden_RH, blank_RH]), scale_R1, codes_R, limits)
        uniform_R = uniform_RM[:, step]
        code_ids_R = pick(code_RC, uniform_R, settings.codes) + vocabulary.end_img
        next_R = torch.where(inside_R, code_ids_R, pick(text_RV, uniform_R, words))
        next_R = next_R.masked_fill(ended_R, llm.codec.eos)
        written.append(next_R)
        ended_R = ended_R | (next_R == llm.codec.eos)
        opens_R, closes_R = next_R == vocabulary.img, next_R == vocabulary.end_img
        codes_R = torch.where(inside_R & ~closes_R, codes_R + 1, 0)
        images_R = images_R + opens_R
        # The unconditional branch holds the open image alone: all else is forgotten before the next token.
        blank.forget(~inside_R)
        inside_R = (inside_R | opens_R) & ~closes_R
        if step + 1 == longest or ((not ended_R.is_cuda or step % 16 == 15) and bool(ended_R.all())):
            break
        hidden_RH, blank_RH = rows.extend(next_R), blank.extend(next_R)
    return torch.stack(written, dim=1)


def _text_scores(llm: LanguageModel, hidden_RH: Tensor, may_open_R: Tensor) -> Tensor:
    """Return log-scores [R, V + 1] of the words and of [IMG]."""
    vocabulary = llm.vocabulary
    scores_RV = llm.head_of_ids(0, vocabulary.end_img).logits(hidden_RH).float().log_softmax(-1)
    scores_RV[:, vocabulary.img] = scores_RV[:, vocabulary.img].masked_fill(~may_open_R, -torch.inf)
    return scores_RV


def _code_scores(
    llm: LanguageModel, both_2RH: Tensor, scale_R1: Tensor, codes_R: Tensor, limits: tuple[int, int]
) -> Tensor:
    """Return guided log-scores [R, C] of [/IMG] and the codes after `codes_R` codes."""
    scores_RC = guided_scores(llm.head_of_ids(llm.vocabulary.end_img).logits(both_2RH).float(), scale_R1)
    scores_RC[:, 0] = scores_RC[:, 0].masked_fill(codes_R < limits[0], -torch.inf)
    scores_RC[:, 1:] = scores_RC[:, 1:].masked_fill((codes_R >= limits[1])[:, None], -torch.inf)
    return scores_RC


def _scales(settings: SampleSettings, before_R: Tensor) -> Tensor:
    """Return the guidance scale [R, 1] of rows with so many whole images before the place."""
    with_images, without = (settings.scale_of(images=images) for images in (True, False))
    return torch.where(before_R > 0, with_images, without)[:, None].to(torch.float32)


def _parts_of(llm: LanguageModel, ids: np.ndarray) -> list[str | np.ndarray]:
    """Return ids as texts and images; blanks alone are no part."""
    vocabulary: Vocabulary = llm.vocabulary
    parts: list[str | np.ndarray] = []
    opened = np.flatnonzero(ids == vocabulary.img).tolist()
    closed = np.flatnonzero(ids == vocabulary.end_img).tolist()
    start = 0
    for first, last in zip([*opened, len(ids)], [*closed, len(ids)], strict=True):
        if text := llm.codec.decode(ids[start:first].tolist()):
            parts.append(text)
        if first < last:
            parts.append(vocabulary.to_codes(ids[first + 1 : last]))
        start = last + 1
    return parts
