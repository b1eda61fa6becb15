"""What the tokenizer's modules cost: operations and kept activations of a number of images, by the formulas of
`lavit_trainkit.cost`.

Letters: P patches, T kept rows, S = P - T dropped rows of an image, D width, M width of the MLP, H heads.
"""

import dataclasses
from typing import Any

import torch
from lavit_core.images import Preprocessing
from lavit_trainkit.cost import Cost, Step, attention, backward_of, count, matrices
from lavit_trainkit.meta_run import forward_flops
from lavit_trainkit.optimizers import layer_matrices
from torch import nn

from lavit_tokenizer.config import Phase, TokenizerConfig, TrainTokenizerConfig
from lavit_tokenizer.encoder import Encoder
from lavit_tokenizer.tokenizer import shape_for, tokenizer_on_meta_device


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kept:
    """Bytes that a block keeps for its backward pass, counted on small ones (a test counts them again)."""

    row: int
    """A value of width D in each row that passes the block: norms, projections, residuals."""
    hidden: int
    """A value of the MLP's width in each row."""
    context: int
    """A value of width D in each row that is attended to from outside."""
    score: float
    """A score of plain attention: on a CPU alone, fused kernels on a GPU keep none."""
    policy: float
    """A score of the dense formulation's attention under a policy."""


KEPT = {
    "fp32": Kept(row=48, hidden=8, context=8, score=4, policy=20.4),
    "bf16": Kept(row=30, hidden=4, context=8, score=2, policy=18.4),
}


def encoder_cost(encoder: Encoder, images: float) -> Cost:
    """Return the cost of a frozen encoder that lies on the meta device, forward alone."""
    pixels = torch.zeros(1, 3, encoder.preprocessing.image_px, encoder.preprocessing.image_px, device="meta")
    flops = forward_flops(lambda: encoder(pixels)) if images else 0.0
    return Cost(name="encoder", parameters=count(encoder), forward=flops * images)


def published_encoder() -> Encoder:
    """Return EVA-CLIP ViT-g/14 without its weights (meta device): the paper's encoder, where none is given."""
    from transformers import Blip2VisionModel

    from lavit_tokenizer.released_encoder import EncoderShape

    shape = EncoderShape(
        width=1408, layers=40, heads=16, mlp_dim=6144, patch_px=14, side=16, head_dim=None
    )  # names and numbers: docs/released-weights.md
    with torch.device("meta"):
        network = Blip2VisionModel(shape.config())
    return Encoder(
        network, preprocessing=Preprocessing(), grid=(16, 16), feature_dim=1408, num_prefix=1
    ).requires_grad_(False)


def merger_cost(
    merger: nn.Module,
    shape: TokenizerConfig,
    images: float,
    *,
    kept: Kept,
    on_cpu: bool,
    dense: bool = False,
    again: bool = False,
    kept_images: float | None = None,
    **training: Any,
) -> Cost:
    """Return the cost of a merger: packed over T and S rows, or dense over P of both.

    `images` of a step are computed; `kept_images`, where it is another number, are those of one pass.
    """
    d, p = shape.feature_dim, shape.num_patches
    t = p if dense else round(shape.keep_ratio * p)
    s = p if dense else p - t
    layers, mlp = shape.merger_layers, shape.mlp_dim
    block = 2.0 * (t * (6 * d * d + 2 * d * mlp) + s * 2 * d * d) + attention(t, t + s, d)
    score = kept.policy if dense else kept.score if on_cpu else 0.0
    own = t * (kept.row * d + kept.hidden * mlp) + s * kept.context * d + shape.heads * t * (t + s) * score
    a_pass = (images if kept_images is None else kept_images) * _kept_of(layers, own, 4 * t * d, again=again)
    computed = layers * block * images
    return _cost("merger", merger, computed, a_pass, again=computed if again else 0.0, **training)


