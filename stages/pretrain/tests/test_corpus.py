"""The sources of documents: what is joined, left out and refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lavit_core.data import Source
from lavit_core.errors import InputError
from lavit_core.tokens import TokenReader
from lavit_pretrain.corpus import all_texts, leave_out_long, open_corpus
from lavit_pretrain.documents import Corpus
from lavit_pretrain.sequence import question_prompt
from lavit_pretrain.text_tokenizer import TextCodec, train_text_tokenizer
from lavit_pretrain.vocabulary import Vocabulary, register
from PIL import Image


@pytest.fixture(scope="module")
def parts(world, reader):
    corpus = open_corpus(reader, questions=[world.questions], text=[world.text])
    text = train_text_tokenizer(all_texts(corpus), 400)
    return corpus, Vocabulary(text_vocab=register(text), codebook_size=24), TextCodec(text)


def ids_of(codec, question, answer):
    return len(codec.encode(f"{question_prompt(question)} {answer}"))


def test_a_new_text_tokenizer_learns_from_the_text_of_documents(reader: TokenReader) -> None:
    corpus = Corpus(reader=reader, questions={0: [('What "Colour" is it?! (Really)', "Red")]}, text=["The sky"])
    texts = all_texts(corpus)
    assert texts[-2:] == ["Question: what colour is it? really Answer: Red", "The sky"]
    assert set(texts[:-2]) == {caption for own in reader.texts(np.arange(len(reader))) for caption in own}


def test_questions_about_absent_images_are_counted_or_refused(
    world: Any, reader: TokenReader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = '{"question_id": 0, "file_name": "%s", "question": "q", "answer": "a"}\n'
    file = tmp_path / "q.jsonl"
    file.write_text(row % "images/0001.png" + row % "nowhere.png")
    assert len(open_corpus(reader, questions=[file], text=[]).questions) == 1
    assert "1 of 2 questions are about images that are not in the tokens" in capsys.readouterr().err
    file.write_text(row % "nowhere.png")
    with pytest.raises(InputError, match="none of its 1 questions is about an image in the tokens"):
        open_corpus(reader, questions=[file], text=[])
    file.write_text("")
    with pytest.raises(InputError, match="found no questions, expected some for --questions"):
        open_corpus(reader, questions=[file], text=[])


def test_questions_of_other_layouts_and_their_earlier_turns_are_joined(
    world: Any, reader: TokenReader, tmp_path: Path
) -> None:
    said = [("human", "<image>what?"), ("gpt", "red"), ("human", "where?"), ("gpt", "above")]
    talk = {"image": "images/0001.png", "conversations": [{"from": who, "value": text} for who, text in said]}
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "0001.png")
    files = [tmp_path / "talk.json", tmp_path / "talk.jsonl", tmp_path / "own.jsonl"]
    files[0].write_text(json.dumps([talk]))
    expected = [("what?", "red"), ("what?", "red", "where?", "above")]
    assert [*open_corpus(reader, questions=[tmp_path], text=[]).questions.values()] == [expected]
    files[1].write_text(json.dumps(talk) + "\n")
    row = {"file_name": "images/0001.png", "question": "where?", "answer": "above", "earlier": [["what?", "red"]]}
    files[2].write_text(json.dumps(row) + "\n")
    for file, wanted in zip(files, (expected, expected, expected[1:]), strict=True):
        assert [*open_corpus(reader, questions=[file], text=[]).questions.values()] == [wanted]
    files[2].write_text(json.dumps({**row, "earlier": "what?"}) + "\n")
    with pytest.raises(InputError, match=r"own.jsonl:1: earlier is not a list of \[question, answer\]"):
        open_corpus(reader, questions=[files[2]], text=[])


def test_questions_are_read_as_options_say(reader: TokenReader, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "0001.png")
    rows = ["where,note,question,answer", "images/0001.png,x,what?,red"]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    named = Source(tmp_path / "list.csv", image_column="where", caption_column="none")
    assert [*open_corpus(reader, questions=[named], text=[]).questions.values()] == [[("what?", "red")]]
    with pytest.raises(InputError, match="no column of image names"):
        open_corpus(reader, questions=[tmp_path / "list.csv"], text=[])


def test_questions_of_too_many_words_are_counted(
    reader: TokenReader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"file_name": "images/0001.png", "question": "is " * count + "it", "answer": "x"} for count in (49, 50, 80)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    open_corpus(reader, questions=[tmp_path / "q.jsonl"], text=[])
    assert "2 of 3 questions have more than 50 words and are cut there" in capsys.readouterr().err


def test_questions_too_long_for_their_answers_are_left_out(parts: Any, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, _, codec = parts
    longest = max(ids_of(codec, *pair) for pairs in corpus.questions.values() for pair in pairs)
    assert leave_out_long(corpus, TextCodec(codec.tokenizer, longest)) is corpus
    wordy = ("is " * 49 + "it?", "yes")
    more = dataclasses.replace(corpus, questions={**corpus.questions, 0: [*corpus.questions.get(0, []), wordy]})
    assert ids_of(codec, *wordy) > longest
    short = TextCodec(codec.tokenizer, longest)
    assert leave_out_long(more, short).questions == corpus.questions
    assert "questions, answers included, are longer than max_text_tokens" in capsys.readouterr().err
    # What is left answers: no document teaches to say nothing.
    assert all(len(short.question(*pair)[1]) > 1 for pairs in corpus.questions.values() for pair in pairs)
    with pytest.raises(InputError, match=r"give --set max_text_tokens=N with a new --out"):
        leave_out_long(dataclasses.replace(corpus, questions={0: [wordy]}), short)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]\n", r"q\.jsonl:1: found list"),
        ("{nope\n", r"q\.jsonl:1: not valid JSON"),
        ('{"question": "q"}\n', "no text in file_name, answer"),
    ],
)
def test_unfit_question_files_are_refused_by_line(
    reader: TokenReader, tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(content)
    with pytest.raises(InputError, match=message):
        open_corpus(reader, questions=[file], text=[])
