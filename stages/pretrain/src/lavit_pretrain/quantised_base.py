"""QLoRA (arXiv 2305.14314): the frozen linear layers of a language model in 4 or 8 bits, through bitsandbytes.

4 bits are NF4 with doubly quantised scales, 8 are LLM.int8's rows (arXiv 2208.07339). Tables, heads, norms and the
stacked weights of experts stay as they are. Merged adapters are added to what the layers compute with.
"""

import importlib.util
from typing import Any

import torch
from lavit_core.errors import InputError, UsageError
from torch import nn
from transformers import PreTrainedModel

from lavit_pretrain.config import PretrainConfig

BLOCK = 64
"""Weights that share a scale in 4 bits."""


def check_bits(config: PretrainConfig) -> None:
    """Raise UsageError for settings that do not go with a base in few bits, InputError if bitsandbytes is missing."""
    bits = config.lora.bits
    if bits is None:
        return
    if not config.lora.rank:
        raise UsageError(f"setting lora.bits: {bits} without adapters: such a base can't be trained; set lora.rank")
    if config.lora.use_dora:
        raise UsageError(
            f"setting lora.bits: {bits} with lora.use_dora: lengths of columns need the weights themselves"
        )
    if config.parallel == "fsdp":
        raise UsageError(f"setting lora.bits: {bits} with parallel: fsdp: packed weights are not sharded; set ddp")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            f"setting lora.bits: {bits} needs bitsandbytes, which is not installed; run `pip install bitsandbytes`, or "
            "leave the base as it is (--set lora.bits=null)"
        )


def base_layers(llm: PreTrainedModel, bits: int) -> dict[str, nn.Linear]:
    """Return the frozen linear layers that hold the model's own weights, by name: not the head, not the adapters, and
    for 4 bits none whose rows are no whole number of blocks."""
    # On CPUs bitsandbytes 0.50 reads 4 bits row by row: with blocks across rows, weights come back as others.
    block = BLOCK if bits == 4 else 1
    head = llm.get_output_embeddings()
    return {
        name: module
        for name, module in llm.named_modules()
        if type(module) is nn.Linear
        and module is not head
        and not module.weight.requires_grad
        and module.in_features % block == 0
    }


def quantise_base(llm: PreTrainedModel, bits: int) -> None:
    """Put the frozen linear layers into `bits`. Raises UsageError if there are none."""
    import bitsandbytes

    layers = base_layers(llm, bits)
    if not layers:
        raise UsageError(
            f"setting lora.bits: {bits}: {llm.config.model_type} has no linear layers of torch's own kind"
            + (f" that read a multiple of {BLOCK} numbers" if bits == 4 else "")
        )
    for name, layer in layers.items():
        shape: dict[str, Any] = {"bias": layer.bias is not None}
        few = (
            bitsandbytes.nn.Linear4bit(layer.in_features, layer.out_features, quant_type="nf4", **shape)
            if bits == 4
            else bitsandbytes.nn.Linear8bitLt(layer.in_features, layer.out_features, has_fp16_weights=False, **shape)
        )
        few.load_state_dict(layer.state_dict())
        few = few.to("cpu").requires_grad_(False)  # which packs the weights
        # Else a pass without gradients, as sample images make, packs them anew where the CPU has bf16, in a way that
        # neither training nor `dequantised` reads.
        few.support_avx512bf16_for_cpu = False
        if bits == 8:
            # bitsandbytes moves the scales from the weight to whichever copy of the layer computes first.
            few.register_buffer("row_scales", few.weight.SCB.clone(), persistent=False)
        llm.set_submodule(name, few)


def restore_base(llm: PreTrainedModel) -> None:
    """Put back linear layers in fp32 with the weights that the few bits stand for."""
    for name, layer in [(name, one) for name, one in llm.named_modules() if _is_packed(one)]:
        weight = dequantised(layer)
        plain = nn.Linear(weight.shape[1], weight.shape[0], bias=layer.bias is not None)
        plain.weight = nn.Parameter(weight, requires_grad=False)
        if layer.bias is not None:
            plain.bias = nn.Parameter(layer.bias.detach().float().cpu(), requires_grad=False)
        llm.set_submodule(name, plain)


def dequantised(layer: Any) -> torch.Tensor:
    """Return the fp32 weight [out, in] that a layer in few bits computes with, on the CPU."""
    import bitsandbytes

    weight = layer.weight
    if isinstance(layer, bitsandbytes.nn.Linear4bit):
        return bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state).float().cpu()
    return (weight.data.float() * layer.row_scales.float()[:, None] / 127).cpu()


def bytes_of_frozen(llm: PreTrainedModel, bits: int | None, otherwise: float) -> float:
    """Return the mean bytes of a frozen parameter, before the layers are put into `bits`; NF4's scales take 0.016."""
    if bits is None:
        return otherwise
    frozen = sum(parameter.numel() for parameter in llm.parameters() if not parameter.requires_grad)
    few = sum(layer.weight.numel() for layer in base_layers(llm, bits).values())
    return (few * (bits / 8 + 0.016) + (frozen - few) * otherwise) / max(frozen, 1)


def count_parameters(network: nn.Module) -> int:
    """Return how many numbers a network's parameters stand for; four bits are stored two in a byte."""
    packed = (getattr(parameter, "quant_state", None) for parameter in network.parameters())
    shapes = zip(packed, network.parameters(), strict=True)
    return sum((parameter.shape if state is None else torch.Size(state.shape)).numel() for state, parameter in shapes)


def _is_packed(module: nn.Module) -> bool:
    return type(module).__name__ in ("Linear4bit", "Linear8bitLt")
