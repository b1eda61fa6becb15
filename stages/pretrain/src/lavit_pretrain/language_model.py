"""The language model with visual rows, the projector of continuous image rows, and (live) its own copy of the merger.

On disk it is a plain transformers directory: `AutoModelForCausalLM` and `AutoTokenizer` load it. Beside it lie
`visual.json` (vocabulary, how images are shown) and `visual.safetensors` (projector and merger).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from lavit_core.errors import InputError
from lavit_core.files import read_json, write_json
from lavit_core.modeldir import check_made_with, find_part
from lavit_core.token_format import MAX_CODEBOOK
from lavit_trainkit.device import pick_device
from lavit_trainkit.external_weights import load_strictly
from lavit_trainkit.onednn import arrange_linears, frozen_linears, unarrange_linears
from lavit_trainkit.precision import choose_precision, dtype_of
from lavit_trainkit.pretrained import WEIGHT_STEMS, load_pretrained, quiet_transformers
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from lavit_pretrain.attention import decoder_of, use_padded
from lavit_pretrain.config import LlmShape
from lavit_pretrain.head import Head, head_of
from lavit_pretrain.sequence import TokenizedPrompt
from lavit_pretrain.text_tokenizer import TextCodec, load_text_tokenizer, train_text_tokenizer
from lavit_pretrain.vocabulary import IMG, Vocabulary, register

VISUAL_CONFIG_FILE, VISUAL_FILE = "visual.json", "visual.safetensors"
MOST_ARRANGED_BYTES = 2_000_000_000
"""Weights beyond this are not held twice."""

Whole = Annotated[int, Field(strict=True, ge=0, le=MAX_CODEBOOK)]
Side = Annotated[int, Field(strict=True, ge=1, le=1 << 16)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisualConfig:
    """Contents of visual.json: enough to sample codes and write them as token files without the tokenizer at hand."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    image_input: Annotated[str, Field(pattern="^(codes|features|live|none)$")]
    text_vocab: Whole
    codebook_size: Whole
    feature_dim: Annotated[int, Field(strict=True, ge=0, le=1 << 16)]
    grid: tuple[Side, Side]
    preprocessing: dict[str, Any]
    tokenizer_digest: str
    code_range: tuple[Whole, Whole]
    """Fewest and most codes of an image in the training data."""


