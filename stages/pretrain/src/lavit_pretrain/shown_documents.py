"""Training documents of a few images as a person reads them: pieces of text, special tokens, and what is scored.

They are made by `documents.py` out of a token directory, as those of a training are.
"""

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
from lavit_core.seeds import derive_seed
from lavit_core.tokens import Manifest, TokenSample, open_tokens, write_manifest, write_shard
from transformers import PreTrainedTokenizerBase

from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.corpus import fitting_questions
from lavit_pretrain.documents import Asked, Corpus, Document, DocumentSource
from lavit_pretrain.text_tokenizer import TextCodec, load_text_tokenizer, train_text_tokenizer
from lavit_pretrain.vocabulary import END_IMG, IMG, Vocabulary, register


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
    """One token of a document."""

    text: str
    """The letters it adds to the text; of special tokens their name, of codes their number."""
    kind: Literal["text", "special", "code"]
    weight: float
    """Weight of its prediction in the loss; 0 if it is only read."""
    hidden: bool = False
    """Whether the model reads the end token in its place (`caption_word_drop`)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShownDocument:
    """A document of one kind (`documents.KINDS`), token by token."""

    kind: str
    pieces: tuple[Piece, ...]
    continuous: bool
    """Whether the model reads continuous rows where the codes stand."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DocumentText:
    """The text tokenizer of documents, and the ids of text, brackets and codes."""

    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary
    codec: TextCodec


def open_document_text(
    llm: Path | None, texts: Sequence[str], config: PretrainConfig, codebook_size: int
) -> DocumentText:
    """Return the text tokenizer of the language model directory `llm`, or the one that a training learns from `texts`.

    Raises InputError if `llm` has none.
    """
    tokenizer = load_text_tokenizer(llm) if llm else train_text_tokenizer(texts, config.llm.text_vocab_size)
    vocabulary = Vocabulary(text_vocab=register(tokenizer), codebook_size=codebook_size)
    return DocumentText(tokenizer=tokenizer, vocabulary=vocabulary, codec=TextCodec(tokenizer, config.max_text_tokens))


def show_documents(
    text: DocumentText,
    samples: Sequence[TokenSample],
    manifest: Manifest,
    asked: Mapping[int, Sequence[Asked]],
    config: PretrainConfig,
    seed: int,
) -> list[list[ShownDocument]]:
    """Return for each image its documents, one of each kind that the mix has a share of.

    `manifest` has the settings of the token directory that the samples would lie in; `asked` has questions by the place
    of their image, and those too long for a training are left out.
    """
    with tempfile.TemporaryDirectory(prefix="lavit-documents-") as name:
        folder = Path(name)
        shard = write_shard(
            folder,
            "shard-000000.safetensors",
            samples,
            codebook_size=manifest.codebook_size,
            grid=manifest.grid,
        )
        write_manifest(folder, manifest.model_copy(update={"shards": (shard,)}))
        corpus = Corpus(reader=open_tokens(folder), questions=fitting_questions(asked, text.codec)[0], text=())
        source = DocumentSource(corpus, text.vocabulary, text.codec, config, seed)
        rng = np.random.default_rng(derive_seed(seed, "shown documents"))
        shown: list[list[ShownDocument]] = [[] for _ in samples]
        for kind, quota in source.quotas.items():
            images = source.asked if kind == "questions" else np.arange(len(samples))
            if quota:
                for image, document in zip(images, source.about(kind, images, rng), strict=True):
                    shown[int(image)].append(_shown(document, text))
    return shown


def _shown(document: Document, text: DocumentText) -> ShownDocument:
    hidden = np.zeros(len(document), dtype=bool)
    if document.read_tail is not None:
        tail = len(document) - len(document.read_tail)
        hidden[tail:] = document.read_tail != document.ids[tail:]
    pieces = [
        Piece(text=piece, kind=kind, weight=float(weight), hidden=bool(unseen))
        for (piece, kind), weight, unseen in zip(spell(document.ids, text), document.weights, hidden, strict=True)
    ]
    return ShownDocument(kind=document.kind, pieces=tuple(pieces), continuous=bool(document.images))


def spell(ids: np.ndarray, text: DocumentText) -> Iterator[tuple[str, Literal["text", "special", "code"]]]:
    """Yield what each id adds to a document, and its kind; equal ids may add other letters after other ids."""
    vocabulary, special = text.vocabulary, set(text.tokenizer.all_special_ids)
    waiting: list[int] = []
    for value in [*ids.tolist(), None]:
        if value is not None and value < vocabulary.text_vocab and value not in special:
            waiting.append(value)
            continue
        for piece in _pieces(waiting, text.tokenizer):
            yield piece, "text"
        waiting = []
        if value is None:
            return
        if value >= vocabulary.first_code:
            yield str(value - vocabulary.first_code), "code"
        elif value >= vocabulary.text_vocab:
            yield (IMG if value == vocabulary.img else END_IMG), "special"
        else:
            yield str(text.tokenizer.convert_ids_to_tokens(value)), "special"


def _pieces(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """Yield the letters that each id adds; an id that ends inside a letter has its own name of the vocabulary."""
    before = ""
    for place, prefix in enumerate(accumulate([one] for one in ids)):
        whole = str(tokenizer.decode(prefix, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        added = whole[len(before) :] if whole.startswith(before) else ""
        yield added if added and "\ufffd" not in added else str(tokenizer.convert_ids_to_tokens(ids[place]))
        # A letter of several bytes is whole with its last id.
        before = whole.rstrip("\ufffd")
