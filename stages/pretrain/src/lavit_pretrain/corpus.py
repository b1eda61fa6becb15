"""Reads the sources of training documents and refuses those that do not fit together."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np
from lavit_core.data import (
    Question,
    Source,
    earlier_turns,
    images_of,
    open_data,
    source_of,
    turns_about,
    without_marks,
)
from lavit_core.errors import InputError, UsageError
from lavit_core.json_lines import iterate_json_lines, iterate_json_objects
from lavit_core.progress import warn
from lavit_core.tokens import TokenReader, places_of_keys
from transformers import PreTrainedTokenizerBase

from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.documents import Asked, Conversation, Corpus, DocumentSource, Interleaved, turns_of
from lavit_pretrain.plain_text import read_texts, text_alone
from lavit_pretrain.sequence import MAX_QUESTION_WORDS, is_cut, question_text
from lavit_pretrain.text_tokenizer import TextCodec
from lavit_pretrain.vocabulary import Vocabulary

MAX_TEXT_TOKENIZER_IMAGES = 100_000
"""Images whose captions train a new text tokenizer."""


def open_corpus(reader: TokenReader, *, questions: Sequence[Path | Source], text: Sequence[Path]) -> Corpus:
    """Join questions to images by file name, and read plain text. Raises InputError naming file and fault."""
    joined, conversations = _join_questions(reader, questions)
    return Corpus(
        reader=reader,
        questions=joined,
        text=read_texts(text, reader),
        conversations=conversations,
    )


def open_documents(
    corpus: Corpus, vocabulary: Vocabulary, text: PreTrainedTokenizerBase, config: PretrainConfig, seed: int
) -> DocumentSource:
    """Return the stream of training documents. Raises UsageError if the mix leaves no kind of document."""
    codec = TextCodec(text, config.max_text_tokens)
    corpus = _with_texts_of_a_step(leave_out_long(corpus, codec), codec, config)
    source = DocumentSource(corpus, vocabulary, codec, config, seed)
    if sum(source.quotas.values()) == 0:
        raise UsageError(
            "setting mix: no kind of document has both a share above 0 and input; raise a share or give --questions"
        )
    for kind, given in (("questions", len(source.asked)), ("text", len(corpus.text))):
        if given and source.quotas[kind] == 0:
            raise UsageError(
                f"--{kind}: its share of the documents, setting mix.{kind}, is {getattr(config.mix, kind):g}, so "
                f"nothing of it would be learned; add --set mix.{kind}=0.1, or leave --{kind} out"
            )
    return source


def leave_out_long(corpus: Corpus, codec: TextCodec) -> Corpus:
    """Return the corpus without questions that do not fit `max_text_tokens` with their answers, and without documents
    of texts and images that do not; a line counts them.

    Cut at that length they would teach empty answers, and other images than the text speaks of. Raises InputError if no
    question is left.
    """
    kept, left_out = fitting_questions(corpus.questions, codec)
    conversations = [[one for one in alike if _fits(one.asked, codec)] for alike in corpus.conversations]
    left_out += sum(map(len, corpus.conversations)) - sum(map(len, conversations))
    corpus = _with_fitting_texts(corpus, codec)
    if not left_out:
        return corpus
    conversations = [alike for alike in conversations if alike]
    asked = left_out + sum(map(len, kept.values())) + sum(map(len, conversations))
    said = f"{left_out} of {asked} questions, answers included, are longer than max_text_tokens ({codec.max_tokens})"
    if not kept and not conversations:
        raise InputError(f"{said}; give --set max_text_tokens=N with a new --out")
    warn(f"{said}; left out (--set max_text_tokens=N with a new --out takes them)")
    return dataclasses.replace(corpus, questions=kept, conversations=conversations)


def _with_fitting_texts(corpus: Corpus, codec: TextCodec) -> Corpus:
    mixed = [one for one in corpus.text if isinstance(one, Interleaved)]  # texts alone are cut
    fits = codec.texts_fit([text_alone(one) for one in mixed])
    too_long = {one for one, fit in zip(mixed, fits, strict=True) if not fit}
    if not too_long:
        return corpus
    kept = [one for one in corpus.text if one not in too_long]
    warn(f"{len(corpus.text) - len(kept)} documents with images have more than max_text_tokens ({codec.max_tokens}) of "
         "text; left out (--set max_text_tokens=N with a new --out takes them)")  # fmt: skip
    return dataclasses.replace(corpus, text=kept)


def _with_texts_of_a_step(corpus: Corpus, codec: TextCodec, config: PretrainConfig) -> Corpus:
    """Return the corpus without documents of texts and images that are longer than a step; a line counts them."""
    room = config.tokens_per_step
    pieces = {piece for one in corpus.text if isinstance(one, Interleaved) for piece in one.pieces}
    texts = [piece for piece in pieces if isinstance(piece, str)]
    images = [piece for piece in pieces if isinstance(piece, int)]
    if not images:
        return corpus
    lengths: dict[str | int, int] = dict(zip(texts, codec.lengths(texts), strict=True))
    bracketed = (corpus.reader.counts[images] + 2).tolist() if config.image_input != "none" else [0] * len(images)
    lengths.update(zip(images, bracketed, strict=True))

    def fits(one: str | Interleaved) -> bool:
        return isinstance(one, str) or sum(lengths[piece] for piece in one.pieces) + 1 <= room  # with <eos>

    kept = [one for one in corpus.text if fits(one)]
    if not (left_out := len(corpus.text) - len(kept)):
        return corpus
    warn(f"{left_out} documents with images have more than tokens_per_step ({room}) tokens, images included; left "
         "out (--set tokens_per_step=N with a new --out takes them)")  # fmt: skip
    return dataclasses.replace(corpus, text=kept)


def _fits(asked: Asked, codec: TextCodec) -> bool:
    return codec.texts_fit([whole_text(asked)])[0]


def fitting_questions(questions: Mapping[int, Sequence[Asked]], codec: TextCodec) -> tuple[dict[int, list[Asked]], int]:
    """Return the questions that fit `max_text_tokens` with their answers, by image, and how many do not."""
    asked = [(image, pair) for image, pairs in questions.items() for pair in pairs]
    fits = codec.texts_fit([whole_text(pair) for _, pair in asked])
    kept: dict[int, list[Asked]] = {}
    for (image, pair), fit in zip(asked, fits, strict=True):
        if fit:
            kept.setdefault(image, []).append(pair)
    return kept, fits.count(False)


def whole_text(asked: Asked) -> str:
    """Return a question with its answer, after the turns before it, as one text."""
    return " ".join(question_text(without_marks(question), answer) for question, answer in turns_of(asked))


def is_question_list(file: Path) -> bool:
    """Return whether `file` is a questions.jsonl under any name, and not a data set in another layout."""
    if not file.is_file() or file.suffix.lower() != ".jsonl":
        return False
    first = next(iterate_json_lines(file, lambda message: None), (1, None))[1]
    others = {"conversations", "messages", "image"}
    return not isinstance(first, dict) or (not others & set(first) and ("images" not in first or "question" in first))


def asked_of(question: Question) -> Asked:
    """Return a question of a data set with its answer, after the turns before it."""
    return (*chain.from_iterable(question.earlier), question.question, question.answer)


def _rows(data: Path | Source) -> Iterator[tuple[tuple[str, ...], Asked]]:
    """Yield (images, question) of a questions.jsonl or of another data set."""
    file = source_of(data).path
    if not is_question_list(file):
        for question in open_data(data).questions:
            yield question.keys, asked_of(question)
        return
    for number, row in iterate_json_objects(file):
        named = ("file_name",) * ("images" not in row)
        missing = [name for name in (*named, "question", "answer") if not isinstance(row.get(name), str)]
        if missing:
            raise InputError(
                f"{file}:{number}: no text in {', '.join(missing)}, expected question_id, file_name, question, answer"
            )
        earlier = earlier_turns(row.get("earlier", []))
        if earlier is None:
            raise InputError(f"{file}:{number}: earlier is not a list of [question, answer]")
        images = images_of(row, [*(question for question, _ in earlier), row["question"]])
        if isinstance(images, str):
            raise InputError(f"{file}:{number}: {images}")
        turns = turns_about([*earlier, (row["question"], row["answer"])], len(images))
        yield images, tuple(chain.from_iterable(turns))


def _join_questions(
    reader: TokenReader, sources: Sequence[Path | Source]
) -> tuple[dict[int, list[Asked]], list[list[Conversation]]]:
    """Return the questions about one image by its place, and conversations about several or none."""
    if not sources:
        return {}, []
    where = places_of_keys(reader)
    joined: dict[int, list[Asked]] = {}
    conversations: dict[tuple[object, ...], list[Conversation]] = {}
    for data in sources:
        file = source_of(data).path
        absent, asked, cut = 0, 0, 0
        for keys, question in _rows(data):
            asked += 1
            if any(key not in where for key in keys):
                absent += 1
                continue
            cut += any(is_cut(without_marks(turn[0])) for turn in turns_of(question))
            if len(keys) == 1:
                for place in where[keys[0]]:
                    joined.setdefault(place, []).append(question)
                continue
            begins = (data, keys[:1], question[:2])
            conversations.setdefault(begins, []).append(Conversation(question, tuple(where[key][0] for key in keys)))
        if not asked:
            raise InputError(
                f"{file}: found no questions, expected some for --questions (docs/data.md has the layouts)"
            )
        if absent == asked:
            example = next(iter(where), "none")
            raise InputError(
                f"{file}: none of its {asked} questions is about an image in the tokens (keys such as {example!r})"
            )
        if cut:
            warn(f"{file}: {cut} of {asked} questions have more than {MAX_QUESTION_WORDS} words and are cut there")
        if absent:
            warn(f"{file}: {absent} of {asked} questions are about images that are not in the tokens; left out")
    return joined, list(conversations.values())


def all_texts(corpus: Corpus) -> list[str]:
    """Return the texts that a new text tokenizer learns its words from, as training documents contain them."""
    reader = corpus.reader
    captions = reader.texts(np.arange(min(len(reader), MAX_TEXT_TOKENIZER_IMAGES)))
    conversations = (one.asked for alike in corpus.conversations for one in alike)
    texts = [text_alone(one) for one in corpus.text]
    return texts_to_learn(captions, chain(chain.from_iterable(corpus.questions.values()), conversations), texts)


def texts_to_learn(captions: Iterable[Sequence[str]], asked: Iterable[Asked], text: Sequence[str] = ()) -> list[str]:
    """Return the captions of the first images, the questions with their answers, and plain text."""
    learned = chain.from_iterable(islice(captions, MAX_TEXT_TOKENIZER_IMAGES))
    last = (turns_of(one)[-1] for one in asked)
    return [*learned, *(question_text(without_marks(question), answer) for question, answer in last), *text]
