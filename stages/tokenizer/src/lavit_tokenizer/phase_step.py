"""One step of a phase of `train-tokenizer`: trained modules, loss and gradients in all processes, logged metrics."""

import dataclasses
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from lavit_trainkit.clipping import clip_gradients
from lavit_trainkit.distributed import all_gather, all_reduce_sum, broadcast_from_main, shares_of, sum_terms
from lavit_trainkit.optimizers import Part
from lavit_trainkit.parallel import no_sync_until_last, parallelize
from torch import Tensor, nn

from lavit_tokenizer.config import TrainTokenizerConfig
from lavit_tokenizer.evidence import OwnRows
from lavit_tokenizer.features import FeatureSource
from lavit_tokenizer.objective import (
    ForwardOutput,
    forward_phase,
    keep_moments,
    kept_metrics,
    losses,
    mean_direction,
    selector_explained_variance,
)
from lavit_tokenizer.patch_weights import patch_weights, weighted_energy
from lavit_tokenizer.phase import Phase
from lavit_tokenizer.tokenizer import VisualTokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class PassInput:
    """The images of one forward and backward pass: `rows` of a step's batch. Letters: b of B images."""

    rows: slice
    """The rows of the batch."""
    x_BPD: Tensor
    """Features [b, P, D]: what the selector reads and the decoder's target."""
    own_BPD: Tensor | None
    """What kept patches tell in place of their features, [b, P, D], where the phase's evidence is `own`."""
    weight_BP: Tensor
    """Weights of the patches' squared errors [b, P]."""


def read_passes(
    batch: np.ndarray, shares: list[slice], source: FeatureSource, own: OwnRows | None, config: TrainTokenizerConfig
) -> list[PassInput]:
    """Return this process's passes of a step over the images `batch` (indices), one for each of its `shares`."""
    passes, grid = [], source.tokenizer.config.grid
    for rows in shares:
        x_BPD = source.batch(batch[rows])
        own_BPD = None if own is None else own.batch(batch[rows])
        weight_BP = patch_weights(x_BPD, grid, config)
        passes.append(PassInput(rows=rows, x_BPD=x_BPD, own_BPD=own_BPD, weight_BP=weight_BP))
    return passes


def shares_of_phase(phase: Phase, config: TrainTokenizerConfig) -> list[slice]:
    """Return the rows of the phase's batch that this process takes in each pass."""
    setting = f"phases.{phase.name}.batch_size"
    return shares_of(phase.batch_size, setting=setting, passes=config.accumulate_steps)


def trained_parts(tokenizer: VisualTokenizer, phase: Phase, *, muon: bool) -> dict[str, Part]:
    """Return the phase's modules with their learning rates; the selector, a small MLP, stays with AdamW."""
    muon_lr = phase.muon_lr if muon else None
    owners = {
        "selector": ("selector", phase.selector_lr, None),
        "merger": ("merger", phase.lr, muon_lr),
        "encode_task_layer": ("decoder", phase.lr, None),
        "decoder": ("decoder", phase.lr, muon_lr),
    }
    parts = {}
    for name, (owner, rate, muon_rate) in owners.items():
        module = getattr(tokenizer, name).requires_grad_(owner in phase.train)
        if owner in phase.train:
            parts[name] = Part(module=module, lr=rate, muon_lr=muon_rate)
    return parts


def clip_phase(parts: dict[str, Part], max_norm: float) -> None:
    """Clip the phase's gradients; the selector's are far larger and clipped apart."""
    selector = [part.module for name, part in parts.items() if name == "selector"]
    others = [part.module for name, part in parts.items() if name != "selector"]
    for modules in (selector, others):
        if modules:
            clip_gradients((p for module in modules for p in module.parameters()), max_norm)


def parallelize_phase(
    tokenizer: VisualTokenizer,
    phase: Phase,
    config: TrainTokenizerConfig,
    accelerator: Accelerator,
    *,
    seed: int,
) -> nn.Module:
    """Return the phase's loss as all processes compute it: (pass, step, energy) -> its terms and output."""

    def compute(
        net: VisualTokenizer, given: PassInput, step: int, energy: Tensor
    ) -> tuple[dict[str, Tensor], ForwardOutput]:
        with accelerator.autocast():
            output = forward_phase(
                net, given.x_BPD, phase, step=step, seed=seed, rows=given.rows, own_BPD=given.own_BPD
            )
        vectors = None if output.codes is None else net.quantizer.vectors(output.codes)
        terms = losses(
            output, given.x_BPD, config, vectors, cos_weight=phase.cos_weight, weight_BP=given.weight_BP,
            share=len(given.x_BPD) / phase.batch_size, energy=energy, kept_errors=phase.kept_errors,
        )  # fmt: skip
        return terms, output.detach()

    # The masked formulation calls a method of blocks, not blocks: shards are gathered for all of them together.
    is_empty = tokenizer.config.merger_layers == 0
    unmerged = is_empty or phase.merger != "on" or ("selector" in phase.train and phase.selection != "gumbel")
    return parallelize(
        tokenizer,
        compute,
        parallel=config.parallel,
        device=accelerator.device,
        ignored=[tokenizer.encoder],
        some_unused=unmerged,
    )


def forward_backward(
    computed: nn.Module, accelerator: Accelerator, passes: list[PassInput], *, step: int
) -> tuple[dict[str, float], list[ForwardOutput]]:
    """Add the gradients of one step to the parameters, over this process's passes.

    Returns the step's loss terms over all processes, and the output of each pass.
    """
    energies = (weighted_energy(given.weight_BP, given.x_BPD) for given in passes)
    energy = all_reduce_sum(sum(energies, torch.zeros(())))
    terms, outputs = [], []
    for given in passes:
        with no_sync_until_last(computed, last=given is passes[-1]):
            term, output = computed(given, step, energy)
            accelerator.backward(term["loss"])
        terms.append(term)
        outputs.append(output)
    return sum_terms(terms), outputs


def update_codebook(
    tokenizer: VisualTokenizer, outputs: list[ForwardOutput], config: TrainTokenizerConfig, stream: torch.Generator
) -> tuple[Tensor, int]:
    """Move the codebook towards the vectors of all passes of all processes.

    Returns the step's codes [T] and how many dead codes were restarted.
    """
    codes = torch.cat([all_gather(output.codes) for output in outputs if output.codes is not None])
    vectors = torch.cat([all_gather(output.z.detach()) for output in outputs])
    restarted = tokenizer.quantizer.update(
        vectors, codes, decay=config.ema_decay, restart_below=config.restart_below, stream=stream
    )
    broadcast_from_main(tokenizer.quantizer.buffers())
    return codes, restarted


def keep_metrics(passes: list[PassInput], outputs: list[ForwardOutput], batch_size: int) -> dict[str, Any]:
    """Return the metrics of a step's features and keep masks, over all passes of all processes."""
    shares = [len(given.x_BPD) / batch_size for given in passes]
    direction = sum(mean_direction(given.x_BPD) * share for given, share in zip(passes, shares, strict=True))
    keep = sum(keep_moments(output.log_keep) * share for output, share in zip(outputs, shares, strict=True))
    kept = torch.cat([all_gather((output.mask > 0.5).sum(dim=1)) for output in outputs])
    metrics = {
        "mean_predictor": 1 - float(all_reduce_sum(torch.as_tensor(direction)).norm()),
        "decided": selector_explained_variance(all_reduce_sum(torch.as_tensor(keep))),
    }
    return {**metrics, **kept_metrics(kept, outputs[0].mask.shape[1])}
