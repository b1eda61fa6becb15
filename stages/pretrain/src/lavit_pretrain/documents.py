"""Training documents from token files, questions and plain text. Document d is a function of (seed, d) alone.

`sequence.py` has the order of text, image and questions in them.
Letters: n tokens of a document, F continuous image rows, D merger width.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from lavit_core.seeds import derive_seed, shuffled_batch
from lavit_core.tokens import TokenReader

from lavit_pretrain.chat import ChatTemplate
from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.sequence import blind_span, image_span, text_continuation, text_to_image
from lavit_pretrain.text_tokenizer import TextCodec
from lavit_pretrain.vocabulary import Vocabulary

KINDS = ("text_to_image", "image_to_text", "questions", "text")
BLOCK_DOCUMENTS = 256
"""Documents made together: one gather from the shards, and the exact shares of the mix."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """One sequence. `weights[i]` scores the prediction of `ids[i]` from the tokens before it."""

    ids: np.ndarray
    """int64 [n]; under continuous image rows lie the codes' ids, which serve as targets only."""
    read_tail: np.ndarray | None = None
    """int64 [k]: what the model reads in place of the last k ids, which are its targets; None: these ids."""
    weights: np.ndarray
    """float32 [n], 0 where nothing is scored."""
    image: tuple[int, int] | None = None
    """First and last-plus-one position whose input is a continuous image row instead of an id."""
    features: np.ndarray | None = None
    """float32 [F, D] rows for those positions (stored features); live documents have none."""
    sample: int = -1
    """Index of the image in the token reader, for live encoding."""
    kind: str = ""
    """Which of `KINDS` it is."""

    def __len__(self) -> int:
        return len(self.ids)


Asked = tuple[str, ...]
"""A question and its answer; in a conversation, the questions and answers before them come first."""


def turns_of(asked: Asked) -> list[tuple[str, str]]:
    """Return the turns of a question: (question, answer) of each, its own last."""
    return list(zip(asked[::2], asked[1::2], strict=True))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """Source of documents: images with captions, questions by image, lines of text."""

    reader: TokenReader
    questions: Mapping[int, Sequence[Asked]]
    """Questions with their answers, by index in the reader."""
    text: Sequence[str]


