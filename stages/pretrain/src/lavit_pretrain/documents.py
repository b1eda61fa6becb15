"""Training documents from token files, questions and plain text. Document d is a function of (seed, d) alone.

`sequence.py` has the order of text, image and questions in them.
Letters: n tokens of a document, F continuous image rows, D merger width.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lavit_core.seeds import derive_seed, shuffled_batch
from lavit_core.tokens import TokenReader

from lavit_pretrain.chat import ChatTemplate
from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.conversation import Part, conversation_parts, image_first, images_at_marks
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
    images: tuple[tuple[int, int], ...] = ()
    """First and last-plus-one position of each image whose input is continuous rows instead of ids."""
    features: np.ndarray | None = None
    """float32 [F, D] rows for those positions (stored features); live documents have none."""
    samples: tuple[int, ...] = ()
    """Index of each image that is read in the token reader, for live encoding."""
    kind: str = ""
    """Which of `KINDS` it is."""

    def __len__(self) -> int:
        return len(self.ids)


Asked = tuple[str, ...]
"""A question and its answer; in a conversation, the questions and answers before them come first."""


def turns_of(asked: Asked) -> list[tuple[str, str]]:
    """Return the turns of a question: (question, answer) of each, its own last."""
    return list(zip(asked[::2], asked[1::2], strict=True))


Stretch = int | tuple[np.ndarray, np.ndarray]
"""The number of an image in its document, or ids int64 [n] with their weights float32 [n]."""


@dataclasses.dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation about several images, which stand at the marks in its questions, or about none."""

    asked: Asked
    images: tuple[int, ...]
    """Index of each in the reader."""


