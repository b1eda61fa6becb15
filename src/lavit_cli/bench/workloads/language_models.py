"""Language models of random weights with the published ids (32,000 of text, 16,384 codes), and texts for them."""

import dataclasses
from typing import Any

import torch
from lavit_pretrain.api import LanguageModel, LlmShape, VisualConfig, Vocabulary, llama_config, train_text_tokenizer
from lavit_trainkit.device import seed_init
from transformers import LlamaForCausalLM

from lavit_cli.bench.comparison import BenchSettings

WORDS = ("a", "the", "on", "red", "green", "blue", "small", "large", "dog", "cat", "house", "tree", "car", "under")
MAX_POSITIONS = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSize:
    """A LLaMA's shape and its ids."""

    width: int = 512
    layers: int = 6
    heads: int = 8
    mlp_dim: int = 1376
    text_vocab: int = 32_000
    codes: int = 16_384

    @property
    def vocabulary(self) -> Vocabulary:
        """Layout of the ids."""
        return Vocabulary(text_vocab=self.text_vocab, codebook_size=self.codes)

    @property
    def words(self) -> str:
        """The shape in words."""
        return f"width {self.width}, {self.layers} layers, {self.vocabulary.total:,} ids"

    def layer_flops(self, tokens: float) -> float:
        """Return the operations of tokens through the matrices of all layers, forward."""
        return 2 * tokens * self.layers * (4 * self.width**2 + 3 * self.width * self.mlp_dim)

    def head_flops(self, rows: float, ids: int | None = None) -> float:
        """Return the operations of rows through the head, or through its rows of `ids` ids, forward."""
        return 2 * rows * self.width * (ids or self.vocabulary.total)


SMALL = ModelSize()
FULL = ModelSize(width=4096, layers=8, heads=32, mlp_dim=11_008)
"""A quarter of LLaMA-7B's layers at their width: its optimiser's state fits one GPU."""


def random_llama(size: ModelSize, settings: BenchSettings) -> LlamaForCausalLM:
    """Return a model of random weights, equal for equal seeds, on the device."""
    seed_init(settings.seed, "bench", "llm")
    shape = LlmShape(
        hidden_size=size.width,
        num_layers=size.layers,
        num_heads=size.heads,
        intermediate_size=size.mlp_dim,
        max_positions=MAX_POSITIONS,
    )
    llm: Any = LlamaForCausalLM(llama_config(shape, size.vocabulary.total))
    return llm.to(settings.device)


def as_language_model(llm: LlamaForCausalLM, size: ModelSize) -> LanguageModel:
    """Return the model as this project's stages hold it."""
    text = train_text_tokenizer([" ".join(WORDS)] * 2, 400)
    visual = VisualConfig(
        image_input="codes",
        text_vocab=size.text_vocab,
        codebook_size=size.codes,
        feature_dim=0,
        grid=(16, 16),
        preprocessing={},
        tokenizer_digest="bench",
        code_range=(20, 200),
    )
    return LanguageModel(llm, text, visual)


def words_of(count: int, stream: torch.Generator) -> str:
    """Return a text of `count` words."""
    return " ".join(WORDS[i] for i in torch.randint(0, len(WORDS), (count,), generator=stream).tolist())
