"""The tokenizer's loss (paper eq. 4): (1 - cos) of every patch's feature + lambda (rho - share kept)^2.

Letters: B images, P patches, D feature width, T kept rows, C code width.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lavit_core.processes import num_processes
from lavit_core.seeds import derive_seed
from lavit_trainkit.device import generator
from lavit_trainkit.distributed import all_gather_with_gradient, all_reduce_sum
from torch import Tensor

from lavit_tokenizer.config import TrainTokenizerConfig
from lavit_tokenizer.patch_weights import weighted_energy
from lavit_tokenizer.phase import Phase
from lavit_tokenizer.selector import at_least_one, gumbel, gumbel_mask, select_best, select_threshold
from lavit_tokenizer.tokenizer import VisualTokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForwardOutput:
    """Output of one forward pass of a phase."""

    decoded: Tensor
    """Decoded features [B, P, D]."""
    mask: Tensor
    """Keep mask, float [B, P]; with gradients in `gumbel` phases."""
    log_keep: Tensor
    """Log-probabilities of keep and drop [B, P, 2]."""
    z: Tensor
    """Unit vectors of the kept patches before the codebook [T, C]."""
    codes: Tensor | None
    """Their codes [T]; None where the phase does not quantise."""

    def detach(self) -> "ForwardOutput":
        """Return the same tensors without gradients."""
        codes = None if self.codes is None else self.codes.detach()
        return ForwardOutput(
            decoded=self.decoded.detach(), mask=self.mask.detach(), log_keep=self.log_keep.detach(),
            z=self.z.detach(), codes=codes,
        )  # fmt: skip


def forward_phase(
    tokenizer: VisualTokenizer,
    x_BPD: Tensor,
    phase: Phase,
    *,
    step: int,
    seed: int,
    rows: slice = slice(None),
    own_BPD: Tensor | None = None,
) -> ForwardOutput:
    """Run features through selection, merger, codes and decoder as the phase sets; `step` counts within the phase.

    Where the features are only some `rows` of the phase's batch, they get those rows of its random draws.
    `own_BPD` is what kept patches tell in place of their features: `OwnRows` of the same images.
    """
    log_keep, mask = _select(tokenizer, x_BPD, phase, step=step, seed=seed, rows=rows)
    z = _vectors(tokenizer, x_BPD if own_BPD is None else own_BPD, mask, phase, step=step)
    if phase.selection == "gumbel":
        return _decode_masked(tokenizer, z, mask, log_keep, quantise=phase.quantise)
    return _decode_packed(tokenizer, z, mask, log_keep, quantise=phase.quantise)


def code_vectors(tokenizer: VisualTokenizer, x_BPD: Tensor, phase: Phase, *, step: int, seed: int) -> Tensor:
    """Return the unit vectors [T, C] of kept patches that a phase's codebook sees of features [B, P, D]."""
    _, mask = _select(tokenizer, x_BPD, phase, step=step, seed=seed)
    z = _vectors(tokenizer, x_BPD, mask, phase, step=step)
    return z[mask.detach() > 0.5] if phase.selection == "gumbel" else z


def _select(
    tokenizer: VisualTokenizer, x_BPD: Tensor, phase: Phase, *, step: int, seed: int, rows: slice = slice(None)
) -> tuple[Tensor, Tensor]:
    """Return log-probabilities [B, P, 2] and the mask [B, P]: float with gradients in `gumbel` phases, else bool."""
    with torch.set_grad_enabled("selector" in phase.train):
        log_keep = tokenizer.selector(x_BPD)
    drawn = x_BPD.shape[0] if rows == slice(None) else phase.batch_size
    if phase.selection == "gumbel":
        noise = gumbel((drawn, *log_keep.shape[1:]), generator(seed, "gumbel", step))[rows].to(x_BPD.device)
        return log_keep, gumbel_mask(log_keep, noise, temperature(phase, step))
    if phase.selection == "random":
        masks = random_mask((drawn, log_keep.shape[1]), phase.mask_rates, generator(seed, "masks", step))
        return log_keep, masks[rows].to(x_BPD.device)
    keep = select_threshold(log_keep, tokenizer.config.keep_threshold, tokenizer.config.least_share)
    if phase.count_factors != (1.0, 1.0):
        factors = count_factors(drawn, phase.count_factors, generator(seed, "counts", step))[rows].to(x_BPD.device)
        keep = select_best(log_keep, (keep.sum(dim=1) * factors).round().long().clamp(1, keep.shape[1]))
    return log_keep, keep


