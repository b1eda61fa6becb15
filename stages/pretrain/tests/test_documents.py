import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lavit_core.errors import InputError, UsageError
from lavit_pretrain.config import Mix, PretrainConfig
from lavit_pretrain.corpus import all_texts, leave_out_long, open_corpus, open_documents
from lavit_pretrain.documents import BLOCK_DOCUMENTS, DocumentSource, Interleaved, document_quotas
from lavit_pretrain.text_tokenizer import TextCodec, train_text_tokenizer
from lavit_pretrain.train_language_model import train_language_model
from lavit_pretrain.vocabulary import Vocabulary, register
from lavit_trainkit.testing import metrics_of


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


def test_text_to_image_scores_codes_and_the_closing_bracket(parts: Any, only: Any) -> None:
    _, vocabulary, codec = parts
    document = source(parts, only("text_to_image", caption_drop=0.0)).document(0)
    img = int(np.flatnonzero(document.ids == vocabulary.img)[0])
    assert codec.decode(document.ids[:img].tolist()).split()[0] in ("a", "there")
    assert document.ids[-1] == vocabulary.end_img
    assert (document.ids[img + 1 : -1] >= vocabulary.first_code).all()
    assert (document.weights[: img + 1] == 0).all()
    assert (document.weights[img + 1 :] == 1).all()


def test_caption_scored_when_asked_and_dropped_at_the_rate_set(parts: Any, only: Any) -> None:
    _, vocabulary, _ = parts
    scored = source(parts, only("text_to_image", caption_drop=0.0, t2i_text_loss=True)).document(0)
    assert scored.weights[0] == 0
    assert (scored.weights[1:] == 1).all()
    stream = source(parts, only("text_to_image", caption_drop=0.3))
    bare = np.mean([stream.document(n).ids[0] == vocabulary.img for n in range(1024)])
    assert bare == pytest.approx(0.3, abs=0.05)


def test_image_to_text_shows_features_and_scores_the_text(parts: Any, only: Any) -> None:
    _, vocabulary, codec = parts
    document = source(parts, only("image_to_text")).document(3)
    [(first, last)] = document.images
    assert document.ids[0] == vocabulary.img
    assert document.ids[last] == vocabulary.end_img
    assert first == 1
    assert document.features.shape == (last - first, 8)
    assert (document.weights[: last + 1] == 0).all()
    assert (document.weights[last + 1 :] == 1).all()
    assert document.ids[-1] == codec.eos


def test_codes_input_has_no_continuous_rows_and_image_loss_can_be_on(parts: Any, only: Any) -> None:
    document = source(parts, only("image_to_text", image_input="codes", i2t_image_loss=True)).document(0)
    assert document.images == ()
    assert document.weights[0] == 0
    assert (document.weights[1:] == 1).all()


def test_questions_score_answers_only_and_fit_several_in_a_document(parts: Any, only: Any) -> None:
    _, _, codec = parts
    document = source(parts, only("questions", questions_per_document=2)).document(0)
    assert (document.ids == codec.eos).sum() == 2
    answers = codec.tokenizer.decode(document.ids[document.weights > 0])
    assert len(answers.replace("<eos>", " ").split()) == 2


def test_a_turn_of_a_conversation_follows_those_before_and_is_scored_alone(parts: Any, only: Any) -> None:
    corpus, vocabulary, codec = parts
    talk = ("what is it?", "red", "and where?", "above")
    talking = dataclasses.replace(corpus, questions={1: [talk]})
    document = DocumentSource(talking, vocabulary, codec, only("questions", image_input="none"), 0).document(0)
    first = codec.question(*talk[:2])
    assert (document.ids[1:] == np.concatenate([*first, *codec.question(*talk[2:])])).all()
    assert codec.decode(document.ids[document.weights > 0].tolist()) == "above"


def test_blind_documents_hold_no_image(parts: Any, tiny_config: Callable[..., PretrainConfig]) -> None:
    _, vocabulary, _ = parts
    config = tiny_config(image_input="none")
    assert document_quotas(config, num_images=4, num_asked=4, num_texts=0)["text_to_image"] == 0
    stream = source(parts, config)
    assert all(stream.document(n).ids.max() < vocabulary.img for n in range(64))


