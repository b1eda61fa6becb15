"""How a transformers language model reads many documents at once, none of which sees another.

Packed, the model is called with one row of tokens [1, T] and `cu_seq_lens_q` [B + 1], the documents' bounds: nothing is
padded. Padded, each document is a row of its own, for families whose attention does more than packed attention does.
"""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any, cast

import torch
from lavit_trainkit.packed import packed_attention, padded_rows
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import AttentionInterface, PreTrainedModel

from lavit_pretrain.lean_llama import make_lean, reads_rows
from lavit_pretrain.shared_attention import use_shared

PACKED = "lavit_packed"
"""Name under which `model.set_attn_implementation` finds it."""

RANDOM_ATTRIBUTES = ("drop", "jitter")
"""Parts of the names under which transformers' modules keep probabilities of dropout, and the noise of routers."""


class CannotPackError(ValueError):
    """A model asks for attention that packed attention does not compute."""


def packed_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Return causal attention [1, T, H, E] within documents; query [1, H, T, E], key and value with H heads or less.

    `sliding_window` limits a token to the last so many of its document, itself included. Raises CannotPackError.
    """
    assert cu_seq_lens_q is not None, "packed attention needs cu_seq_lens_q"
    if extras := [name for name in ("softcap", "s_aux", "position_bias") if kwargs.get(name) is not None]:
        raise CannotPackError(f"packed attention does not apply {extras[0]}")
    if dropout != 0.0:
        raise CannotPackError("packed attention has no dropout")
    if value.shape[-1] != query.shape[-1]:
        raise CannotPackError(f"keys have {query.shape[-1]} values a head, values {value.shape[-1]}")
    heads, width = query.shape[1], query.shape[-1]
    if key.shape[1] != heads:
        key, value = (x.repeat_interleave(heads // x.shape[1], dim=1) for x in (key, value))
    if scaling is not None and abs(scaling * width**0.5 - 1) > 1e-6:
        query = query * (scaling * width**0.5)
    q_THE, k_THE, v_THE = (x[0].transpose(0, 1) for x in (query, key, value))
    bounds = {"cu_q": cu_seq_lens_q, "cu_k": cu_seq_lens_q}
    out_THE = packed_attention(q_THE, k_THE, v_THE, **bounds, causal=True, window=sliding_window)
    return out_THE.unsqueeze(0), None


def decoder_of(model: PreTrainedModel) -> nn.Module:
    """Return a causal language model without its head."""
    decoder: nn.Module = model.get_decoder()
    return cast(nn.Module, model.model) if decoder is model else decoder  # Llama 4 gives the whole model


def use_packed(model: PreTrainedModel) -> None:
    """Switch a transformers model to packed attention. transformers then builds no mask of its own for it."""
    AttentionInterface.register(PACKED, packed_forward)
    model.set_attn_implementation(PACKED)
    make_lean(decoder_of(model))


def packs(decoder: nn.Module) -> bool:
    """Return whether a model was switched to packed attention; some families keep their own."""
    return bool(decoder.config._attn_implementation == PACKED)  # type: ignore[union-attr]


def use_padded(model: PreTrainedModel) -> None:
    """Switch a transformers model to its own attention over padded rows, as generation with a cache needs it."""
    # transformers' faster attention has no soft cap, and refuses one.
    capped = getattr(model.config.get_text_config(), "attn_logit_softcapping", None)
    model.set_attn_implementation("sdpa" if model._supports_sdpa and not capped else "eager")
    make_lean(decoder_of(model))
    if reads_rows(decoder_of(model)):  # a LLaMA, which hands what it is given down to its attention
        use_shared(model)


def recompute_layers(model: PreTrainedModel, *, again: bool = True) -> None:
    """Have a model compute its layers again in the backward pass, in place of keeping their activations, or not."""
    change = "enable" if again else "disable"
    set_it = getattr(model, f"activation_checkpointing_{change}", None) or getattr(
        model, f"gradient_checkpointing_{change}"
    )
    set_it()


@contextlib.contextmanager
def continuing(model: PreTrainedModel) -> Iterator[None]:
    """Let a model that packs continue prompts with a cache for a while, and switch it back to packed attention."""
    if not packs(decoder_of(model)):
        yield
        return
    use_padded(model)
    try:
        yield
    finally:
        use_packed(model)


def disable_dropout(model: PreTrainedModel) -> None:
    """Set every dropout of a transformers model, and the noise of its routers, to 0; its configuration keeps theirs.

    The paper trains without dropout, packed attention has none, and torch's draws would not survive a resumed run.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and any(part in name for part in RANDOM_ATTRIBUTES):
                setattr(module, name, 0.0)