class LanguageModel(nn.Module):
    """A transformers causal language model over text and visual ids, with its projector and merger of images."""

    def __init__(
        self, llm: PreTrainedModel, text: PreTrainedTokenizerBase, visual: VisualConfig, merger: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.llm, self.text, self.visual = llm, text, visual
        self.codec = TextCodec(text)
        self.vocabulary = Vocabulary(text_vocab=visual.text_vocab, codebook_size=visual.codebook_size)
        continuous = visual.image_input in ("features", "live")
        width = int(self.head_VD.shape[1])
        self.projector = nn.Linear(visual.feature_dim, width) if continuous else None
        self.merger = merger
        self._arranged_heads: dict[tuple[int, int | None], Head] | None = None

    @property
    def image_input(self) -> str:
        """How the model reads images: codes, features, live or none."""
        return self.visual.image_input

    @property
    def blind_eos(self) -> int | None:
        """The `<eos>` that a model trained without images reads where an image would be; None for others."""
        return self.codec.eos if self.image_input == "none" else None

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.llm.device

    @property
    def precision(self) -> str:
        """Precision of the weights: fp32 or bf16."""
        return "fp32" if self.llm.dtype == torch.float32 else "bf16"

    @property
    def decoder(self) -> nn.Module:
        """The transformer without its head; gives hidden states."""
        return decoder_of(self.llm)

    @property
    def head(self) -> Head:
        """The head that text and codes share."""
        return head_of(self.llm)

    def head_of_ids(self, start: int, end: int | None = None) -> Head:
        """Return the head of the ids from `start` to before `end` alone."""
        if self._arranged_heads is None:
            return self.head.rows(start, end)
        if (start, end) not in self._arranged_heads:
            self._arranged_heads[start, end] = self.head.rows(start, end).arranged()
        return self._arranged_heads[start, end]

    def arrange(self) -> "LanguageModel":
        """Hold frozen weights a second time as this processor multiplies a few rows by them fastest; return itself.

        For models that draw and write and do nothing else: weights that are changed through `.data` afterwards, as by a
        merge of adapters, are not seen. Models of more than 2 GB stay as they are.
        """
        # The head's rows are held for each range of ids that is asked for: codes, text, text and [IMG].
        held = sum(layer.weight.nbytes for layer in frozen_linears(self.decoder)) + 2 * self.head_VD.nbytes
        if held <= MOST_ARRANGED_BYTES:
            arrange_linears(self.decoder)
            self._arranged_heads = {}
        return self

    def unarrange(self) -> "LanguageModel":
        """Take `arrange` back: whatever is done to the weights from now on is seen; return itself."""
        unarrange_linears(self.decoder)
        self._arranged_heads = None
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied and pickled: weights once."""
        return {**vars(self), "_arranged_heads": None}

    @property
    def head_VD(self) -> Tensor:
        """Rows of the head."""
        return self.head.weight_VD

    def embed(self, ids_T: Tensor, image_rows_F: Tensor | None = None, features_FD: Tensor | None = None) -> Tensor:
        """Return input embeddings [T, H]: table rows, and projected features at the positions `image_rows_F`."""
        rows_TH = self.llm.get_input_embeddings()(ids_T)
        if features_FD is None or image_rows_F is None or image_rows_F.numel() == 0:
            return rows_TH
        assert self.projector is not None, "features given to a model without projector"
        projected_FH = self.projector(features_FD.to(self.projector.weight.dtype))
        return rows_TH.index_copy(0, image_rows_F, projected_FH.to(rows_TH.dtype))

    def embed_prompt(self, prompt: TokenizedPrompt) -> Tensor:
        """Return the input embeddings [n, H] of a prompt, on the model's device."""
        ids = torch.from_numpy(prompt.ids).to(self.device)
        if prompt.features is None:
            return self.embed(ids)
        places, features = torch.from_numpy(prompt.places), torch.from_numpy(prompt.features)
        return self.embed(ids, places.to(self.device), features.to(self.device))

    def visual_parts(self) -> dict[str, nn.Module]:
        """Projector and merger, where present."""
        parts = {"projector": self.projector, "merger": self.merger}
        return {name: part for name, part in parts.items() if part is not None}

    def save(self, folder: Path) -> None:
        """Write the directory described above; the weights keep their dtype."""
        with quiet_transformers():
            self.llm.save_pretrained(folder)
        self.text.save_pretrained(folder)
        write_json(folder / VISUAL_CONFIG_FILE, dataclasses.asdict(self.visual))
        if state := nn.ModuleDict(self.visual_parts()).state_dict():
            save_file({name: value.cpu().contiguous() for name, value in state.items()}, folder / VISUAL_FILE)


def build_llm(
    shape: LlmShape, source: Path | None, texts: Sequence[str], codebook_size: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Vocabulary]:
    """Return a language model with rows for the visual ids: a new LLaMA of `shape`, or the one in `source`.

    A `source` that has them (imported weights, an earlier run) keeps what it learned. New rows are drawn by the model's
    own initialiser (seed torch before). Raises InputError if `source` is not a causal language model.
    """
    text = train_text_tokenizer(texts, shape.text_vocab_size) if source is None else load_text_tokenizer(source)
    has_brackets = IMG in text.get_added_vocab()
    vocabulary = Vocabulary(text_vocab=register(text), codebook_size=codebook_size)
    if source is None:
        return LlamaForCausalLM(llama_config(shape, vocabulary.total, text)), text, vocabulary
    llm = load_causal_lm(source, torch.float32)
    rows = int(cast(Tensor, llm.get_input_embeddings().weight).shape[0])
    if rows < vocabulary.text_vocab:
        raise InputError(
            f"{source}: the tokenizer has {vocabulary.text_vocab} ids, the model only {rows} embedding rows"
        )
    if has_brackets and rows == vocabulary.total:
        return llm, text, vocabulary
    # Some models pad their table past the tokenizer; those rows go, so that visual ids start right after the text.
    llm.resize_token_embeddings(vocabulary.text_vocab, mean_resizing=False)
    llm.resize_token_embeddings(vocabulary.total, mean_resizing=False)
    return llm, text, vocabulary


def has_codes(source: Path, vocabulary: Vocabulary) -> bool:
    """Return whether a language model folder brings rows for just these codes (imported weights, an earlier run)."""
    file = source / VISUAL_CONFIG_FILE
    if not file.exists():
        return False
    visual = read_json(file)
    return (visual.get("text_vocab"), visual.get("codebook_size")) == (vocabulary.text_vocab, vocabulary.codebook_size)


def llama_config(shape: LlmShape, vocab_size: int, text: PreTrainedTokenizerBase | None = None) -> LlamaConfig:
    """Return the transformers configuration of a new model."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.max_positions,
        initializer_range=shape.initializer_range,
        tie_word_embeddings=shape.tie_embeddings,
        bos_token_id=None,
        eos_token_id=text.eos_token_id if text is not None else None,
        pad_token_id=text.pad_token_id if text is not None else None,
    )


def load_causal_lm(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Return the causal language model of a transformers directory. Raises InputError if it is missing or damaged."""
    if not (folder / "config.json").exists():
        raise InputError(f"{folder}: no config.json here, expected a transformers directory of a causal language model")
    llm: PreTrainedModel = load_pretrained(AutoModelForCausalLM, folder, what="causal language model", dtype=dtype)
    return llm


def learned_positions(llm: PreTrainedModel) -> int | None:
    """Return how many positions a language model with a learned table of them can read (GPT-2, OPT); None for others,
    whose rotary positions are computed for a document of any length."""
    tables = [module for module in llm.modules() if isinstance(module, nn.Embedding)]
    if all(table is llm.get_input_embeddings() for table in tables):
        return None
    return getattr(llm.config.get_text_config(), "max_position_embeddings", None)


def read_visual_config(model: Path) -> VisualConfig:
    """Return the contents of a model directory's visual.json, without loading the language model.

    Raises InputError if the file is missing or another kind of file.
    """
    file = find_part(model, "llm") / VISUAL_CONFIG_FILE
    try:
        return TypeAdapter(VisualConfig).validate_python(read_json(file))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{file}: not what `lavit pretrain` writes ({place}: {first['msg']})") from None


def load_llm(model: Path, *, device: str = "auto", precision: str = "auto") -> LanguageModel:
    """Return the language model of a model directory, ready to read and write (eval mode, frozen).

    `precision` of its weights: fp32, bf16, or auto, which is as stored (imported weights: bf16); merger and projector
    stay in fp32. Raises InputError if llm/ is missing, damaged, or trained with another tokenizer.
    """
    folder = find_part(model, "llm")
    check_made_with(model, "llm")
    visual = read_visual_config(model)
    merger = None
    if visual.image_input == "live":
        from lavit_tokenizer.api import merger_on_meta_device

        merger = merger_on_meta_device(model).to_empty(device="cpu")
    place = pick_device(device)
    llm = load_causal_lm(folder, dtype_of(choose_precision(precision, folder, WEIGHT_STEMS, kind=place.type)))
    total = Vocabulary(text_vocab=visual.text_vocab, codebook_size=visual.codebook_size).total
    if (rows := int(cast(Tensor, llm.get_input_embeddings().weight).shape[0])) != total:
        file = folder / VISUAL_CONFIG_FILE
        raise InputError(f"{file}: text and codes have {total} ids, but the model {rows} rows; copy the model again")
    loaded = LanguageModel(llm, load_text_tokenizer(folder), visual, merger)
    parts = nn.ModuleDict(loaded.visual_parts())
    if parts:
        load_strictly(parts, folder / VISUAL_FILE)
    use_padded(loaded.llm)
    return loaded.to(place).requires_grad_(False).eval()
