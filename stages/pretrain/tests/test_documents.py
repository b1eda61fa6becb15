import dataclasses

import numpy as np
import pytest
from lavit_core.errors import InputError
from lavit_pretrain.config import Mix
from lavit_pretrain.corpus import all_texts, leave_out_long, open_corpus
from lavit_pretrain.documents import BLOCK_DOCUMENTS, Corpus, DocumentSource, document_quotas
from lavit_pretrain.sequence import question_prompt
from lavit_pretrain.text_tokenizer import TextCodec, load_text_tokenizer, train_text_tokenizer
from lavit_pretrain.vocabulary import Vocabulary, register


@pytest.fixture(scope="module")
def parts(world, reader):
    corpus = open_corpus(reader, questions=[world.questions], text=[world.text])
    text = train_text_tokenizer(all_texts(corpus), 400)
    return corpus, Vocabulary(text_vocab=register(text), codebook_size=24), TextCodec(text)


@pytest.fixture(scope="module")
def only(tiny_config):
    def make(kind: str, **changes):
        shares = dict.fromkeys(("text_to_image", "image_to_text", "questions", "text"), 0.0) | {kind: 1.0}
        return tiny_config(mix=Mix(**shares), **changes)

    return make


def source(parts, config):
    return DocumentSource(*parts, config, 0)


def test_text_to_image_scores_codes_and_the_closing_bracket(parts, only):
    _, vocabulary, codec = parts
    document = source(parts, only("text_to_image", caption_drop=0.0)).document(0)
    img = int(np.flatnonzero(document.ids == vocabulary.img)[0])
    assert codec.decode(document.ids[:img].tolist()).split()[0] in ("a", "there")
    assert document.ids[-1] == vocabulary.end_img
    assert (document.ids[img + 1 : -1] >= vocabulary.first_code).all()
    assert (document.weights[: img + 1] == 0).all()
    assert (document.weights[img + 1 :] == 1).all()


def test_caption_scored_when_asked_and_dropped_at_the_rate_set(parts, only):
    _, vocabulary, _ = parts
    scored = source(parts, only("text_to_image", caption_drop=0.0, t2i_text_loss=True)).document(0)
    assert scored.weights[0] == 0
    assert (scored.weights[1:] == 1).all()
    stream = source(parts, only("text_to_image", caption_drop=0.3))
    bare = np.mean([stream.document(n).ids[0] == vocabulary.img for n in range(1024)])
    assert bare == pytest.approx(0.3, abs=0.05)


def test_image_to_text_shows_features_and_scores_the_text(parts, only):
    _, vocabulary, codec = parts
    document = source(parts, only("image_to_text")).document(3)
    first, last = document.image
    assert document.ids[0] == vocabulary.img
    assert document.ids[last] == vocabulary.end_img
    assert first == 1
    assert document.features.shape == (last - first, 8)
    assert (document.weights[: last + 1] == 0).all()
    assert (document.weights[last + 1 :] == 1).all()
    assert document.ids[-1] == codec.eos


def test_codes_input_has_no_continuous_rows_and_image_loss_can_be_on(parts, only):
    document = source(parts, only("image_to_text", image_input="codes", i2t_image_loss=True)).document(0)
    assert document.image is None
    assert document.weights[0] == 0
    assert (document.weights[1:] == 1).all()


def test_questions_score_answers_only_and_fit_several_in_a_document(parts, only):
    _, _, codec = parts
    document = source(parts, only("questions", questions_per_document=2)).document(0)
    assert (document.ids == codec.eos).sum() == 2
    answers = codec.tokenizer.decode(document.ids[document.weights > 0])
    assert len(answers.replace("<eos>", " ").split()) == 2


def test_blind_documents_hold_no_image(parts, tiny_config):
    _, vocabulary, _ = parts
    config = tiny_config(image_input="none")
    assert document_quotas(config, num_images=4, num_asked=4, num_texts=0)["text_to_image"] == 0
    stream = source(parts, config)
    assert all(stream.document(n).ids.max() < vocabulary.img for n in range(64))


def test_the_mix_is_exact_in_every_block_and_absent_kinds_are_left_out(tiny_config):
    quotas = document_quotas(tiny_config(), num_images=9, num_asked=9, num_texts=0)
    assert quotas == {"text_to_image": 96, "image_to_text": 32, "questions": 128, "text": 0}
    quotas = document_quotas(tiny_config(), num_images=9, num_asked=0, num_texts=0)
    assert quotas["text_to_image"] == 3 * quotas["image_to_text"]
    assert sum(quotas.values()) == BLOCK_DOCUMENTS