def test_the_mix_is_exact_in_every_block_and_absent_kinds_are_left_out(
    tiny_config: Callable[..., PretrainConfig],
) -> None:
    quotas = document_quotas(tiny_config(), num_images=9, num_asked=9, num_texts=0)
    assert quotas == {"text_to_image": 96, "image_to_text": 32, "questions": 128, "text": 0}
    quotas = document_quotas(tiny_config(), num_images=9, num_asked=0, num_texts=0)
    assert quotas["text_to_image"] == 3 * quotas["image_to_text"]
    assert sum(quotas.values()) == BLOCK_DOCUMENTS


def test_documents_are_a_function_of_their_number(parts: Any, tiny_config: Callable[..., PretrainConfig]) -> None:
    forward, late = source(parts, tiny_config()), source(parts, tiny_config())
    expected = [forward.document(n).ids for n in range(600)]
    assert np.array_equal(late.document(599).ids, expected[599])
    assert np.array_equal(late.document(3).ids, expected[3])


def test_hidden_words_are_read_as_eos_and_still_scored(parts: Any, only: Any) -> None:
    _, _, codec = parts
    plain = source(parts, only("image_to_text"))
    stream = source(parts, only("image_to_text", caption_word_drop=0.25))
    assert plain.document(0).read_tail is None
    hidden = []
    for number in range(256):
        document = stream.document(number)
        [(_, last)] = document.images
        text = document.ids[last + 1 :]
        assert document.read_tail is not None
        assert len(document.read_tail) == len(text)
        assert (document.weights[last + 1 :] == 1).all()
        changed = document.read_tail != text
        assert (document.read_tail[changed] == codec.eos).all()
        hidden.append(changed[:-1])  # the last one is <eos> itself
    assert np.concatenate(hidden).mean() == pytest.approx(0.25, abs=0.03)
    again = source(parts, only("image_to_text", caption_word_drop=0.25)).document(7)
    assert np.array_equal(again.read_tail, stream.document(7).read_tail)


@pytest.mark.parametrize("kind", ["text_to_image", "questions", "text"])
def test_words_of_other_documents_are_not_hidden(parts: Any, only: Any, kind: str) -> None:
    stream = source(parts, only(kind, caption_word_drop=0.9))
    assert all(stream.document(number).read_tail is None for number in range(64))


