"""The head of a language model: how hidden states become logits, in any family of transformers.

Letters: N positions, D hidden width, V ids.
"""

import dataclasses
from typing import Any

import torch
from lavit_trainkit.onednn import arranged, arranged_product, takes
from torch import Tensor
from transformers import PreTrainedModel

SCALES = {"logit_scale": 1, "logits_scaling": -1}
"""Setting of a family's configuration -> the power of it that logits are multiplied by (Cohere; Granite)."""


@dataclasses.dataclass(frozen=True)
class Head:
    """Logits are cap * tanh(scale * (hidden @ weight.T + bias) / cap); without a cap they stay as they are."""

    weight_VD: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    cap: float | None = None
    arranged_VD: Tensor | None = None
    """The weight once more, as oneDNN multiplies it."""

    def rows(self, start: int, end: int | None = None) -> "Head":
        """Return the head of the ids from `start` to before `end` alone."""
        bias_V = None if self.bias_V is None else self.bias_V[start:end]
        return dataclasses.replace(self, weight_VD=self.weight_VD[start:end], bias_V=bias_V, arranged_VD=None)

    def arranged(self) -> "Head":
        """Return this head with its weight arranged, where that pays; for weights that stay as they are."""
        return dataclasses.replace(self, arranged_VD=arranged(self.weight_VD))

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """Return logits [..., V] of hidden states [..., D], in their dtype."""
        if self.arranged_VD is not None and takes(hidden_ND, self.arranged_VD):
            return self.shape_logits(arranged_product(hidden_ND, self.arranged_VD))
        return self.shape_logits(hidden_ND @ self.weight_VD.T)

    def shape_logits(self, products_NV: Tensor) -> Tensor:
        """Return the logits [..., V] of the products hidden @ weight.T."""
        if self.bias_V is not None:
            products_NV = products_NV + self.bias_V
        if self.scale != 1.0:
            products_NV = products_NV * self.scale
        return products_NV if self.cap is None else self.cap * torch.tanh(products_NV / self.cap)


def head_of(llm: PreTrainedModel) -> Head:
    """Return a model's head; its tensors are the model's own. `choose_attention` measures that nothing is left out."""
    layer: Any = llm.get_output_embeddings()
    config = llm.config.get_text_config()
    scale = 1.0
    for name, power in SCALES.items():
        if value := getattr(config, name, None):
            scale *= float(value) ** power
    return Head(layer.weight, getattr(layer, "bias", None), scale, getattr(config, "final_logit_softcapping", None))