def test_documents_are_a_function_of_their_number(parts, tiny_config):
    forward, late = source(parts, tiny_config()), source(parts, tiny_config())
    expected = [forward.document(n).ids for n in range(600)]
    assert np.array_equal(late.document(599).ids, expected[599])
    assert np.array_equal(late.document(3).ids, expected[3])


def test_every_text_survives_and_brackets_in_text_stay_text(parts):
    _, vocabulary, codec = parts
    for text in ("un chien fâché 犬 🐕", "[IMG] is not an image [/IMG]", "tab\tand  blanks"):
        ids = codec.encode(text)
        assert ids.max() < vocabulary.img
        assert codec.decode(ids.tolist()) == text


def test_a_new_text_tokenizer_learns_from_the_text_of_documents(reader):
    corpus = Corpus(reader=reader, questions={0: [('What "Colour" is it?! (Really)', "Red")]}, text=["The sky"])
    texts = all_texts(corpus)
    assert texts[-2:] == ["Question: what colour is it? really Answer: Red", "The sky"]
    assert set(texts[:-2]) == {caption for own in reader.texts(np.arange(len(reader))) for caption in own}


def test_the_question_prompt_is_the_paper_s():
    assert question_prompt('What "colour" is it?! (Really)') == "Question: what colour is it? really Answer:"
    assert len(question_prompt("w " * 80).split()) == 52


def test_a_prompt_alone_is_what_training_put_before_the_answer(parts):
    codec = parts[2]
    prompt, answer = codec.question("What colour is it?", "red")
    assert np.array_equal(prompt, codec.question("What colour is it?", None)[0])
    assert codec.decode([*answer.tolist()]) == "red"


def test_training_a_text_tokenizer_is_deterministic_and_survives_disk(parts, tmp_path):
    corpus, vocabulary, codec = parts
    again = train_text_tokenizer(all_texts(corpus), 400)
    assert register(again) == vocabulary.text_vocab
    assert again.get_vocab() == codec.tokenizer.get_vocab()
    again.save_pretrained(tmp_path)
    loaded = load_text_tokenizer(tmp_path)
    assert loaded.convert_tokens_to_ids(["[IMG]", "[/IMG]"]) == [vocabulary.img, vocabulary.end_img]
    assert register(loaded) == vocabulary.text_vocab


def test_questions_about_absent_images_are_counted_or_refused(world, reader, tmp_path, capsys):
    row = '{"question_id": 0, "file_name": "%s", "question": "q", "answer": "a"}\n'
    file = tmp_path / "q.jsonl"
    file.write_text(row % "images/0001.png" + row % "nowhere.png")
    assert len(open_corpus(reader, questions=[file], text=[]).questions) == 1
    assert "1 of 2 questions are about images that are not in the tokens" in capsys.readouterr().err
    file.write_text(row % "nowhere.png")
    with pytest.raises(InputError, match="none of its 1 questions is about an image in the tokens"):
        open_corpus(reader, questions=[file], text=[])


def ids_of(codec, question, answer):
    return len(codec.encode(f"{question_prompt(question)} {answer}"))


def test_whether_a_question_fits_is_the_same_with_and_without_tokenising_it(parts):
    _, _, codec = parts
    asked = [
        ("is it red?", "yes"),
        ("ist es \u8d64\u8272?", "\ud55c\uad6d\uc5b4 " * 9),
        ("is it " * 20, "no"),
        ("?", "x" * 60),
    ]
    for most in (4, 20, 40, 60, 80, 100, 120, 1 << 30):
        expected = [ids_of(codec, *pair) <= most for pair in asked]
        assert TextCodec(codec.tokenizer, most).questions_fit(asked) == expected
    assert codec.questions_fit([]) == []


def test_questions_too_long_for_their_answers_are_left_out(parts, capsys):
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
def test_unfit_question_files_are_refused_by_line(reader, tmp_path, content, message):
    file = tmp_path / "q.jsonl"
    file.write_text(content)
    with pytest.raises(InputError, match=message):
        open_corpus(reader, questions=[file], text=[])
