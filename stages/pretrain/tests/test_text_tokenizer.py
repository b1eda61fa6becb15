"""Words that a learned vocabulary does not contain."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lavit_pretrain.corpus import all_texts, open_corpus
from lavit_pretrain.sequence import question_prompt, question_text
from lavit_pretrain.text_tokenizer import TextCodec, load_text_tokenizer, train_text_tokenizer, unknown_words
from lavit_pretrain.vocabulary import Vocabulary, register
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


def test_words_outside_the_vocabulary_are_named() -> None:
    tokenizer = train_text_tokenizer(["a red circle above a blue square"] * 3, 4096)
    assert unknown_words(tokenizer, "red dinosaur, a blue quokka; square") == ["dinosaur", "quokka"]
    assert unknown_words(tokenizer, "") == []
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "red": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    other = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", unk_token="[UNK]")
    assert unknown_words(other, "red sofa") == ["sofa"]


@pytest.fixture(scope="module")
def parts(world, reader):
    corpus = open_corpus(reader, questions=[world.questions], text=[world.text])
    text = train_text_tokenizer(all_texts(corpus), 400)
    return corpus, Vocabulary(text_vocab=register(text), codebook_size=24), TextCodec(text)


def test_every_text_survives_and_brackets_in_text_stay_text(parts: Any) -> None:
    _, vocabulary, codec = parts
    for text in ("un chien fâché 犬 🐕", "[IMG] is not an image [/IMG]", "tab\tand  blanks"):
        ids = codec.encode(text)
        assert ids.max() < vocabulary.img
        assert codec.decode(ids.tolist()) == text


def test_a_prompt_alone_is_what_training_put_before_the_answer(parts: Any) -> None:
    codec = parts[2]
    prompt, answer = codec.question("What colour is it?", "red")
    assert np.array_equal(prompt, codec.question("What colour is it?", None)[0])
    assert codec.decode([*answer.tolist()]) == "red"


def test_training_a_text_tokenizer_is_deterministic_and_survives_disk(parts: Any, tmp_path: Path) -> None:
    corpus, vocabulary, codec = parts
    again = train_text_tokenizer(all_texts(corpus), 400)
    assert register(again) == vocabulary.text_vocab
    assert again.get_vocab() == codec.tokenizer.get_vocab()
    again.save_pretrained(tmp_path)
    loaded = load_text_tokenizer(tmp_path)
    assert loaded.convert_tokens_to_ids(["[IMG]", "[/IMG]"]) == [vocabulary.img, vocabulary.end_img]
    assert register(loaded) == vocabulary.text_vocab


def test_whether_a_question_fits_is_the_same_with_and_without_tokenising_it(parts: Any) -> None:
    _, _, codec = parts
    asked = [
        ("is it red?", "yes"),
        ("ist es \u8d64\u8272?", "\ud55c\uad6d\uc5b4 " * 9),
        ("is it " * 20, "no"),
        ("?", "x" * 60),
    ]
    for most in (4, 20, 40, 60, 80, 100, 120, 1 << 30):
        expected = [ids_of(codec, *pair) <= most for pair in asked]
        assert TextCodec(codec.tokenizer, most).texts_fit([question_text(*pair) for pair in asked]) == expected
    assert codec.texts_fit([]) == []


def ids_of(codec, question, answer):
    return len(codec.encode(f"{question_prompt(question)} {answer}"))
