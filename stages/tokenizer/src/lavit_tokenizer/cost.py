"""Cost of the tokenizer's modules and of training steps, as torch counts it for one image on the meta device.

Masks and counts stay on the CPU: which rows a packed module computes must be known.
"""

import functools
from pathlib import Path

import torch
from lavit_core.images import Preprocessing
from lavit_trainkit.cost import Step, count, part
from lavit_trainkit.flops import Counts, forward_flops, training_counts, with_recomputed_block
from torch import Tensor, nn

from lavit_tokenizer.config import (
    EncoderFeatures,
    SmallVitConfig,
    TokenizerConfig,
    TrainEncoderConfig,
    TrainTokenizerConfig,
)
from lavit_tokenizer.contrastive import ContrastiveModel
from lavit_tokenizer.decoder import DecoderBlock, FeatureDecoder
from lavit_tokenizer.encoder import Encoder, small_encoder
from lavit_tokenizer.encoder_folder import encoder_on_meta_device
from lavit_tokenizer.merger import Merger
from lavit_tokenizer.patch_features import PatchReader
from lavit_tokenizer.phase import Phase
from lavit_tokenizer.phase_step import trained_parts
from lavit_tokenizer.selector import gumbel_mask
from lavit_tokenizer.small_vit import SmallVit
from lavit_tokenizer.tokenizer import VisualTokenizer, shape_for, tokenizer_on_meta_device

PART_NAMES = {"encode_task_layer": "code projection"}
"""Names of the tokenizer's parts for people, where the network's (the released file's) does not say what they do."""


def planned_encoder(
    folder: Path | None, assumed: SmallVitConfig | None = None, features: EncoderFeatures | None = None
) -> Encoder:
    """Return an encoder without weights (meta device): the folder's, else that of the `assumed` configuration, else the
    paper's EVA-CLIP ViT-g/14.

    Raises InputError if `folder` is missing or of unknown kind.
    """
    if folder is not None:
        return encoder_on_meta_device(folder, features)
    if assumed is not None:
        with torch.device("meta"):
            return small_encoder(SmallVit(assumed)).requires_grad_(False)
    with torch.device("meta"):
        return published_encoder()


def published_encoder(layers: int = 40) -> Encoder:
    """Return an untrained encoder of the paper's shape, EVA-CLIP ViT-g/14, or of its first blocks."""
    from transformers import Blip2VisionModel

    from lavit_tokenizer.released_encoder import EncoderShape

    shape = EncoderShape(
        width=1408, layers=layers, heads=16, mlp_dim=6144, patch_px=14, side=16, head_dim=None
    )  # names and numbers: docs/released-weights.md
    return Encoder(
        Blip2VisionModel(shape.config()),
        preprocessing=Preprocessing(),
        grid=(16, 16),
        feature_dim=1408,
        num_prefix=1,
        reader=PatchReader(patch_px=14),
    ).requires_grad_(False)


def encoder_step(config: TrainEncoderConfig, model: ContrastiveModel) -> Step:
    """Return a step of `train-encoder`, its model on the meta device; the pairs' similarities are left out."""
    bf16, px = config.precision == "bf16", config.vision.preprocessing.image_px
    model.to(torch.bfloat16 if bf16 else torch.float32)
    pixels, ids = _zeros(model, 1, 3, px, px), torch.ones(1, config.text_tokens, dtype=torch.long, device="meta")
    counts = training_counts(model, lambda: torch.stack([output.sum() for output in model(pixels, ids)]).sum())
    return Step(
        name="train-encoder",
        unit="image",
        units=config.batch_size,
        num_steps=config.num_steps,
        parts=(part("encoder and heads", model, trained=True, muon=config.optimizer == "muon"),),
        flops=config.batch_size * counts.flops,
        activation_bytes=config.batch_size * counts.kept_bytes,
        low_weights=bf16,
        gathered=count(model),
    )


def encoder_flops(encoder: Encoder) -> float:
    """Return the operations of a frozen encoder on the meta device for one image."""
    return forward_flops(lambda: encoder(_pixels(encoder)))


def own_rows_flops(encoder: Encoder) -> float:
    """Return the operations of what each patch shows before attention, for one image."""
    return forward_flops(lambda: encoder.own_rows(_pixels(encoder)))


def merger_counts(merger: Merger, shape: TokenizerConfig) -> Counts:
    """Return what training a merger on the meta device takes for one image."""
    features = _zeros(merger, 1, shape.num_patches, shape.feature_dim)
    return training_counts(merger, lambda: merger(features, _keep(shape)).sum())


def decoder_flops(decoder: FeatureDecoder, shape: TokenizerConfig) -> float:
    """Return the operations of a frozen feature decoder on the meta device for one image."""
    counts = _keep(shape).sum(dim=1)
    return forward_flops(lambda: decoder(_zeros(decoder, int(counts), shape.code_dim), counts))