def _vectors(tokenizer: VisualTokenizer, x_BPD: Tensor, mask: Tensor, phase: Phase, *, step: int) -> Tensor:
    """Return unit vectors: [B, P, C] of all patches in `gumbel` phases, [T, C] of the kept ones in the others."""
    merged = phase.merger == "on" or (phase.merger == "mixed" and step % 2 == 0)
    if phase.selection == "gumbel":
        rows = tokenizer.merger.forward_masked(x_BPD, mask) if merged else _unmerged(tokenizer, x_BPD)
    else:
        rows = tokenizer.merger(x_BPD, mask) if merged else _unmerged(tokenizer, x_BPD)[mask]
    return tokenizer.project(rows)


def _decode_masked(
    tokenizer: VisualTokenizer, z_BPC: Tensor, mask: Tensor, log_keep: Tensor, *, quantise: bool
) -> ForwardOutput:
    kept = mask.detach() > 0.5
    read_BPC, codes = z_BPC, None
    if quantise:
        # Dropped patches as well: the mask's gradient depends on the code each would have if it were kept.
        read, all_codes = tokenizer.quantizer(z_BPC.flatten(0, 1))
        read_BPC, codes = read.view_as(z_BPC), all_codes.view_as(kept)[kept]
    decoded = tokenizer.decoder.forward_masked(read_BPC, mask)
    return ForwardOutput(decoded=decoded, mask=mask, log_keep=log_keep, z=z_BPC[kept], codes=codes)


def _decode_packed(
    tokenizer: VisualTokenizer, z_TC: Tensor, keep: Tensor, log_keep: Tensor, *, quantise: bool
) -> ForwardOutput:
    read, codes = tokenizer.quantizer(z_TC) if quantise else (z_TC, None)
    decoded = tokenizer.decoder(read, keep.sum(dim=1))
    return ForwardOutput(decoded=decoded, mask=keep.float(), log_keep=log_keep, z=z_TC, codes=codes)


def _unmerged(tokenizer: VisualTokenizer, x_BPD: Tensor) -> Tensor:
    return tokenizer.merger.norm(tokenizer.merger.place(x_BPD))


def temperature(phase: Phase, step: int) -> float:
    """Return the Gumbel temperature of a step, geometric from the phase's first to its last value."""
    first, last = phase.tau
    return first * (last / first) ** (step / max(1, phase.num_steps - 1))


def count_factors(num_images: int, ends: tuple[float, float], stream: torch.Generator) -> Tensor:
    """Return a factor for each image [B], log-uniform between `ends` for every second one and 1 for the others."""
    low, high = math.log(ends[0]), math.log(ends[1])
    factors = (low + torch.rand(num_images, generator=stream) * (high - low)).exp()
    return torch.where(torch.arange(num_images) % 2 == 0, 1.0, factors)


def random_mask(shape: tuple[int, int], rates: tuple[float, float], stream: torch.Generator) -> Tensor:
    """Return a bool mask [B, P] whose keep rate is drawn per image from `rates`; at least one patch an image."""
    rate = torch.rand(shape[0], 1, generator=stream) * (rates[1] - rates[0]) + rates[0]
    draws = torch.rand(*shape, generator=stream)
    return at_least_one(draws < rate, -draws)


