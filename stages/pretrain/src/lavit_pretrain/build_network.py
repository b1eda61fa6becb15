"""The network that `lavit pretrain` trains, before its first step, and the learning rates of its parts."""

import copy
from pathlib import Path

import torch
from lavit_core.tokens import TokenReader
from lavit_trainkit.device import seed_init
from lavit_trainkit.master_weights import working_copy
from lavit_trainkit.optimizers import Part
from lavit_trainkit.parallel import is_sharded, layers_of, parallelize
from lavit_trainkit.precision import dtype_of
from torch import nn

from lavit_pretrain.attention import disable_dropout, recompute_layers, use_packed
from lavit_pretrain.code_embedding_init import start_at_features
from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.corpus import all_texts
from lavit_pretrain.document_isolation import choose_attention
from lavit_pretrain.documents import Corpus
from lavit_pretrain.language_model import LanguageModel, VisualConfig, build_llm, has_codes
from lavit_pretrain.live_images import LiveImages
from lavit_pretrain.lora import add_lora
from lavit_pretrain.merger_and_projector import continue_visual
from lavit_pretrain.packed_loss import shared_loss
from lavit_pretrain.quantised_base import quantise_base


def build_network(
    config: PretrainConfig, reader: TokenReader, corpus: Corpus, source: Path | None, live: LiveImages | None, seed: int
) -> LanguageModel:
    """Return the network before training, its weights a function of the seed."""
    manifest = reader.manifest
    seed_init(seed, "pretrain")
    texts = all_texts(corpus) if source is None else []
    llm, text, vocabulary = build_llm(config.llm, source, texts, manifest.codebook_size)
    visual = VisualConfig(
        image_input=config.image_input,
        text_vocab=vocabulary.text_vocab,
        codebook_size=manifest.codebook_size,
        feature_dim=live.feature_dim if live is not None else manifest.feature_dim or 0,
        grid=manifest.grid,
        preprocessing=dict(manifest.preprocessing),
        tokenizer_digest=manifest.tokenizer_digest,
        code_range=(int(reader.counts.min()), int(reader.counts.max())),
    )
    merger = copy.deepcopy(live.tokenizer.merger).requires_grad_(True) if live is not None else None
    disable_dropout(llm)
    network = LanguageModel(llm, text, visual, merger)
    if source is None:
        use_packed(llm)
    else:
        choose_attention(network, source)
        continue_visual(network, source)
    starts = config.code_rows == "features" and config.image_input != "none"
    if starts and (source is None or not has_codes(source, vocabulary)):
        start_at_features(network, reader)
    if config.lora.rank:
        add_lora(llm, config.lora, vocabulary.text_vocab)
    if config.lora.bits is not None:
        quantise_base(llm, config.lora.bits)
    return network


def prepare(
    network: LanguageModel, config: PretrainConfig, live: LiveImages | None, device: torch.device
) -> tuple[LanguageModel, nn.Module]:
    """Put a network on its device or, under fsdp, its shards on their devices; build optimisers afterwards.

    Returns the copy that computes (in fp32, and under fsdp, the network itself), and the loss of a batch as a module
    whose backward pass sums the gradients over all processes.
    """
    dtype = dtype_of(config.precision)
    # Sharding moves block after block to the device: the whole may not fit there.
    working = network if is_sharded(config.parallel) else working_copy(network.to(device), dtype)
    if config.gradient_checkpointing:
        recompute_layers(working.llm)
    computed = parallelize(
        working,
        lambda net, batch: shared_loss(net, batch, live),
        parallel=config.parallel,
        device=device,
        blocks=layers_of(working.decoder),
        dtype=None if dtype == torch.float32 else dtype,
    )
    return working, computed


def trained_parts(network: LanguageModel, config: PretrainConfig) -> dict[str, Part]:
    """Return what is trained, with its rates: Muon holds matrices of the language model's own layers only."""
    muon_lr = config.muon_lr if config.optimizer == "muon" else None
    parts = {"llm": Part(module=network.llm, lr=config.llm_lr, muon_lr=muon_lr)}
    return parts | {name: Part(module=part, lr=config.visual_lr) for name, part in network.visual_parts().items()}