def document_states(
    decoder: nn.Module, inputs_TH: Tensor, positions_T: Tensor, bounds_B1: Tensor, rows_S: Tensor | None = None
) -> Tensor:
    """Return the hidden states [T, H] of documents that lie one after another, each as if it were alone.

    Where `rows_S` are given, those of these positions alone [S, H].
    `decoder` is a model without its head, switched to packed attention or to padded rows.
    """
    if not packs(decoder):
        states_TH = _padded_states(decoder, inputs_TH, bounds_B1)
        return states_TH if rows_S is None else states_TH[rows_S]
    wanted = {"scored_rows": rows_S} if rows_S is not None and reads_rows(decoder) else {}
    hidden_1TH: Tensor = decoder(
        inputs_embeds=inputs_TH[None],
        position_ids=positions_T[None],
        cu_seq_lens_q=bounds_B1,
        use_cache=False,
        **wanted,
    ).last_hidden_state
    return hidden_1TH[0] if rows_S is None or wanted else hidden_1TH[0, rows_S]


def _padded_states(decoder: nn.Module, inputs_TH: Tensor, bounds_B1: Tensor) -> Tensor:
    """Call the decoder on documents of about equal length at a time, so that less than half of it is padding."""
    starts, lengths = bounds_B1[:-1].tolist(), bounds_B1.diff().tolist()
    groups: dict[int, list[int]] = {}
    for document, length in enumerate(lengths):
        # Processes that hold shards of a model call it equally often.
        groups.setdefault(0 if _is_sharded(decoder) else (length - 1).bit_length(), []).append(document)
    states, order = [], []
    for _, documents in sorted(groups.items()):
        rows = torch.cat([torch.arange(starts[one], starts[one] + lengths[one]) for one in documents])
        bounds_G1 = document_bounds([lengths[one] for one in documents])
        rows_R = rows.to(inputs_TH.device)
        states.append(_padded_group(decoder, inputs_TH.index_select(0, rows_R), bounds_G1.to(inputs_TH.device)))
        order.append(rows)
    back_T = torch.cat(order).argsort().to(inputs_TH.device)
    return torch.cat(states).index_select(0, back_T)


def _padded_group(decoder: nn.Module, inputs_RH: Tensor, bounds_G1: Tensor) -> Tensor:
    """Pad on the right: in a causal model nothing that is padded reaches a token."""
    documents = len(bounds_G1) - 1
    longest = len(inputs_RH) if documents == 1 else int(bounds_G1.diff().max())  # where costs are counted, it is one
    rows_R = padded_rows(bounds_G1, len(inputs_RH), longest)
    inputs_GLH = inputs_RH.new_zeros(documents * longest, inputs_RH.shape[1]).index_copy(0, rows_R, inputs_RH)
    places_L = torch.arange(longest, device=inputs_RH.device)
    hidden_GLH: Tensor = decoder(
        inputs_embeds=inputs_GLH.unflatten(0, (documents, longest)),
        attention_mask=(places_L < bounds_G1.diff()[:, None]).long(),
        use_cache=False,
        **accepted(decoder, position_ids=places_L.expand(documents, -1)),
    ).last_hidden_state
    return hidden_GLH.flatten(0, 1).index_select(0, rows_R)


def _is_sharded(decoder: nn.Module) -> bool:
    return any(isinstance(module, FSDPModule) for module in decoder.modules())


def accepted(decoder: nn.Module, **arguments: Any) -> dict[str, Any]:
    """Return those arguments that a model's forward function takes (BLOOM has no position_ids)."""
    known = inspect.signature(decoder.forward).parameters
    return {name: value for name, value in arguments.items() if name in known or "kwargs" in known}


def document_bounds(lengths: list[int]) -> Tensor:
    """Return the bounds [B + 1] of documents that lie one after another."""
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
