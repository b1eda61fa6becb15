"""Check that a language model keeps packed documents apart: recurrent ones do not, and nothing else would show it."""

from pathlib import Path
from typing import Any, cast

import torch
from lavit_core.errors import InputError
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from lavit_pretrain.attention import document_bounds, packed_forward

SUPPORTED_LAYERS = {"full_attention", "sliding_attention"}
"""transformers' names of the layers whose attention `lavit_pretrain.attention` computes."""

RECORDING = "lavit_recording"
"""Name of packed attention that notes sliding windows."""

PROBE_LENGTHS = [9, 7, 12]
"""Tokens of the documents that `require_isolation` compares."""

MAX_DIFFERENCE = 1e-3
"""Relative, in fp32: rounding stays below 1e-5, and the smallest leak measured (a small Mamba) is 0.2."""

SUITABLE = "give --llm a causal model with attention layers alone (LLaMA, Mistral, Qwen2, GPT-NeoX, OPT ...)"


def require_isolation(llm: PreTrainedModel, source: Path) -> None:
    """Refuse a language model, with fp32 weights, whose packed documents would see each other.

    Raises InputError with the reason.
    """
    _require_attention_layers(llm, source)
    lengths = PROBE_LENGTHS
    vocab_size = cast(Tensor, llm.get_input_embeddings().weight).shape[0]
    ids_T = torch.arange(1, sum(lengths) + 1, device=llm.device) * 7 % vocab_size
    was_training = llm.training
    llm.eval()
    try:
        with torch.no_grad():
            llm.set_attn_implementation("eager")  # the family's own formulation, with all that it adds to attention
            alone_TH = torch.cat([_hidden(llm, ids, [len(ids)]) for ids in ids_T.split(lengths)])
            windows = _use_recording(llm)
            packed_TH = _hidden(llm, ids_T, lengths)
    except Exception as error:  # noqa: BLE001 - each family raises its own kinds when it can't be called this way
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{source}: a {llm.config.model_type} model can't be called on packed documents ({reason}); {SUITABLE}"
        ) from None
    llm.train(was_training)
    _require_window(llm, source, windows)
    difference = float((packed_TH - alone_TH).abs().max() / alone_TH.abs().max())
    if not difference < MAX_DIFFERENCE:
        raise InputError(
            f"{source}: a {llm.config.model_type} model gives other outputs for packed documents than for one document "
            f"at a time (relative difference {difference:.2g}, expected below {MAX_DIFFERENCE:g}); {SUITABLE}"
        )


def _hidden(llm: PreTrainedModel, ids_T: Tensor, lengths: list[int]) -> Tensor:
    """Return the hidden states [T, H] of documents in one row, as training calls the model."""
    positions_T = torch.cat([torch.arange(length, device=ids_T.device) for length in lengths])
    hidden_1TH: Tensor = llm.get_decoder()(
        inputs_embeds=llm.get_input_embeddings()(ids_T)[None],
        position_ids=positions_T[None],
        cu_seq_lens_q=document_bounds(lengths).to(ids_T.device),
        use_cache=False,
    ).last_hidden_state
    return hidden_1TH[0]


def _require_attention_layers(llm: PreTrainedModel, source: Path) -> None:
    config = llm.config
    layers = set(getattr(config, "layer_types", None) or ())
    if getattr(llm, "_is_stateful", False) or "linear_attention" in layers:
        raise InputError(
            f"{source}: a {config.model_type} model is recurrent: it carries a state from token to token, so documents "
            f"packed into one row would leak into each other; {SUITABLE}"
        )
    if unsupported := sorted(layers - SUPPORTED_LAYERS):
        raise InputError(
            f"{source}: a {config.model_type} model has layers of kind {', '.join(unsupported)}, expected "
            f"{' or '.join(sorted(SUPPORTED_LAYERS))}; {SUITABLE}"
        )


def _use_recording(llm: PreTrainedModel) -> set[int | None]:
    """Switch a model to packed attention and return a set that collects the sliding windows its layers ask for."""
    windows: set[int | None] = set()

    def record(*args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        windows.add(kwargs.get("sliding_window"))
        return packed_forward(*args, **kwargs)

    AttentionInterface.register(RECORDING, record)
    llm.set_attn_implementation(RECORDING)
    return windows


def _require_window(llm: PreTrainedModel, source: Path, windows: set[int | None]) -> None:
    """Refuse a model whose sliding window does not reach the attention function: the probe is shorter than most."""
    config = llm.config
    window, layers = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    if window and (layers is None or "sliding_attention" in layers) and window not in windows:
        raise InputError(
            f"{source}: a {config.model_type} model limits attention to the last {window} tokens by a mask of its own, "
            f"which packed attention does not apply; {SUITABLE}, or one whose sliding_window is null"
        )