def tokenizer_step(config: TrainTokenizerConfig, phase: Phase, encoder: Encoder, *, cached: bool) -> Step:
    """Return one phase of `train-tokenizer` as a step; `cached`: the encoder's features were computed before."""
    shape, bf16 = shape_for(config.model, encoder), config.precision == "bf16"
    network = tokenizer_on_meta_device(shape)
    trained = trained_parts(network, phase, muon=config.optimizer == "muon")
    parts = [part("encoder", encoder)]
    for name in ("selector", "merger", "encode_task_layer", "decoder"):
        muon = name in trained and trained[name].muon_lr is not None
        parts.append(part(PART_NAMES.get(name, name), getattr(network, name), trained=name in trained, muon=muon))
    network.merger.to(torch.bfloat16 if bf16 else torch.float32)
    network.decoder.to(torch.bfloat16 if bf16 else torch.float32)
    counts = _phase_counts(network, phase, recompute=False)
    if config.gradient_checkpointing:
        checkpointed = _phase_counts(network, phase, recompute=True)
        counts = with_recomputed_block(checkpointed, counts, shape.merger_layers + shape.decoder_layers)
    frozen_flops = 0.0 if cached else encoder_flops(encoder)
    if phase.evidence == "own":
        frozen_flops += own_rows_flops(encoder)
    return Step(
        name=phase.name,
        unit="image",
        units=phase.batch_size,
        num_steps=phase.num_steps,
        parts=tuple(parts),
        flops=phase.batch_size * (counts.flops + frozen_flops)
        - (phase.batch_size - config.accumulate_steps) * _shared_flops(network),
        activation_bytes=phase.batch_size / config.accumulate_steps * counts.kept_bytes,
        low_weights=bf16,
        gathered=count(network),
    )


def _phase_counts(network: VisualTokenizer, phase: Phase, *, recompute: bool) -> Counts:
    network.merger.recompute = network.decoder.recompute = recompute

    def counts(*, merge: bool) -> Counts:
        return training_counts(network, functools.partial(_phase_loss, network, phase, merge=merge))

    if phase.merger != "mixed":
        return counts(merge=phase.merger == "on")
    merged, plain = counts(merge=True), counts(merge=False)
    return Counts(flops=(merged.flops + plain.flops) / 2, kept_bytes=max(merged.kept_bytes, plain.kept_bytes))


def _shared_flops(network: VisualTokenizer) -> float:
    """Return the operations that one image does for all of a pass: its queries attend before they have read codes."""
    first, queries_PD = network.decoder.blocks[0], network.decoder.query_embed
    assert isinstance(first, DecoderBlock)
    bounds = torch.tensor([0, len(queries_PD)])
    return training_counts(network, lambda: first.self_attn(queries_PD, bounds, causal=False).sum()).flops


def _phase_loss(network: VisualTokenizer, phase: Phase, *, merge: bool) -> Tensor:
    """Return a loss of one image through the modules that a step passes, in the formulation of its phase."""
    shape = network.config
    x_BPD, keep_BP = torch.zeros(1, shape.num_patches, shape.feature_dim, device="meta"), _keep(shape)
    log_keep = network.selector.log_probabilities(x_BPD)
    low = _zeros(network.merger, *x_BPD.shape)
    masked = phase.selection == "gumbel"
    mask = gumbel_mask(log_keep, torch.zeros_like(log_keep), 1.0)
    if masked:
        rows = network.merger.forward_masked(low, mask) if merge else network.merger.norm(low)
    else:
        rows = network.merger(low, keep_BP) if merge else network.merger.norm(low)[keep_BP]
    z = network.project(rows.float())
    if phase.quantise:
        sizes = network.quantizer.sizes
        books = network.quantizer.codebook.split(sizes)
        for half, book in zip(z.detach().chunk(len(sizes), dim=-1), books, strict=True):
            (half @ book.T).argmax(dim=-1)
    z = z.view(1, -1, shape.code_dim).to(low.dtype)
    if masked:
        return network.decoder.forward_masked(z, mask).float().sum()
    return network.decoder(z[0], keep_BP.sum(dim=1)).float().sum()


def _keep(shape: TokenizerConfig) -> Tensor:
    """Return the mask bool [1, P] of an image of which the wanted share is kept."""
    return (torch.arange(shape.num_patches) < round(shape.keep_ratio * shape.num_patches))[None]


def _pixels(encoder: Encoder) -> Tensor:
    px = encoder.preprocessing.image_px
    return torch.zeros(1, 3, px, px, device="meta")


def _zeros(module: nn.Module, *shape: int) -> Tensor:
    return torch.zeros(*shape, device="meta", dtype=next(module.parameters()).dtype)
