"""How likely a model finds texts after images, log p(text | image), and codes after texts, log p(codes | text).

One scorer serves both: a prefix is computed once and kept, what may follow it comes after it in batches.
Letters: I images, M texts, N continuations, R of them at once, P tokens of a prefix, L longest continuation, V ids.
"""

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from lavit_core.errors import UsageError
from torch import Tensor
from transformers import DynamicCache

from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.reading import ImageInput, prompt_rows

HEAD_ROWS = 4096
"""Positions that the head sees at once: at 48,386 ids they are 0.8 GB of logits."""


def text_log_likelihoods(
    llm: LanguageModel, images: ImageInput, texts: Sequence[str], *, rows: int = 64
) -> Iterator[np.ndarray]:
    """Yield for each image the sum of log p(token | image, tokens before) of each text and its end token, float64 [M].

    An image is read once; `rows` texts follow it at a time. Raises UsageError for a model without pictures.
    """
    _require_sight(llm)
    ids = [np.append(llm.codec.encode(text), llm.codec.eos) for text in texts]
    for image in range(len(images)):
        prefix = prompt_rows(llm, images.take([image]), [np.empty(0, np.int64)])[0]
        yield log_likelihoods_after(llm, prefix, ids, rows)


def code_log_likelihoods(
    llm: LanguageModel, texts: Sequence[str], images: Sequence[np.ndarray], *, rows: int = 64
) -> Iterator[np.ndarray]:
    """Yield for each text the sum of log p(code | text [IMG], codes before) of each image and its [/IMG], float64 [I].

    `images` are codes int64 [n]. A text is read once; `rows` images follow it at a time. The empty text gives
    log p(codes), what a bare [IMG] makes of them, as in guidance. Raises UsageError for a model without pictures.
    Source: TIGeR (arXiv 2406.05814), log p(Y | X).
    """
    _require_sight(llm)
    vocabulary = llm.vocabulary
    ids = [np.append(vocabulary.to_ids(codes), vocabulary.end_img) for codes in images]
    for text in texts:
        prefix = np.append(llm.codec.encode(text), vocabulary.img)
        yield log_likelihoods_after(llm, llm.embed(torch.from_numpy(prefix).to(llm.device)), ids, rows)


def _require_sight(llm: LanguageModel) -> None:
    if llm.image_input == "none":
        raise UsageError("this model was trained without pictures; likelihoods of texts and images need one that sees")


def log_likelihoods_after(
    llm: LanguageModel, prefix_PH: Tensor, continuations: Sequence[np.ndarray], rows: int
) -> np.ndarray:
    """Return the summed log-probability float64 [N] of each continuation (ids int64 [n]) after one prefix."""
    with torch.inference_mode():
        cache = DynamicCache(config=llm.llm.config)
        seen: Tensor = llm.decoder(
            inputs_embeds=prefix_PH[None], past_key_values=cache, use_cache=True
        ).last_hidden_state
    # Continuations of about equal length share a batch; each result goes back to its place.
    order = sorted(range(len(continuations)), key=lambda place: len(continuations[place]))
    found = np.empty(len(continuations))
    for start in range(0, len(order), rows):
        places = order[start : start + rows]
        # What follows is appended to a cache: each batch gets a copy.
        kept = copy.deepcopy(cache)
        found[places] = _after(llm, kept, seen[:, -1:], len(prefix_PH), [continuations[place] for place in places])
    return found


@torch.inference_mode()
def _after(
    llm: LanguageModel, cache: DynamicCache, last_11H: Tensor, start: int, continuations: Sequence[np.ndarray]
) -> np.ndarray:
    """Return the log-likelihood of each continuation after a cached prefix; they are padded on the right."""
    count, longest = len(continuations), max(map(len, continuations))
    lengths = torch.tensor([len(ids) for ids in continuations], device=llm.device)
    ids_RL = torch.full((count, longest), llm.codec.eos, device=llm.device)
    for row, ids in enumerate(continuations):
        ids_RL[row, : len(ids)] = torch.from_numpy(ids)
    cache.batch_repeat_interleave(count)
    inside_RL = torch.arange(longest, device=llm.device) < lengths[:, None]
    mask = torch.cat([inside_RL.new_ones(count, start), inside_RL], 1)
    embedded = torch.stack([llm.embed(row) for row in ids_RL])
    positions = torch.arange(start, start + longest, device=llm.device)[None].expand(count, -1)
    followed: Tensor = llm.decoder(
        inputs_embeds=embedded, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    ).last_hidden_state
    # The hidden state before a token gives its probability; before the first one stands the prefix's end.
    before_RLH = torch.cat([last_11H.expand(count, -1, -1), followed[:, :-1]], 1)
    log_p_RL = torch.zeros(count, longest, dtype=torch.float64, device=llm.device)
    log_p_RL[inside_RL] = torch.cat(
        [
            _log_p(llm, before_TH, ids_T)
            for before_TH, ids_T in zip(
                before_RLH[inside_RL].split(HEAD_ROWS), ids_RL[inside_RL].split(HEAD_ROWS), strict=True
            )
        ]
    )
    return log_p_RL.sum(1).cpu().numpy()


def _log_p(llm: LanguageModel, before_TH: Tensor, ids_T: Tensor) -> Tensor:
    """Return log p(id) [T] under the hidden states before them."""
    logits_TV = (before_TH @ llm.head_VD.T).float()
    return (logits_TV.gather(1, ids_T[:, None])[:, 0] - logits_TV.logsumexp(-1)).double()
