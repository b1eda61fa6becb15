"""LoRA through peft: adapters on a language model's linear layers, and its visual rows trained in full.

Letters: V text ids, N visual ids, H hidden width.
"""

import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lavit_core.errors import InputError, UsageError
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from lavit_pretrain.config import LoraSettings, PretrainConfig

ALL_LINEAR = "all-linear"


class VisualRows(nn.Module):
    """A table as its text rows, which stay frozen, and the rows after them (a parametrization of torch)."""

    def __init__(self, text_vocab: int) -> None:
        super().__init__()
        self.text_vocab = text_vocab

    def forward(self, text_VH: Tensor, visual_NH: Tensor) -> Tensor:
        """Return the whole table [V + N, H]."""
        return torch.cat([text_VH, visual_NH])

    def right_inverse(self, table: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two parts of a table."""
        return table[: self.text_vocab].clone(), table[self.text_vocab :].clone()


def check_lora(config: PretrainConfig, llm: Path | None) -> None:
    """Raise UsageError for LoRA without a trained model or with Muon, and for its settings without a rank; InputError
    if peft is not installed."""
    rank = config.lora.rank
    if not rank:
        # Bits without a rank are refused by `check_bits`.
        given = config.lora.model_dump(exclude_defaults=True, exclude={"bits"})
        if given:
            name, value = next(iter(given.items()))
            raise UsageError(f"setting lora.{name}: {value} with lora.rank: 0, which adapts nothing; set lora.rank")
        return
    if llm is None:
        raise UsageError(f"setting lora.rank: {rank} adapts a trained model; give it by --llm, say MODEL/llm")
    if config.optimizer != "adamw":
        raise UsageError(f"setting lora.rank: {rank} with optimizer: {config.optimizer}; set optimizer to adamw")
    if importlib.util.find_spec("peft") is None:
        raise InputError(
            f"setting lora.rank: {rank} needs peft, which is not installed; run "
            "`pip install -c constraints.txt peft`, or train all weights (--set lora.rank=0)"
        )


def add_lora(llm: PreTrainedModel, settings: LoraSettings, text_vocab: int) -> None:
    """Freeze a language model but for new adapters in its linear layers and for the visual rows of its tables.

    The adapters are drawn by peft (seed torch before) and change nothing at first. Raises UsageError for targets that
    the model does not have.
    """
    import peft

    targets = settings.target_modules
    names = [name.strip() for name in targets.split(",")]
    if targets != ALL_LINEAR:
        _check_targets(llm, names)
    # Routers of experts stay as they are: some are linear layers that return more than a tensor.
    routers = [name for name, module in llm.named_modules() if type(module).__name__.endswith("Router")]
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.lora_alpha or 2 * settings.rank,
        target_modules=targets if targets == ALL_LINEAR else names,
        exclude_modules=routers or None,
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
    )
    try:
        with warnings.catch_warnings():
            # Layers that the model lacks are refused; what peft warns of else is what it does for a family.
            warnings.simplefilter("ignore")
            peft.inject_adapter_in_model(config, llm)
    except ValueError as error:
        reason = " ".join(str(error).split())[:300]
        raise UsageError(f"setting lora.target_modules: {targets} ({reason}); {ALL_LINEAR} takes all") from None
    _split_tables(llm, text_vocab)


def _check_targets(llm: PreTrainedModel, names: Sequence[str]) -> None:
    """Raise UsageError for a target that no layer has, which peft leaves out beside others, and for a table of tokens,
    whose visual rows are trained in full."""
    layers = {path: module for path, module in llm.named_modules() if path}
    for name in names:
        meant = [module for path, module in layers.items() if path == name or path.endswith(f".{name}")]
        if not meant:
            raise UsageError(
                f"setting lora.target_modules: {name or repr(name)} not found among the layers of this "
                f"language model; {ALL_LINEAR} takes all"
            )
        if any(module in _tables(llm) for module in meant):
            raise UsageError(
                f"setting lora.target_modules: {name} is a table of tokens, whose rows of codes are trained in full "
                f"and whose text rows stay as they are; leave it out, or give {ALL_LINEAR}"
            )


def merge_lora(llm: PreTrainedModel) -> None:
    """Add the adapters to the weights they adapt, in fp32 on the CPU, and join the tables: a plain model again."""
    from peft.tuners.lora import LoraLayer

    cast(nn.Module, llm).to("cpu", torch.float32)
    adapted = {name: cast(Any, module) for name, module in llm.named_modules() if isinstance(module, LoraLayer)}
    for module in adapted.values():
        module.merge()
    for name, module in adapted.items():
        if not name.endswith(".base_layer"):  # adapters of stacked experts' weights lie in one another
            llm.set_submodule(name, module.get_base_layer())
    inputs, outputs = _tables(llm)
    tied = inputs.parametrizations.weight is outputs.parametrizations.weight
    for table in (inputs, outputs):
        for name in list(table.parametrizations):
            parametrize.remove_parametrizations(table, name)
    if tied:
        outputs.weight = inputs.weight
    llm.requires_grad_(True)


def trained_parameters(network: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are trained, by name: what a checkpoint holds of a network."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def _split_tables(llm: PreTrainedModel, text_vocab: int) -> None:
    """Split the tables of inputs and outputs, and the head's bias, into frozen text rows and trained visual rows."""
    inputs, outputs = _tables(llm)
    tied = inputs.weight is outputs.weight
    for table in (inputs, outputs):
        for name in [name for name, _ in table.named_parameters(recurse=False)]:
            parametrize.register_parametrization(table, name, VisualRows(text_vocab), unsafe=True)
            table.parametrizations[name].original1.requires_grad_(True)
    if tied:
        outputs.parametrizations["weight"] = inputs.parametrizations["weight"]


def _tables(llm: PreTrainedModel) -> tuple[Any, Any]:
    return llm.get_input_embeddings(), llm.get_output_embeddings()
