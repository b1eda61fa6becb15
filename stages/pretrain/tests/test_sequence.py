"""Sequences: what training sees is what generation, reading and scoring continue."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lavit_core.errors import InputError
from lavit_pretrain.config import Mix, PretrainConfig
from lavit_pretrain.documents import Corpus, DocumentSource
from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.sequence import (
    TokenizedPrompt,
    code_continuation,
    drawing_prefix,
    image_span,
    join_prompts,
    question_prompt,
    question_text,
    text_continuation,
    text_to_image,
    tokenize_image,
    tokenize_prompt,
)
from lavit_pretrain.text_tokenizer import TextCodec, train_text_tokenizer
from lavit_pretrain.vocabulary import Vocabulary, register


@pytest.fixture(scope="module")
def parts(reader):
    text = train_text_tokenizer(["a red circle", "what is blue?"], 400)
    vocabulary = Vocabulary(text_vocab=register(text), codebook_size=24)
    corpus = Corpus(reader=reader, questions={1: [("What is BLUE?", "it")]}, text=["the sky"])
    return corpus, vocabulary, TextCodec(text)


def test_a_text_to_image_document_is_a_prefix_and_its_continuation(parts: Any) -> None:
    _, vocabulary, codec = parts
    text, codes = codec.encode("a red circle"), np.array([3, 0, 23])
    whole = text_to_image(vocabulary, text, codes).tolist()
    assert whole == [*drawing_prefix(vocabulary, text), *code_continuation(vocabulary, codes)]
    first = vocabulary.first_code
    assert whole[len(text) :] == [vocabulary.img, first + 3, first, first + 23, vocabulary.end_img]
    assert image_span(vocabulary, codes).tolist() == whole[len(text) :]


@pytest.mark.parametrize("kind", ["text_to_image", "image_to_text", "questions"])
def test_documents_of_the_training_are_what_inference_continues(
    parts: Any, tiny_config: Callable[..., PretrainConfig], kind: str
) -> None:
    corpus, vocabulary, codec = parts
    shares = {"text_to_image": 0.0, "image_to_text": 0.0, "questions": 0.0, "text": 0.0, kind: 1.0}
    config = tiny_config(image_input="codes", mix=Mix(**shares), caption_drop=0.0)
    document = DocumentSource(corpus, vocabulary, codec, config, 0).document(0)
    codes = vocabulary.to_codes(document.ids[document.ids >= vocabulary.first_code])
    image = tokenize_image(vocabulary, codes).ids
    if kind == "text_to_image":
        text = document.ids[: int(np.flatnonzero(document.ids == vocabulary.img)[0])]
        expected = [drawing_prefix(vocabulary, text), code_continuation(vocabulary, codes)]
    elif kind == "image_to_text":
        expected = [image, text_continuation(document.ids[len(image) : -1], codec.eos)]
    else:
        expected = [image, *codec.question("What is BLUE?", "it")]
        assert codec.decode(np.concatenate(expected[1:]).tolist()) == question_text("What is BLUE?", "it")
    assert document.ids.tolist() == np.concatenate(expected).tolist()


def test_joined_parts_keep_their_continuous_rows_in_place(parts: Any) -> None:
    _, vocabulary, codec = parts
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    text = TokenizedPrompt(ids=codec.encode("a red circle"))
    joined = join_prompts([text, tokenize_image(vocabulary, rows), text, tokenize_image(vocabulary, rows[:1])])
    start, length = len(text) + 1, len(text)
    assert joined.places.tolist() == [start, start + 1, start + 2, start + 5 + length]
    assert joined.features.tolist() == [*rows.tolist(), rows[0].tolist()]
    assert joined.num_images == 2
    bare = tokenize_image(vocabulary, rows, brackets=False)
    assert (len(bare), bare.places.tolist()) == (3, [0, 1, 2])


def test_a_prompt_has_its_parts_in_order_and_ends_with_img(random_llm: Callable[..., LanguageModel]) -> None:
    llm = random_llm("codes")
    vocabulary, encode = llm.vocabulary, llm.codec.encode
    word = encode("red").tolist()
    codes, more = np.array([0, 5]), np.array([7])
    first = [vocabulary.img, vocabulary.first_code, vocabulary.first_code + 5, vocabulary.end_img]
    second = [vocabulary.img, vocabulary.first_code + 7, vocabulary.end_img]
    mixed = tokenize_prompt([codes, "red", more], vocabulary, encode).ids.tolist()
    assert mixed == [*first, *word, *second, vocabulary.img]
    assert tokenize_prompt(["red", codes], vocabulary, encode).ids.tolist() == [*word, *first, vocabulary.img]
    assert tokenize_prompt("red", vocabulary, encode).ids.tolist() == [*word, vocabulary.img]
    # Released: visual_tokenizer.tokenize_image(..., add_special=False).
    bare = tokenize_prompt([codes, "red", more], vocabulary, encode, brackets=False).ids.tolist()
    assert bare == [*first[1:3], *word, second[1], vocabulary.img]
    with pytest.raises(InputError, match=r"codes lie in \[3, 24\], expected \[0, 24\)"):
        tokenize_prompt([np.array([3, 24])], vocabulary, encode)


def test_continuous_rows_of_a_prompt_lie_between_brackets(random_llm: Callable[..., LanguageModel]) -> None:
    llm = random_llm("features")
    vocabulary, encode = llm.vocabulary, llm.codec.encode
    length = len(encode("red"))
    rows = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    prompt = tokenize_prompt(["red", rows, "red", rows[:1]], vocabulary, encode)
    embedded = llm.embed_prompt(prompt)
    assert llm.projector is not None
    projected = llm.projector(torch.from_numpy(rows))
    torch.testing.assert_close(embedded[length + 1 : length + 4], projected)
    torch.testing.assert_close(embedded[-3], projected[0])
    brackets = [length, length + 4, len(prompt) - 4, len(prompt) - 2, len(prompt) - 1]
    img, end_img = vocabulary.img, vocabulary.end_img
    assert prompt.ids[brackets].tolist() == [img, end_img, img, end_img, img]


def test_the_question_prompt_is_the_paper_s() -> None:
    assert question_prompt('What "colour" is it?! (Really)') == "Question: what colour is it? really Answer:"
    assert len(question_prompt("w " * 80).split()) == 52
