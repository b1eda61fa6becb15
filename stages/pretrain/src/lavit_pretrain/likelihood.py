"""How likely a model finds texts after images: log p(text | image), every image against every text.

Letters: I images, M texts, R rows at once, P tokens of an image with its brackets, L longest text, V ids.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from lavit_core.errors import UsageError
from torch import Tensor
from transformers import DynamicCache

from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.reading import ImageInput, prompt_rows


def text_log_likelihoods(
    llm: LanguageModel, images: ImageInput, texts: Sequence[str], *, rows: int = 64
) -> Iterator[np.ndarray]:
    """Yield for each image the sum of log p(token | image, tokens before) of each text and its end token, float64 [M].

    An image is read once; `rows` texts follow it at a time. Raises UsageError for a model without pictures.
    """
    if llm.image_input == "none":
        raise UsageError(
            "this model was trained without pictures; likelihoods of texts after images need one that sees"
        )
    ids = [np.append(llm.codec.encode(text), llm.codec.eos) for text in texts]
    # Texts of about equal length share a batch; each result goes back to its place.
    order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
    for image in range(len(images)):
        prefix = prompt_rows(llm, images.take([image]), [np.empty(0, np.int64)])[0]
        found = np.empty(len(texts))
        for start in range(0, len(order), rows):
            places = order[start : start + rows]
            found[places] = _after(llm, prefix, [ids[place] for place in places])
        yield found


@torch.inference_mode()
def _after(llm: LanguageModel, prefix_PH: Tensor, texts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the log-likelihood of each text after one image; texts are padded on the right."""
    count, start, longest = len(texts), len(prefix_PH), max(map(len, texts))
    lengths = torch.tensor([len(ids) for ids in texts], device=llm.device)
    ids_RL = torch.full((count, longest), llm.codec.eos, device=llm.device)
    for row, ids in enumerate(texts):
        ids_RL[row, : len(ids)] = torch.from_numpy(ids)
    cache = DynamicCache(config=llm.llm.config)
    seen: Tensor = llm.decoder(inputs_embeds=prefix_PH[None], past_key_values=cache, use_cache=True).last_hidden_state
    cache.batch_repeat_interleave(count)
    inside_RL = torch.arange(longest, device=llm.device) < lengths[:, None]
    mask = torch.cat([inside_RL.new_ones(count, start), inside_RL], 1)
    embedded = torch.stack([llm.embed(row) for row in ids_RL])
    positions = torch.arange(start, start + longest, device=llm.device)[None].expand(count, -1)
    followed: Tensor = llm.decoder(
        inputs_embeds=embedded, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    ).last_hidden_state
    # The hidden state before a token gives its probability; before the first one stands the image's end.
    before_RLH = torch.cat([seen[:, -1:].expand(count, -1, -1), followed[:, :-1]], 1)
    log_p_RLV = (before_RLH @ llm.head_VD.T).float().log_softmax(-1)
    log_p_RL = log_p_RLV.gather(2, ids_RL[..., None])[..., 0].double()
    return (log_p_RL * inside_RL).sum(1).cpu().numpy()