class DocumentSource:
    """The endless stream of documents of one run."""

    def __init__(
        self, corpus: Corpus, vocabulary: Vocabulary, codec: TextCodec, config: PretrainConfig, seed: int
    ) -> None:
        self.corpus, self.vocabulary, self.codec, self.config, self.seed = corpus, vocabulary, codec, config, seed
        self.chat = ChatTemplate(codec) if config.chat else None
        self.asked = np.array(sorted(corpus.questions), dtype=np.int64)
        self.quotas = document_quotas(
            config, num_images=len(corpus.reader), num_asked=len(self.asked), num_texts=len(corpus.text)
        )
        self._blocks: dict[int, list[Document]] = {}

    def document(self, number: int) -> Document:
        """Return document `number`."""
        block, place = divmod(number, BLOCK_DOCUMENTS)
        if block not in self._blocks:
            for old in [known for known in self._blocks if known < block - 1]:
                del self._blocks[old]
            self._blocks[block] = self._make_block(block)
        return self._blocks[block][place]

    def _make_block(self, block: int) -> list[Document]:
        rng = np.random.default_rng(derive_seed(self.seed, "documents", block))
        documents: list[Document] = []
        for kind, quota in self.quotas.items():
            if quota == 0:
                continue
            seed = derive_seed(self.seed, "order", kind)
            if kind == "text":
                lines = shuffled_batch(len(self.corpus.text), quota, block, seed)
                documents += [self._text(self.corpus.text[int(line)]) for line in lines]
            else:
                if kind == "questions":
                    images = self.asked[shuffled_batch(len(self.asked), quota, block, seed)]
                else:
                    images = shuffled_batch(len(self.corpus.reader), quota, block, seed)
                documents += self.about(kind, images, rng)
        return [documents[place] for place in rng.permutation(len(documents))]

    def about(self, kind: str, images: np.ndarray, rng: np.random.Generator) -> list[Document]:
        """Return one document of a kind (not text) about each of `images`; `questions` need images that have some."""
        make = {
            "text_to_image": self._text_to_image,
            "image_to_text": self._image_to_text,
            "questions": self._questions,
        }
        return make[kind](images, rng)

    def _text_to_image(self, images: np.ndarray, rng: np.random.Generator) -> list[Document]:
        codes, _ = self._codes_and_features(images, features=False)
        dropped = rng.random(len(images)) < self.config.caption_drop
        documents = []
        for image_codes, caption, drop in zip(codes, self._captions(images, rng), dropped, strict=True):
            text = np.empty(0, np.int64) if drop or caption is None else self.codec.encode(caption)
            ids = text_to_image(self.vocabulary, text, image_codes)
            weights = np.full(len(ids), self.config.image_loss_weight, np.float32)
            # [IMG] after a caption is scored with the caption: it ends the text.
            weights[: len(text) + 1] = self.config.text_loss_weight if self.config.t2i_text_loss else 0.0
            weights[0] = 0.0
            documents.append(Document(ids=ids, weights=weights, kind="text_to_image"))
        return documents

    def _image_to_text(self, images: np.ndarray, rng: np.random.Generator) -> list[Document]:
        captions = self._captions(images, rng)
        tails, read = [], []
        for caption in captions:
            text = np.empty(0, np.int64) if caption is None else self.codec.encode(caption)
            ids = text_continuation(text, self.codec.eos)
            tails.append((ids, np.full(len(ids), self.config.text_loss_weight, np.float32)))
            if self.config.caption_word_drop:
                read.append(np.where(rng.random(len(ids)) < self.config.caption_word_drop, self.codec.eos, ids))
        documents = self._after_images(images, tails, "image_to_text")
        if not read:
            return documents
        return [dataclasses.replace(document, read_tail=tail) for document, tail in zip(documents, read, strict=True)]

    def _conversations(self, images: np.ndarray, rng: np.random.Generator) -> list[Document]:
        befores, tails = [], []
        for image in images:
            asked = self.corpus.questions[int(image)]
            assert self.chat is not None
            before, prompt, reply = self.chat.turns(turns_of(asked[int(rng.integers(len(asked)))]))
            weights = np.zeros(len(prompt) + len(reply), np.float32)
            weights[len(prompt) :] = self.config.text_loss_weight
            befores.append(before)
            tails.append((np.concatenate([prompt, reply]), weights))
        return self._after_images(images, tails, "questions", befores)

    def _questions(self, images: np.ndarray, rng: np.random.Generator) -> list[Document]:
        if self.config.chat:
            return self._conversations(images, rng)
        tails = []
        for image in images:
            asked = self.corpus.questions[int(image)]
            chosen = rng.permutation(len(asked))[: self.config.questions_per_document]
            parts, weights = [], []
            for place in chosen:
                asked_weight = self.config.text_loss_weight if self.config.question_text_loss else 0.0
                turns = turns_of(asked[place])
                for number, turn in enumerate(turns, 1):
                    prompt, answer = self.codec.question(*turn)
                    parts += [prompt, answer]
                    # Earlier turns are what the last one is asked after: each is scored as a question of its own.
                    own = float(number == len(turns))
                    weights.append(np.full(len(prompt), own * asked_weight, np.float32))
                    weights.append(np.full(len(answer), own * self.config.text_loss_weight, np.float32))
            tails.append((np.concatenate(parts), np.concatenate(weights)))
        return self._after_images(images, tails, "questions")

    def _after_images(
        self,
        images: np.ndarray,
        tails: Sequence[tuple[np.ndarray, np.ndarray]],
        kind: str,
        befores: Sequence[np.ndarray] | None = None,
    ) -> list[Document]:
        """Return documents: what stands before each image, the image, and its tail (ids and weights)."""
        image_input = self.config.image_input
        befores = befores or [np.empty(0, np.int64)] * len(tails)
        if image_input == "none":
            # Blind: the end token stands in for the image, so that a caption has something to follow.
            blind = blind_span(self.codec.eos)
            return [
                Document(
                    ids=np.concatenate([before, blind, ids]),
                    weights=np.concatenate([np.zeros(len(before) + 1, np.float32), weights]),
                    kind=kind,
                )
                for before, (ids, weights) in zip(befores, tails, strict=True)
            ]
        codes, features = self._codes_and_features(images, features=image_input == "features")
        image_weight = self.config.image_loss_weight if self.config.i2t_image_loss else 0.0
        documents = []
        for place, (image_codes, (tail, tail_weights)) in enumerate(zip(codes, tails, strict=True)):
            span, first = image_span(self.vocabulary, image_codes), len(befores[place]) + 1
            shown = np.full(len(span), image_weight, np.float32)
            weights = np.concatenate([np.zeros(first - 1, np.float32), shown, tail_weights])
            documents.append(
                Document(
                    ids=np.concatenate([befores[place], span, tail]),
                    weights=_first_unscored(weights),
                    image=None if image_input == "codes" else (first, first + len(image_codes)),
                    features=features[place] if features is not None else None,
                    sample=int(images[place]),
                    kind=kind,
                )
            )
        return documents

    def _text(self, line: str) -> Document:
        ids = text_continuation(self.codec.encode(line), self.codec.eos)
        weights = _first_unscored(np.full(len(ids), self.config.text_loss_weight, np.float32))
        return Document(ids=ids, weights=weights, kind="text")

    def _captions(self, images: np.ndarray, rng: np.random.Generator) -> list[str | None]:
        """Return one caption of each image, drawn evenly; None for an image without captions."""
        draws = rng.random(len(images))
        texts = self.corpus.reader.texts(images)
        return [own[int(draw * len(own))] if own else None for own, draw in zip(texts, draws, strict=True)]

    def _codes_and_features(
        self, images: np.ndarray, *, features: bool
    ) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
        values, counts = self.corpus.reader.codes(images)
        bounds = np.cumsum(counts)[:-1]
        rows = np.split(self.corpus.reader.features(images), bounds) if features else None
        return np.split(values, bounds), rows


