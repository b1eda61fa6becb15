"""Choice of how a language model reads many documents at once, by measuring it against the model's own way.

Recurrent models, and others that can't be fed so, would learn something else, and nothing else would show it.
Letters: T tokens of the documents, B documents, V ids.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lavit_core.errors import InputError
from lavit_core.progress import warn
from torch import Tensor
from transformers import AttentionInterface

from lavit_pretrain.attention import (
    PACKED,
    CannotPackError,
    document_bounds,
    document_states,
    packed_forward,
    packs,
    use_packed,
    use_padded,
)
from lavit_pretrain.decoding import DecodingBatch
from lavit_pretrain.language_model import LanguageModel

PACKED_LAYERS = {"full_attention", "sliding_attention"}
"""transformers' names of the layers whose attention `lavit_pretrain.attention` computes."""

RECURRENT_LAYERS = {"linear_attention", "hybrid", "hybrid_sliding", "conv"}
"""transformers' names of the layers that carry a state from token to token."""

PROBE_LENGTHS = [9, 7, 12]
"""Tokens of the documents that are compared."""

MAX_DIFFERENCE = 1e-3
"""Relative, in fp32: rounding stays below 1e-5, and the smallest leak measured (a small Mamba) is 0.2."""

SUITABLE = "give --llm a causal transformer (LLaMA, Mistral, Qwen, Gemma, Phi, GPT-NeoX, OPT ...)"


@torch.no_grad()
def choose_attention(network: LanguageModel, source: Path) -> None:
    """Switch a model, with fp32 weights and without dropout, to packed attention, or to padded rows with a warning.

    The logits must be those of the model's own way, one document at a time, also where prompts are continued. Raises
    InputError with the reason if they are not.
    """
    _refuse_recurrent(network, source)
    llm = network.llm
    was_training = llm.training
    ids_T = torch.arange(1, sum(PROBE_LENGTHS) + 1, device=llm.device) * 7 % network.vocabulary.total
    llm.eval()
    alone_TV = _measure(network, source, lambda: _alone(network, ids_T))
    use_padded(llm)
    ends_B = torch.tensor(PROBE_LENGTHS, device=llm.device).cumsum(0) - 1
    continued_BV = _measure(network, source, lambda: _continued(network, ids_T))
    _require_equal(network, source, "after a prompt that is padded on the left", continued_BV, alone_TV[ends_B])
    llm.train()  # as the training loop calls it
    reason = _why_not_packed(network, ids_T, alone_TV)
    if reason is None:
        use_packed(llm)
    else:
        use_padded(llm)
        padded_TV = _measure(network, source, lambda: _together(network, ids_T))
        _require_equal(network, source, "in training, for several documents at once", padded_TV, alone_TV)
        warn(f"{source}: documents are padded, not packed ({reason})")
    llm.train(was_training)


def _refuse_recurrent(network: LanguageModel, source: Path) -> None:
    config = _config(network)
    layers = set(getattr(config, "layer_types", None) or ())
    if getattr(network.llm, "_is_stateful", False) or layers & RECURRENT_LAYERS:
        raise InputError(
            f"{source}: a {config.model_type} model is recurrent: it carries a state from token to token, so documents "
            f"that are packed into one row leak into each other; {SUITABLE}"
        )


def _measure(network: LanguageModel, source: Path, run: Callable[[], Tensor]) -> Tensor:
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - each family raises its own kinds when it can't be called this way
        kind = _config(network).model_type
        raise InputError(
            f"{source}: a {kind} model can't be called on documents ({_line(error)}); {SUITABLE}"
        ) from None


def _require_equal(network: LanguageModel, source: Path, where: str, found: Tensor, expected: Tensor) -> None:
    difference = _difference(found, expected)
    if not difference < MAX_DIFFERENCE:
        raise InputError(
            f"{source}: a {_config(network).model_type} model gives other logits {where} than for one document alone "
            f"(relative difference {difference:.2g}, expected below {MAX_DIFFERENCE:g}); {SUITABLE}"
        )


def _alone(network: LanguageModel, ids_T: Tensor) -> Tensor:
    """Return logits [T, V] from ids by the model's own forward pass in its own formulation, a document at a time."""
    llm: Any = network.llm
    llm.set_attn_implementation("eager")
    return torch.cat([llm(input_ids=ids[None], use_cache=False).logits[0] for ids in ids_T.split(PROBE_LENGTHS)])


def _together(network: LanguageModel, ids_T: Tensor) -> Tensor:
    """Return logits [T, V] of all documents at once, as training computes them."""
    positions_T = torch.cat([torch.arange(length, device=ids_T.device) for length in PROBE_LENGTHS])
    bounds_B1 = document_bounds(PROBE_LENGTHS).to(ids_T.device)
    return network.head.logits(document_states(network.decoder, network.embed(ids_T), positions_T, bounds_B1))


def _continued(network: LanguageModel, ids_T: Tensor) -> Tensor:
    """Return logits [B, V] after each document, read in three parts: generation and likelihoods read so."""
    documents = ids_T.split(PROBE_LENGTHS)
    batch = DecodingBatch(network, [network.embed(ids[:-4]) for ids in documents])
    batch.start()
    middle_BN = torch.stack([ids[-4:-1] for ids in documents])
    batch.append(middle_BN, torch.ones_like(middle_BN, dtype=torch.bool))
    return network.head.logits(batch.extend(torch.stack([ids[-1] for ids in documents])))


def _why_not_packed(network: LanguageModel, ids_T: Tensor, alone_TV: Tensor) -> str | None:
    """Return the reason why a model's documents can't be packed; None if they can."""
    config = _config(network)
    kind = f"a {config.model_type} model"
    if others := set(getattr(config, "layer_types", None) or ()) - PACKED_LAYERS:
        return f"{kind} has layers of kind {', '.join(sorted(others))}"
    windows: set[int | None] = set()

    def record(*args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        windows.add(kwargs.get("sliding_window"))
        return packed_forward(*args, **kwargs)

    try:
        use_packed(network.llm)
        AttentionInterface.register(PACKED, record)
        found = _difference(_together(network, ids_T), alone_TV)
    except CannotPackError as error:
        return f"{kind}: {error}"
    except Exception as error:  # noqa: BLE001 - a family that can't be called like this may work on padded rows
        return f"{kind} can't be called on packed documents: {_line(error)}"
    finally:
        AttentionInterface.register(PACKED, packed_forward)
    if not packs(network.decoder):
        return f"{kind} has attention of its own"
    # The probe is shorter than most windows: it shows whether the attention function learns of one, not what it does.
    window, layers = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    if window and (layers is None or "sliding_attention" in layers) and window not in windows:
        return f"{kind} limits attention to the last {window} tokens by a mask of its own"
    return None if found < MAX_DIFFERENCE else f"packing changes the logits of {kind} by {found:.2g}"


def _config(network: LanguageModel) -> Any:
    return network.llm.config.get_text_config()


def _difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
