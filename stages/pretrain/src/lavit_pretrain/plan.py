"""Contents of `lavit pretrain --dry-run`: sizes on torch's meta device and the cost of a step, without weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lavit_core.errors import InputError
from lavit_core.modeldir import find_part
from lavit_core.tokens import TokenReader, open_token_sources
from lavit_tokenizer.api import Encoder, TokenizerConfig, planned_encoder, read_tokenizer_config
from lavit_trainkit.cost import cost_report, count
from lavit_trainkit.eight_bit import check_moment_bits
from lavit_trainkit.precision import with_precision

from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.cost import Documents, expected_documents, pretrain_step, tokens_on_a_small_card
from lavit_pretrain.language_model import VISUAL_CONFIG_FILE, llama_config
from lavit_pretrain.lora import add_lora, check_lora
from lavit_pretrain.quantised_base import check_bits

CHARACTERS_A_TOKEN = 4.0
"""Approximate, of English text in LLaMA's tokenizer."""
CAPTIONS_READ = 256
"""Captions behind the mean length."""
PUBLISHED_CODES, PUBLISHED_MEAN_CODES, ASSUMED_CAPTION = 16384, 94.0, 15.0
"""Assumptions where no tokens are given: the paper's codebook and codes an image, and tokens a caption."""


def plan(
    config: PretrainConfig,
    llm: Path | None,
    tokens: Sequence[Path] = (),
    model: Path | None = None,
    *,
    questions: bool = True,
    text: bool = True,
    device: str = "auto",
) -> dict[str, Any]:
    """Return what a run would do and cost; without tokens, on data like the paper's.

    Raises InputError if `tokens` are not token directories, or `llm` is not a language model.
    """
    # The card of 24 GB need not be here.
    card = config if config.precision != "auto" else config.model_copy(update={"precision": "bf16"})
    config = with_precision(config, device)
    check_lora(config, llm)
    check_bits(config)
    check_moment_bits(config.moment_bits, config.parallel)
    reader = open_token_sources(tokens, check_digests=False) if tokens else None
    codebook = PUBLISHED_CODES if reader is None else reader.manifest.codebook_size
    mean_codes = PUBLISHED_MEAN_CODES if reader is None else float(np.mean(reader.counts)) if len(reader) else 0.0
    caption = ASSUMED_CAPTION if reader is None else _caption_tokens(reader)
    documents = expected_documents(
        config, mean_codes=mean_codes, caption=min(caption, config.max_text_tokens), questions=questions, text=text
    )
    network = llm_on_meta_device(config, llm, codebook)
    shape, encoder = _tokenizer(config, reader, model)
    step = pretrain_step(config, network, shape, documents, encoder=encoder)
    fits = {}
    if config.lora.rank or config.moment_bits == 8:
        settings = {"tokens_per_step": card}
        if not card.gradient_checkpointing:
            settings["with_gradient_checkpointing"] = card.model_copy(update={"gradient_checkpointing": True})
        for name, one in settings.items():
            fitted = pretrain_step(one, network, shape, documents, encoder=encoder)
            fits[name] = tokens_on_a_small_card(one, network, fitted)
    return {
        "config": config.model_dump(mode="json"),
        "images": None if reader is None else len(reader),
        "mean_codes": mean_codes,
        "parameters": count(network),
        "tokens_per_step": config.tokens_per_step * config.accumulate_steps,
        "tokens": config.tokens_per_step * config.accumulate_steps * config.num_steps,
        "expected": _assumptions(documents, step.units),
        **({"fits_24_gb": fits} if fits else {}),
        "cost": cost_report([step]),
    }


def llm_on_meta_device(config: PretrainConfig, llm: Path | None, codebook: int) -> Any:
    """Return the language model as names and shapes alone. Raises InputError if `llm` is not a language model."""
    from transformers import AutoConfig, AutoModelForCausalLM

    if llm is None:
        shape = llama_config(config.llm, config.llm.text_vocab_size + 2 + codebook)
    else:
        try:
            shape = AutoConfig.from_pretrained(llm, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{llm}: not a language model ({' '.join(str(error).split())[:200]})") from None
        # Imported weights, and those of an earlier run, have the rows of the codes already.
        if not (llm / VISUAL_CONFIG_FILE).exists():
            shape.get_text_config().vocab_size += 2 + codebook
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(shape, trust_remote_code=False)
        if config.lora.rank:
            add_lora(network, config.lora, shape.get_text_config().vocab_size - 2 - codebook)
    return network


def _tokenizer(
    config: PretrainConfig, reader: TokenReader | None, model: Path | None
) -> tuple[TokenizerConfig, Encoder | None]:
    """Return the configuration of the tokenizer and, for live images, its encoder; without a model the paper's."""
    live = config.image_input == "live"
    if live and model is not None:
        folder = find_part(model, "tokenizer")
        return read_tokenizer_config(folder), planned_encoder(folder / "encoder")
    if live or reader is None:
        return TokenizerConfig(), planned_encoder(None) if live else None
    width = reader.manifest.feature_dim
    return TokenizerConfig() if width is None else TokenizerConfig(feature_dim=width), None


def _caption_tokens(reader: TokenReader) -> float:
    texts = reader.texts(np.arange(min(len(reader), CAPTIONS_READ)))
    lengths = [len(text) for own in texts for text in own]
    return float(np.mean(lengths)) / CHARACTERS_A_TOKEN if lengths else 0.0


def _assumptions(documents: Documents, tokens: int) -> dict[str, float]:
    """Return the assumptions about a step, rounded for people."""
    return {
        "tokens_per_document": round(documents.length, 1),
        "documents_per_step": round(tokens / documents.length, 1),
        "images_read_per_step": round(tokens * documents.images_read, 1),
        "scored_share": round(documents.scored, 3),
    }