def document_quotas(config: PretrainConfig, *, num_images: int, num_asked: int, num_texts: int) -> dict[str, int]:
    """Return the number of documents of each kind in a block: the mix, over the kinds that have input."""
    shares = shares_with_input(config, images=num_images > 0, questions=num_asked > 0, text=num_texts > 0)
    total = sum(shares.values())
    if total == 0:
        return dict.fromkeys(KINDS, 0)
    exact = {kind: BLOCK_DOCUMENTS * share / total for kind, share in shares.items()}
    quotas = {kind: int(value) for kind, value in exact.items()}
    largest_remainders = sorted(KINDS, key=lambda kind: quotas[kind] - exact[kind])
    for kind in largest_remainders[: BLOCK_DOCUMENTS - sum(quotas.values())]:
        quotas[kind] += 1
    return quotas


def shares_with_input(config: PretrainConfig, *, images: bool, questions: bool, text: bool) -> dict[str, float]:
    """Return the mix, with 0 for the kinds of documents that have no input."""
    # The no-image baseline is for questions and captions: it never draws.
    draws = images and config.image_input != "none"
    present = {"text_to_image": draws, "image_to_text": images, "questions": questions, "text": text}
    shares = config.mix.model_dump()
    return {kind: shares[kind] if present[kind] else 0.0 for kind in KINDS}


def _first_unscored(weights: np.ndarray) -> np.ndarray:
    weights[0] = 0.0  # nothing stands before the first token
    return weights