def losses(
    output: ForwardOutput,
    target_BPD: Tensor,
    config: TrainTokenizerConfig,
    code_vectors: Tensor | None,
    *,
    cos_weight: float = 1.0,
    share: float = 1.0,
    weight_BP: Tensor | None = None,
    energy: Tensor | None = None,
    kept_errors: float = 1.0,
) -> dict[str, Tensor]:
    """Return the terms of the loss by name; `loss` is their weighted sum.

    Of a step that several passes or processes share these are parts that add up to the step's terms: `share` is the
    part of its images that is here, `weight_BP` the `patch_weights` of the squared error (None: all equal), `energy`
    the `weighted_energy` of all of the step's images. Squared errors of kept patches count `kept_errors` times.
    """
    decoded, target = output.decoded.float(), target_BPD.float()
    # A term of weight 0 is logged alone: its gradient, all zeros, would cost a backward pass.
    cosine = F.cosine_similarity(decoded if cos_weight else decoded.detach(), target, dim=-1)
    terms = {"cos_loss": (1 - cosine.mean()) * share}
    weight_BP = torch.ones_like(target[..., 0]) if weight_BP is None else weight_BP
    energy = weighted_energy(weight_BP, target) if energy is None else energy
    # The mask has gradients: dropping a patch costs what the others fail to tell of it.
    counted_BP = weight_BP if kept_errors == 1 else weight_BP * (1 - (1 - kept_errors) * output.mask)
    terms["nmse"] = (counted_BP * (decoded - target).square().sum(dim=-1)).sum() / energy.clamp_min(1e-30)
    share_B = output.mask.mean(dim=1)
    if config.keep_term == "image":
        terms["keep_term"] = (config.model.keep_ratio - share_B).square().mean() * share
    else:
        mean = all_gather_with_gradient(share_B).mean()
        terms["keep_term"] = (config.model.keep_ratio - mean).square() / num_processes()
    loss = cos_weight * terms["cos_loss"] + config.nmse_weight * terms["nmse"] + config.keep_weight * terms["keep_term"]
    # A mean over all kept rows of a step, which passes do not know beforehand: there the settings refuse its weight.
    if code_vectors is not None and config.accumulate_steps == 1:
        rows = torch.tensor(float(output.z.shape[0]), device=output.z.device)
        distance = (output.z - code_vectors.detach()).square().sum(dim=-1).mean()
        terms["commitment"] = distance * (rows / all_reduce_sum(rows))
        loss = loss + config.commitment_weight * terms["commitment"]
    return {"loss": loss, **terms}


def mean_predictor(target_BPD: Tensor) -> float:
    """Return 1 - cos of the best constant prediction: one minus the length of the mean of unit features."""
    return 1 - float(mean_direction(target_BPD).norm())


def mean_direction(target_BPD: Tensor) -> Tensor:
    """Return the mean [D] of unit features."""
    return F.normalize(target_BPD.float(), dim=-1).flatten(0, -2).mean(0)


def keep_moments(log_keep: Tensor) -> Tensor:
    """Return the mean of the patches' keep probabilities and of their squares, [2]."""
    keep = log_keep.detach()[..., 0].exp()
    return torch.stack([keep.mean(), keep.square().mean()])


def selector_explained_variance(moments: Tensor) -> float:
    """Return the share of the keep decisions' variance that the features explain, from `keep_moments`.

    The variance of the keep probabilities over that of the decisions, m (1 - m) at a mean probability m: 0 if all
    probabilities are equal, 1 if all are 0 or 1.
    """
    mean, square = moments.tolist()
    return max(0.0, square - mean**2) / max(mean * (1 - mean), 1e-12)


def kept_metrics(counts_B: Tensor, num_patches: int) -> dict[str, Any]:
    """Return mean, spread, range and an eight-bin histogram of tokens an image."""
    counts = counts_B.detach().cpu().numpy().astype(np.int64)
    histogram = np.histogram(counts, bins=8, range=(0, num_patches))[0].tolist()
    return {
        "kept_mean": float(counts.mean()),
        "kept_std": float(counts.std()),
        "kept_min": int(counts.min()),
        "kept_max": int(counts.max()),
        "kept_histogram": histogram,
    }


def phase_seed(seed: int, phase: Phase) -> int:
    """Return the seed of a phase's random draws."""
    return derive_seed(seed, "phase", phase.name)