@dataclasses.dataclass(frozen=True, slots=True)
class Interleaved:
    """A document of texts and images in the order they are written."""

    pieces: tuple[str | int, ...]
    """Texts, and indices of images in the reader."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """Source of documents: images with captions, questions by image, lines of text and images."""

    reader: TokenReader
    questions: Mapping[int, Sequence[Asked]]
    """Questions with their answers, by index in the reader."""
    text: Sequence[str | Interleaved]
    conversations: Sequence[Sequence[Conversation]] = ()
    """Conversations about several images or none; those that begin alike are together, as questions of an image are."""


class DocumentSource:
    """The endless stream of documents of one run."""

    def __init__(
        self, corpus: Corpus, vocabulary: Vocabulary, codec: TextCodec, config: PretrainConfig, seed: int
    ) -> None:
        self.corpus, self.vocabulary, self.codec, self.config, self.seed = corpus, vocabulary, codec, config, seed
        self.chat = ChatTemplate(codec) if config.chat else None
        # Conversations that belong to no single image have places of their own, from -1 down.
        conversations = -1 - np.arange(len(corpus.conversations))
        self.asked = np.concatenate([np.array(sorted(corpus.questions), dtype=np.int64), conversations])
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
        documents = self._with_images([[image] for image in images], [[0, tail] for tail in tails], "image_to_text")
        if not read:
            return documents
        return [dataclasses.replace(document, read_tail=tail) for document, tail in zip(documents, read, strict=True)]

    def _questions(self, images: np.ndarray, rng: np.random.Generator) -> list[Document]:
        seen: list[Sequence[int]] = []
        stretches: list[list[Stretch]] = []
        for image in map(int, images):
            conversations = self.corpus.conversations[-1 - image] if image < 0 else ()
            asked = self.corpus.questions[image] if image >= 0 else [one.asked for one in conversations]
            if self.config.chat:
                chosen = [int(rng.integers(len(asked)))]
            else:
                several = self.config.questions_per_document if image >= 0 else 1
                chosen = rng.permutation(len(asked))[:several].tolist()
            seen.append(conversations[chosen[0]].images if conversations else [image])
            parts = [
                part
                for number, place in enumerate(chosen)
                for part in self._conversation(asked[place], len(seen[-1]) if number == 0 else None)
            ]
            stretches.append(parts)
        return self._with_images(seen, stretches, "questions")

    def _conversation(self, asked: Asked, num_images: int | None) -> list[Stretch]:
        """Return a conversation whose last turn is scored; earlier ones are scored as questions of their own.

        `num_images` is None for one that goes on about the images of the one before it.
        """
        questions, replies = list(asked[::2]), asked[1::2]
        placed = images_at_marks(questions) if (num_images or 0) > 1 else list(questions)
        if num_images == 1 or (num_images == 0 and self.config.image_input == "none"):
            placed = image_first(questions)
        prompt_weight = self.config.text_loss_weight if self.config.question_text_loss and self.chat is None else 0.0

        def stretch(part: Part) -> Stretch:
            if part.image is not None:
                return part.image
            weight = self.config.text_loss_weight if part.is_reply else prompt_weight
            own = float(part.turn == len(questions) - 1)
            return part.ids, np.full(len(part.ids), own * weight, np.float32)

        return [stretch(part) for part in conversation_parts(self.codec, self.chat, placed, replies)]

    def _with_images(
        self, seen: Sequence[Sequence[int]], stretches: Sequence[Sequence[Stretch]], kind: str
    ) -> list[Document]:
        """Return documents of stretches; the images of document i are those of the reader's indices `seen[i]`."""
        if self.config.image_input == "none":
            # Blind: the end token stands in for an image, so that a caption has something to follow.
            blind = blind_span(self.codec.eos), np.zeros(1, np.float32)
            filled = [[blind if isinstance(one, int) else one for one in own] for own in stretches]
            return [_joined(own, kind=kind) for own in filled]
        places = np.array([image for images in seen for image in images], dtype=np.int64)
        codes, features = self._codes_and_features(places, features=self.config.image_input == "features")
        weight = self.config.image_loss_weight if self.config.i2t_image_loss else 0.0
        documents, first = [], 0
        for images, own in zip(seen, stretches, strict=True):
            parts, spans, length = [], [], 0
            for one in own:
                part = one
                if isinstance(part, int):
                    span = image_span(self.vocabulary, codes[first + part])
                    spans.append((length + 1, length + len(span) - 1))
                    part = span, np.full(len(span), weight, np.float32)
                length += len(part[0])
                parts.append(part)
            rows = features[first : first + len(images)] if features is not None else []
            documents.append(
                _joined(
                    parts,
                    images=() if self.config.image_input == "codes" else tuple(spans),
                    features=np.concatenate(rows) if rows else None,
                    samples=tuple(map(int, images)),
                    kind=kind,
                )
            )
            first += len(images)
        return documents

    def _text(self, line: str | Interleaved) -> Document:
        """Return a document of texts and images, all of it scored.

        Images are codes whatever `image_input` is, as in text-to-image documents: they are what is written.
        """
        text_weight, parts = self.config.text_loss_weight, list[tuple[np.ndarray, np.ndarray]]()
        pieces = (line,) if isinstance(line, str) else line.pieces
        if self.config.image_input == "none":
            pieces = tuple(piece for piece in pieces if isinstance(piece, str))
        images = [piece for piece in pieces if isinstance(piece, int)]
        codes = iter(self._codes_and_features(np.array(images), features=False)[0] if images else ())
        for piece in pieces:
            if isinstance(piece, str):
                ids = self.codec.encode(piece)
                weights = np.full(len(ids), text_weight, np.float32)
            else:
                ids = image_span(self.vocabulary, next(codes))
                weights = np.full(len(ids), self.config.image_loss_weight, np.float32)
                weights[0] = text_weight  # [IMG] ends the text before it
            parts.append((ids, weights))
        end = text_continuation(np.empty(0, np.int64), self.codec.eos)
        return _joined([*parts, (end, np.full(1, text_weight, np.float32))], kind="text")

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


def _joined(parts: Sequence[tuple[np.ndarray, np.ndarray]], **more: Any) -> Document:
    ids, weights = zip(*parts, strict=True)
    return Document(ids=np.concatenate(ids), weights=_first_unscored(np.concatenate(weights)), **more)


def _first_unscored(weights: np.ndarray) -> np.ndarray:
    weights[0] = 0.0  # nothing stands before the first token
    return weights
