"""Parts of a LLaMA that cost less in training and give the same: the norms' gradient, and the last layer's rows.

Letters: T tokens, S scored positions, D width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm


def make_lean(decoder: nn.Module) -> None:
    """Switch transformers' own LLaMA classes to those below; weights, and what other families do, stay as they are."""
    for module in decoder.modules():
        if type(module) is LlamaRMSNorm:
            module.__class__ = LeanNorm
    layers = getattr(decoder, "layers", None)
    if layers and type(layers[-1]) is LlamaDecoderLayer:
        layers[-1].__class__ = LastLayer


def reads_rows(decoder: nn.Module) -> bool:
    """Return whether a decoder takes `scored_rows`, and then returns the hidden states of these alone."""
    layers = getattr(decoder, "layers", None)
    return bool(layers) and isinstance(layers[-1], LastLayer)  # type: ignore[index]


class LeanNorm(LlamaRMSNorm):
    """LlamaRMSNorm with its gradient written out: half the passes over the rows that autograd makes. Without gradients,
    torch's own norm in place of six operations."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return the rows divided by their root mean square, times the weight."""
        if hidden_states.dtype == self.weight.dtype == torch.float32 and not torch.is_grad_enabled():
            return F.rms_norm(hidden_states, self.weight.shape, self.weight, self.variance_epsilon)
        normed: Tensor = _RmsNorm.apply(hidden_states, self.weight, self.variance_epsilon)  # type: ignore[no-untyped-call]
        return normed


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
        normed = (wide * scale).to(x.dtype)
        ctx.save_for_backward(normed, scale, weight_D)
        return weight_D * normed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        normed, scale, weight_D = ctx.saved_tensors
        wide = normed.float()
        grad_weight = (grad * wide).flatten(0, -2).sum(0).to(weight_D.dtype)
        grad_normed = grad * weight_D.float()
        along = (grad_normed * wide).mean(-1, keepdim=True)
        grad_x = torch.addcmul(grad_normed, wide, along, value=-1).mul_(scale)
        return grad_x.to(normed.dtype), grad_weight, None


class LastLayer(LlamaDecoderLayer):
    """The last layer: after its attention nobody reads other rows than the scored ones."""

    def forward(self, hidden_states: Tensor, *args: Any, scored_rows: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Return [1, T, D], or of the scored rows alone [1, S, D]."""
        if scored_rows is None:
            whole: Tensor = super().forward(hidden_states, *args, **kwargs)
            return whole
        mixed, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **kwargs)
        rows = hidden_states.index_select(1, scored_rows) + mixed.index_select(1, scored_rows)
        out: Tensor = rows + self.mlp(self.post_attention_layernorm(rows))
        return out