def written(reader, tmp_path, rows):
    """Return the corpus whose text is rows of a .jsonl file."""
    (tmp_path / "text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_corpus(reader, questions=[], text=[tmp_path / "text.jsonl"])


@pytest.mark.parametrize("image_input", ["codes", "features", "live", "none"])
def test_texts_and_images_by_turns_are_scored_where_they_stand(reader, parts, only, tmp_path, image_input) -> None:
    keys = reader.keys(np.arange(4))
    row = {"text": "the sky <image> and<image><image>is green", "images": [keys[2], keys[0], keys[2]]}
    corpus = written(reader, tmp_path, [row])
    vocabulary, codec = parts[1:]
    stream = source((corpus, vocabulary, codec), only("text", image_input=image_input, image_loss_weight=0.5))
    document = stream.document(0)
    values, counts = reader.codes(np.array([2, 0]))
    two, zero = (vocabulary.to_ids(one).tolist() for one in np.split(values, counts[:1]))
    images = {"img": vocabulary.img, "end": vocabulary.end_img}
    expected: list[int] = [*codec.encode("the sky")]
    weights = [1.0] * len(expected)
    for codes, text in ((two, "and"), (zero, ""), (two, "is green")):
        if image_input != "none":
            expected += [images["img"], *codes, images["end"]]
            weights += [1.0] + [0.5] * (len(codes) + 1)
        own = codec.encode(text).tolist() if text else []
        expected, weights = expected + own, weights + [1.0] * len(own)
    assert document.ids.tolist() == [*expected, codec.eos]
    assert document.weights.tolist() == [0.0, *weights[1:], 1.0]
    assert (document.images, document.features, document.samples, document.kind) == ((), None, (), "text")


def test_documents_that_do_not_fit_are_refused_or_counted(reader, parts, tmp_path, capsys) -> None:
    [key] = reader.keys(np.arange(1))
    good, absent = {"text": "a <image>", "images": [key]}, {"text": "a <image>", "images": ["gone.png"]}
    corpus = written(
        reader, tmp_path, [good, absent, {"text": "a <image> that is only a word"}, {"text": "b", "images": []}]
    )
    assert corpus.text == [Interleaved(("a", 0)), "a <image> that is only a word", "b"]
    said = capsys.readouterr().err
    assert "1 of 4 documents have images that are not in the tokens; left out" in said
    assert '1 documents have <image> but no "images"; there it is a word like any other' in said
    assert "a" in all_texts(corpus)
    with pytest.raises(InputError, match="all of its 1 documents have images that are not in the tokens"):
        written(reader, tmp_path, [absent])
    with pytest.raises(InputError, match=r"text\.jsonl:2: 1 <image> but 2 images, expected as many"):
        written(reader, tmp_path, [good, {**good, "images": [key, key]}])
    with pytest.raises(InputError, match=r"text\.jsonl:1: 1 <image> but 0 images, expected as many"):
        written(reader, tmp_path, [{**good, "images": []}])
    with pytest.raises(InputError, match=r"text\.jsonl:1: images is no list of names"):
        written(reader, tmp_path, [{**good, "images": key}])
    with pytest.raises(InputError, match=r'text\.jsonl:1: a row without "text"'):
        written(reader, tmp_path, [{"images": [key]}])
    long = {"text": "the sky is blue " * 20 + "<image>", "images": [key]}
    codec = TextCodec(parts[2].tokenizer, 40)
    left = leave_out_long(written(reader, tmp_path, [long, good, {"text": "the sky is blue " * 20}]), codec)
    assert [type(one) for one in left.text] == [Interleaved, str]  # texts alone are cut, as ever
    assert "1 documents with images have more than max_text_tokens (40) of text; left out" in capsys.readouterr().err


def test_input_that_the_mix_has_no_share_for_is_refused(reader, parts, only, tmp_path) -> None:
    corpus = written(reader, tmp_path, [{"text": "a"}])
    _, vocabulary, codec = parts
    with pytest.raises(UsageError, match=r"--text: its share .* setting mix\.text, is 0, .* --set mix\.text=0\.1"):
        open_documents(corpus, vocabulary, codec.tokenizer, only("image_to_text"), 0)


@pytest.mark.parametrize("image_input", ["codes", "none"])
def test_images_count_where_a_document_must_fit_a_step(reader, parts, only, tmp_path, capsys, image_input) -> None:
    keys = reader.keys(np.arange(2))
    rows = [{"text": "a <image>" + " b <image>" * more, "images": [keys[0]] + [keys[1]] * more} for more in (0, 9)]
    corpus, (_, vocabulary, codec) = written(reader, tmp_path, rows), parts
    config = only("text", image_input=image_input)
    longest = max(len(source((corpus, vocabulary, codec), config).document(number)) for number in range(8))

    def kept(room: int) -> list[Any]:
        changed = only("text", image_input=image_input, tokens_per_step=room)
        return list(open_documents(corpus, vocabulary, codec.tokenizer, changed, 0).corpus.text)

    assert kept(longest) == corpus.text
    assert capsys.readouterr().err == ""
    assert kept(longest - 1) == corpus.text[:1]
    said = f"1 documents with images have more than tokens_per_step ({longest - 1}) tokens, images included; left out"
    assert f"{said} (--set tokens_per_step=N with a new --out takes them)" in capsys.readouterr().err


def test_a_model_learns_to_write_images_between_texts(world, reader, tiny_config, tmp_path) -> None:
    keys = reader.keys(np.arange(2))
    rows = [{"text": f"the sky <image> {word} <image> the grass", "images": list(keys)} for word in ("is", "and")]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mix = Mix(text_to_image=0, image_to_text=0, questions=0, text=1)
    config = tiny_config(mix=mix, num_steps=60)
    out, given = tmp_path / "run", {"text": [tmp_path / "text.jsonl"], "quiet": True}
    train_language_model([world.tokens], world.model, out, config, **given)
    first, *_, last = metrics_of(out)
    # Two documents, the same but for a word: almost everything in them can be known.
    for name in ("image_loss", "text_loss"):
        assert last[name] < 0.2 * first[name]
    (tmp_path / "text.jsonl").write_text(json.dumps(rows[0]))  # another input
    with pytest.raises(UsageError, match="inputs"):
        train_language_model([world.tokens], world.model, out, config, **given)
