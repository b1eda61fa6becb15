"""Log-likelihoods of texts after images, log p(text | image), and of codes after texts, log p(codes | text).

Letters: I images, M texts, N continuations, R of them at once, P tokens of a prefix, L longest continuation, V ids.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from lavit_core.errors import UsageError
from torch import Tensor

from lavit_pretrain.decoding import DecodingBatch
from lavit_pretrain.encoded_images import EncodedImages
from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.sequence import code_continuation, drawing_prefix, reading_prompts, text_continuation

HEAD_ROWS = 4096
"""Positions that the head sees at once: at 48,386 ids they are 0.8 GB of logits."""


def text_log_likelihoods(
    llm: LanguageModel, images: EncodedImages, texts: Sequence[str], *, rows: int = 64
) -> Iterator[np.ndarray]:
    """Yield for each image the sum of log p(token | image, tokens before) of each text and its end token, float64 [M].

    An image is read once; `rows` texts follow it at a time. Raises UsageError for a model trained without images.
    """
    _require_images(llm)
    continuations = _texts(llm, texts)
    for image in range(len(images)):
        yield score_continuations(llm, _image_prefixes(llm, images.take([image])), continuations, rows=rows)


def caption_log_likelihoods(
    llm: LanguageModel, images: EncodedImages, texts: Sequence[str], *, rows: int = 64
) -> np.ndarray:
    """Return the same for text i after image i, float64 [N]; `rows` pairs at a time.

    By it the model that drew an image from a text rates how well they fit. Raises UsageError as above.
    """
    _require_images(llm)
    return score_continuations(llm, _image_prefixes(llm, images), _texts(llm, texts), rows=rows)


def code_log_likelihoods(
    llm: LanguageModel, texts: Sequence[str], images: Sequence[np.ndarray], *, rows: int = 64
) -> Iterator[np.ndarray]:
    """Yield for each text the sum of log p(code | text [IMG], codes before) of each image and its [/IMG], float64 [I].

    `images` are codes int64 [n]. A text is read once; `rows` images follow it at a time. The empty text gives
    log p(codes), what a bare [IMG] makes of them, as in guidance. Raises UsageError for a model trained without images.
    Source: TIGeR (arXiv 2406.05814), log p(Y | X).
    """
    _require_images(llm)
    continuations = [code_continuation(llm.vocabulary, codes) for codes in images]
    for text in texts:
        yield score_continuations(llm, _drawing_prefixes(llm, [text]), continuations, rows=rows)


def paired_code_log_likelihoods(
    llm: LanguageModel, texts: Sequence[str], images: Sequence[np.ndarray], *, rows: int = 64
) -> np.ndarray:
    """Return the same for the codes of image i after text i, float64 [N]; `rows` pairs at a time."""
    _require_images(llm)
    continuations = [code_continuation(llm.vocabulary, codes) for codes in images]
    return score_continuations(llm, _drawing_prefixes(llm, texts), continuations, rows=rows)


@torch.inference_mode()
def score_continuations(
    llm: LanguageModel, prefixes: Sequence[Tensor], continuations: Sequence[np.ndarray], *, rows: int
) -> np.ndarray:
    """Return the summed log-probability float64 [N] of continuations (ids int64 [n]), each after its own prefix.

    `prefixes` are input embeddings [P, H]. One prefix alone goes with all continuations and is read once.
    """
    # Continuations of about equal length share a batch; each result goes back to its place.
    order = sorted(range(len(continuations)), key=lambda place: len(continuations[place]))
    shared = DecodingBatch(llm, prefixes) if len(prefixes) == 1 else None
    last_1H = None if shared is None else shared.start()
    scores = np.empty(len(continuations))
    for start in range(0, len(order), rows):
        places = order[start : start + rows]
        if shared is None or last_1H is None:
            batch = DecodingBatch(llm, [prefixes[place] for place in places])
            last_RH = batch.start()
        else:
            batch, last_RH = shared.repeated(len(places)), last_1H.expand(len(places), -1)
        scores[places] = _score_batch(batch, last_RH, [continuations[place] for place in places])
    return scores


def _score_batch(batch: DecodingBatch, last_RH: Tensor, continuations: Sequence[np.ndarray]) -> np.ndarray:
    """Return the log-likelihood of each continuation; they are padded on the right."""
    llm, device = batch.llm, last_RH.device
    lengths = torch.tensor([len(ids) for ids in continuations], device=device)
    ids_RL = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(ids) for ids in continuations], batch_first=True, padding_value=llm.codec.eos
    ).to(device)
    inside_RL = torch.arange(ids_RL.shape[1], device=device) < lengths[:, None]
    # The hidden state before a token gives its probability; before the first one is the prefix's end.
    before_RLH = torch.cat([last_RH[:, None], batch.append(ids_RL, inside_RL)[:, :-1]], 1)
    pieces = zip(before_RLH[inside_RL].split(HEAD_ROWS), ids_RL[inside_RL].split(HEAD_ROWS), strict=True)
    log_p_RL = torch.zeros(ids_RL.shape, dtype=torch.float64, device=device)
    log_p_RL[inside_RL] = torch.cat([_log_p(llm, before_TH, ids_T) for before_TH, ids_T in pieces])
    return log_p_RL.sum(1).cpu().numpy()


def _log_p(llm: LanguageModel, before_TH: Tensor, ids_T: Tensor) -> Tensor:
    """Return log p(id) [T] under the hidden states before them."""
    logits_TV = llm.head.logits(before_TH).float()
    return (logits_TV.gather(1, ids_T[:, None])[:, 0] - logits_TV.logsumexp(-1)).double()


def _texts(llm: LanguageModel, texts: Sequence[str]) -> list[np.ndarray]:
    return [text_continuation(llm.codec.encode(text), llm.codec.eos) for text in texts]


@torch.inference_mode()
def _image_prefixes(llm: LanguageModel, images: EncodedImages) -> list[Tensor]:
    empty = np.empty(0, np.int64)
    read = reading_prompts(llm.vocabulary, images, [empty] * len(images), blind_eos=llm.blind_eos)
    return [llm.embed_prompt(prompt) for prompt in read]


@torch.inference_mode()
def _drawing_prefixes(llm: LanguageModel, texts: Sequence[str]) -> list[Tensor]:
    prefixes = [drawing_prefix(llm.vocabulary, llm.codec.encode(text)) for text in texts]
    return [llm.embed(torch.from_numpy(ids).to(llm.device)) for ids in prefixes]


def _require_images(llm: LanguageModel) -> None:
    if llm.image_input == "none":
        raise UsageError("this model was trained without images; likelihoods of texts and images need one that sees")
