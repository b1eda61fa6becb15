"""Cost of a step of `lavit pretrain`, as torch counts it for one document of mean length on the meta device."""

import dataclasses
from typing import Any

import torch
from lavit_core.errors import InputError
from lavit_tokenizer.api import Encoder, TokenizerConfig, encoder_flops, merger_counts, new_merger
from lavit_trainkit.cost import Step, count, part, units_that_fit
from lavit_trainkit.flops import Counts, training_counts, with_recomputed_block
from lavit_trainkit.parallel import layers_of
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lavit_pretrain.attention import (
    CannotPackError,
    decoder_of,
    disable_dropout,
    document_bounds,
    document_states,
    recompute_layers,
    use_packed,
    use_padded,
)
from lavit_pretrain.chunked_cross_entropy import chunk_rows
from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.documents import shares_with_input
from lavit_pretrain.head import head_of
from lavit_pretrain.quantised_base import bytes_of_frozen

QUESTION_TOKENS, ANSWER_TOKENS = 16, 3
"""Approximate tokens of a question in its prompt, and of an answer with its end."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Documents:
    """Contents of a packed step on average."""

    length: float
    """Tokens of a document."""
    scored: float
    """Share of the tokens that are scored."""
    images_read: float
    """Images in front of a text, for each token."""
    read_rows: float
    """Rows of such images, for each token."""


def expected_documents(
    config: PretrainConfig, *, mean_codes: float, caption: float, questions: bool, text: bool
) -> Documents:
    """Return the contents of a step from the mix and the mean lengths of images (codes) and captions (tokens)."""
    sees = config.image_input != "none"
    image = mean_codes + 2 if sees else 1.0
    words = (1 - config.caption_drop) * caption
    scored_image = mean_codes if config.i2t_image_loss and sees else 0.0
    asked = config.questions_per_document * (QUESTION_TOKENS + ANSWER_TOKENS)
    answers = asked if config.question_text_loss else config.questions_per_document * ANSWER_TOKENS
    # Kind: length, scored tokens, images read.
    kinds = {
        "text_to_image": (words + image, mean_codes + 1 + (words if config.t2i_text_loss else 0.0), 0.0),
        "image_to_text": (image + caption + 1, caption + 1 + scored_image, float(sees)),
        "questions": (image + asked, answers + scored_image, float(sees)),
        "text": (float(config.max_text_tokens), float(config.max_text_tokens), 0.0),
    }
    shares = shares_with_input(config, images=True, questions=questions, text=text)
    total = sum(shares.values()) or 1.0
    tokens = sum(shares[kind] * length for kind, (length, _, _) in kinds.items()) or 1.0
    read = sum(shares[kind] * images for kind, (_, _, images) in kinds.items())
    return Documents(
        length=tokens / total,
        scored=sum(shares[kind] * scored for kind, (_, scored, _) in kinds.items()) / tokens,
        images_read=read / tokens,
        read_rows=read * mean_codes / tokens,
    )


def pretrain_step(
    config: PretrainConfig, llm: Any, shape: TokenizerConfig, documents: Documents, *, encoder: Encoder | None = None
) -> Step:
    """Return a step of a language model, and of the encoder it sees by (live), that are on the meta device."""
    passed = config.tokens_per_step
    tokens, low = passed * config.accumulate_steps, config.precision == "bf16"
    counts = _llm_counts(config, llm.to(torch.bfloat16 if low else torch.float32), documents)
    # Sharded weights stay in fp32: this is what one device, or each replica, holds.
    frozen_bytes = 2.0 if low else 4.0
    own_bytes = bytes_of_frozen(llm, config.lora.bits, frozen_bytes)
    muon, bits = config.optimizer == "muon", config.moment_bits
    parts = [part("llm", llm, trained=True, muon=muon, moment_bits=bits, frozen_bytes=own_bytes)]
    flops, kept = tokens / documents.length * counts.flops, passed / documents.length * counts.kept_bytes
    vocabulary, width = map(int, head_of(llm).weight_VD.shape)
    rest = 0
    if config.image_input in ("features", "live"):
        with torch.device("meta"):
            projector = nn.Linear(shape.feature_dim, width)
        rows = torch.zeros(1, shape.feature_dim, device="meta")
        row = training_counts(projector, lambda: projector(rows).sum())
        parts.append(part("projector", projector, trained=True, moment_bits=bits))
        flops += tokens * documents.read_rows * row.flops
        kept += passed * documents.read_rows * row.kept_bytes
    if encoder is not None:
        with torch.device("meta"):
            merger = new_merger(shape)
        image = merger_counts(merger, shape)
        parts += [part("encoder", encoder), part("merger", merger, trained=True, moment_bits=bits)]
        flops += tokens * documents.images_read * (encoder_flops(encoder) + image.flops)
        kept += passed * documents.images_read * image.kept_bytes
        rest = count(merger)
    blocks = [count(layer) for layer in layers_of(decoder_of(llm))]
    scored = min(chunk_rows(vocabulary), passed * documents.scored)
    return Step(
        name="pretrain",
        unit="token",
        units=tokens,
        num_steps=config.num_steps,
        parts=tuple(parts),
        flops=flops,
        activation_bytes=kept,
        low_weights=low,
        low_gradients=low,
        # Weights and gradients in the precision that computes, and gradients as they are summed, in fp32.
        gathered_bytes=2 * (2.0 if low else 4.0) + 4.0,
        gathered=max(blocks) + count(llm) - sum(blocks) + rest,
        workspace_bytes=_workspace_bytes(config, scored, vocabulary, width),
    )


def tokens_on_a_small_card(config: PretrainConfig, llm: Any, step: Step) -> int:
    """Return the largest `tokens_per_step` with which a step fits one card of 24 GB (`lavit_trainkit.cost`), 0 if none.

    `step` is what `pretrain_step` gave for the same settings and network.
    """
    vocabulary, width = map(int, head_of(llm).weight_VD.shape)
    workspace_bytes = _workspace_bytes(config, chunk_rows(vocabulary), vocabulary, width)
    return units_that_fit(dataclasses.replace(step, workspace_bytes=workspace_bytes), config.tokens_per_step)


def _workspace_bytes(config: PretrainConfig, scored: float, vocabulary: int, width: int) -> float:
    """Log-probabilities, their gradient in low precision, and the gradient of the head in fp32; with LoRA also the
    tables that are joined for the pass."""
    low = config.precision == "bf16"
    tables = (1 + bool(config.lora.rank)) * 4.0 * vocabulary * width
    return scored * vocabulary * (10 if low else 12) + tables


def _llm_counts(config: PretrainConfig, llm: Any, documents: Documents) -> Counts:
    """Return what training the language model takes for one document."""
    length = max(1, round(documents.length))
    scored, layers = max(1, round(length * documents.scored)), layers_of(decoder_of(llm))
    use_packed(llm)
    disable_dropout(llm)
    recompute_layers(llm, again=False)  # which an earlier count may have left on
    llm.train()

    def logits() -> Tensor:
        rows = llm.get_input_embeddings()(torch.zeros(length, dtype=torch.long, device="meta"))
        positions = torch.arange(length, device="meta")
        hidden = document_states(decoder_of(llm), rows, positions, document_bounds([length]))
        return llm.get_output_embeddings()(hidden[:scored]).sum()

    def counted() -> Counts:
        with parametrize.cached():  # LoRA's tables are joined once a pass, not for each document
            return training_counts(llm, logits, tables=[llm.get_output_embeddings().weight])

    try:
        try:
            counts = counted()
        except CannotPackError:
            use_padded(llm)
            counts = counted()
        if config.gradient_checkpointing:
            recompute_layers(llm)
            counts = with_recomputed_block(counted(), counts, len(layers))
    except RuntimeError as error:  # some mixtures of experts look at values, which the meta device has none of
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"--llm: costs of a {llm.config.model_type} model can't be counted without its weights ({reason}); "
            "run without --dry-run"
        ) from None
    return counts
