"""The optimisers of one run: AdamW as in the paper, or Muon for the matrices inside the layers of a small new model."""

from collections.abc import Mapping
from typing import Any

import torch
from lavit_trainkit.schedule import adamw
from torch import nn

from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.language_model import LanguageModel


def build_optimizers(network: LanguageModel, config: PretrainConfig) -> dict[str, torch.optim.Optimizer]:
    """Return optimisers by name; together they hold every trained parameter once, at the rates of the config.

    Source of Muon: Jordan et al. 2024, as shipped with torch, its updates scaled like AdamW's (Liu et al. 2025).
    """
    rates = {name: (part, config.visual_lr) for name, part in network.visual_parts().items()}
    if config.optimizer == "adamw":
        return {"adamw": _adamw({"llm": (network.llm, config.llm_lr), **rates}, config)}
    inside = [parameter for layer in _layers(network) for parameter in layer.parameters() if parameter.ndim == 2]
    chosen = set(map(id, inside))
    outside = {name: (p, config.llm_lr) for name, p in network.llm.named_parameters() if id(p) not in chosen}
    group = {"params": inside, "lr": config.muon_lr, "base_lr": config.muon_lr}
    muon = torch.optim.Muon([group], weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw")
    return {"adamw": _adamw({**outside, **rates}, config), "muon": muon}


def _adamw(parts: Mapping[str, tuple[Any, float]], config: PretrainConfig) -> torch.optim.AdamW:
    return adamw(parts, betas=config.betas, weight_decay=config.weight_decay, eps=config.eps)


def _layers(network: LanguageModel) -> list[nn.Module]:
    """Return the decoder's layers: the one list of modules right under it."""
    return [layer for part in network.decoder.children() if isinstance(part, nn.ModuleList) for layer in part]
