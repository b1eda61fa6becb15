"""Merger and projector of a language model, without the language model."""

from pathlib import Path

import torch
from lavit_core.errors import InputError
from lavit_core.modeldir import check_made_with, find_part
from lavit_core.progress import warn
from lavit_tokenizer.api import VisualTokenizer, new_merger
from lavit_trainkit.external_weights import load_strictly, read_tensors, shapes_of
from torch import Tensor, nn

from lavit_pretrain.language_model import VISUAL_FILE, LanguageModel


class VisualInput(nn.Module):
    """Encoder features to the continuous rows that stand for an image in the language model's input."""

    def __init__(self, merger: nn.Module, projector: nn.Linear) -> None:
        super().__init__()
        self.merger, self.projector = merger, projector

    @torch.no_grad()
    def forward(self, features_BPD: Tensor, keep_BP: Tensor) -> Tensor:
        """Return rows [T, H] of the kept patches, one image after another."""
        rows: Tensor = self.projector(self.merger(features_BPD, keep_BP))
        return rows


def continue_visual(network: LanguageModel, source: Path) -> None:
    """Give a network before training the projector and merger that `source` (a language model folder) learned.

    Those of another geometry start anew, with a warning.
    """
    file = source / VISUAL_FILE
    if not file.exists():
        return
    learned = read_tensors(file)
    for name, part in network.visual_parts().items():
        prefix = f"{name}."
        own = {key.removeprefix(prefix): value for key, value in learned.items() if key.startswith(prefix)}
        if shapes_of(own) == shapes_of(part.state_dict()):
            part.load_state_dict(own)
        elif own:
            warn(f"{file}: its {name} is of another geometry than this tokenizer's; it starts anew")


def load_visual_input(model: Path, tokenizer: VisualTokenizer) -> VisualInput:
    """Load merger and projector of `model/llm`, on the tokenizer's device, in fp32; without a merger of its own the
    model reads the tokenizer's.

    Raises InputError if the part has no projector, or was trained with another tokenizer.
    """
    file = find_part(model, "llm") / VISUAL_FILE
    check_made_with(model, "llm")
    tensors = read_tensors(file)
    weight = tensors.get("projector.weight")
    if weight is None or weight.ndim != 2:
        raise InputError(f"{file}: no projector in it, expected a model that reads continuous features")
    config = tokenizer.config
    shown = VisualInput(new_merger(config), nn.Linear(weight.shape[1], weight.shape[0]))
    if not any(name.startswith("merger.") for name in tensors):
        tensors |= {f"merger.{name}": value for name, value in tokenizer.merger.state_dict().items()}
    if weight.shape[1] != config.feature_dim:
        raise InputError(f"{file}: merger and projector are not of this tokenizer's geometry; it belongs to another")
    load_strictly(shown, file, tensors)
    return shown.to(tokenizer.feature_mean.device).eval().requires_grad_(False)