def decoder_cost(
    decoder: nn.Module,
    shape: TokenizerConfig,
    images: float,
    *,
    kept: Kept = KEPT["bf16"],
    on_cpu: bool,
    dense: bool = False,
    again: bool = False,
    kept_images: float | None = None,
    **training: Any,
) -> Cost:
    """Return the cost of a feature decoder: P queries that read T codes, or P in the dense formulation."""
    d, p, mlp, layers = shape.feature_dim, shape.num_patches, shape.mlp_dim, shape.decoder_layers
    t = p if dense else round(shape.keep_ratio * p)
    block = 2.0 * (p * (6 * d * d + 2 * d * mlp) + t * 2 * d * d) + attention(p, p + t, d)
    ends = 2.0 * (t * shape.code_dim * d + p * d * (d + shape.decoder_width))
    plain = kept.score if on_cpu or dense else 0.0
    scores = shape.heads * p * (p * plain + t * (kept.policy if dense else plain))
    own = p * (kept.row * d + kept.hidden * mlp) + t * kept.context * d + scores
    a_pass = (images if kept_images is None else kept_images) * _kept_of(layers, own, 4 * p * d, again=again)
    computed = layers * block * images
    return _cost("decoder", decoder, computed + ends * images, a_pass, again=computed if again else 0.0, **training)


def _kept_of(layers: int, own: float, inputs: float, *, again: bool) -> float:
    """Return what blocks keep an image: all, or their inputs and what one keeps while it is computed again."""
    return layers * inputs + own if again else layers * own


def tokenizer_step(config: TrainTokenizerConfig, phase: Phase, encoder: Encoder, *, cached: bool, on_cpu: bool) -> Step:
    """Return one phase of `train-tokenizer` as a step; `cached`: the encoder's features were computed before."""
    shape = shape_for(config.model, encoder)
    network, images, p, d = tokenizer_on_meta_device(shape), phase.batch_size, shape.num_patches, shape.feature_dim
    dense, kept = phase.selection == "gumbel", KEPT[config.precision]
    t = p if dense else round(shape.keep_ratio * p)
    muon = config.optimizer == "muon"
    on = {"on": 1.0, "off": 0.0, "mixed": 0.5}[phase.merger]
    before, learns = "selector" in phase.train and dense, set(phase.train)
    through = before or "merger" in learns
    about: dict[str, Any] = {"kept": kept, "on_cpu": on_cpu, "dense": dense, "again": config.gradient_checkpointing}
    a_pass = images / config.accumulate_steps
    selecting = 2.0 * matrices(network.selector) * p * images
    coding = 2.0 * matrices(network.encode_task_layer) * t * images
    coding += 2.0 * t * shape.codebook_size * shape.code_dim * images if phase.quantise else 0.0
    costs = (
        encoder_cost(encoder, 0.0 if cached else images),
        _cost("selector", network.selector, selecting, 2.0 * p * d * 4 * a_pass, trained="selector" in learns),
        merger_cost(
            network.merger, shape, on * images, trained="merger" in learns and on > 0, passes_on=before, muon=muon,
            kept_images=a_pass * (on > 0), **about,
        ),
        _cost(
            "encode_task_layer", network.encode_task_layer, coding, 3.0 * t * d * 4 * a_pass,
            trained="decoder" in learns, passes_on=through,
        ),
        decoder_cost(
            network.decoder, shape, images, trained="decoder" in learns, passes_on=through, muon=muon,
            kept_images=a_pass, **about,
        ),
    )  # fmt: skip
    return Step(
        name=phase.name,
        unit="image",
        units=images,
        costs=costs,
        num_steps=phase.num_steps,
        low_weights=config.precision == "bf16",
        gathered=sum(cost.parameters for cost in costs if cost.name != "encoder"),
    )


def _cost(
    name: str,
    module: nn.Module,
    forward: float,
    kept_bytes: float,
    *,
    trained: bool = False,
    passes_on: bool = False,
    muon: bool = False,
    again: float = 0.0,
) -> Cost:
    matrices_inside = sum(parameter.numel() for parameter in layer_matrices(module)) if muon and trained else 0
    return Cost(
        name=name,
        parameters=count(module),
        trained=count(module) if trained else 0,
        muon=matrices_inside,
        forward=forward,
        backward=backward_of(forward, trained=trained, passes_on=passes_on),
        again=again if trained or passes_on else 0.0,
        kept_bytes=kept_bytes if trained or passes_on else 0.0,
    )
