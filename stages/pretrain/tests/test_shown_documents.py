"""Documents as a person reads them: the tokens, letters and weights of the training's own documents."""

import numpy as np
from lavit_core.tokens import TokenSample
from lavit_pretrain.shown_documents import open_document_text, show_documents, spell

CAPTION = "see [IMG] and <eos>, é 日本"


def shown(reader, config, *, texts=("a red circle",), asked=None):
    text = open_document_text(None, [*texts, CAPTION] * 2, config, reader.manifest.codebook_size)
    codes, counts = reader.codes(np.arange(2))
    parts, masks = np.split(codes, np.cumsum(counts)[:-1]), reader.keep_masks(np.arange(2))
    features = np.split(reader.features(np.arange(2)), np.cumsum(counts)[:-1])
    samples = [
        TokenSample(key=key, codes=own, keep_mask=mask, texts=(CAPTION,), features=rows)
        for key, own, mask, rows in zip("ab", parts, masks, features, strict=True)
    ]
    return samples, show_documents(text, samples, reader.manifest, asked or {}, config, 0)


def words(document, kind="text"):
    return "".join(piece.text for piece in document.pieces if piece.kind == kind)


def test_every_kind_is_shown_with_its_letters_codes_and_weights(reader, tiny_config):
    asked = {1: [("What is it?", "a dog", "Its colour?", "brown")]}
    config = tiny_config(caption_drop=0.0, image_loss_weight=0.5)
    samples, documents = shown(reader, config, texts=["what is it a dog brown its colour"], asked=asked)
    assert [[one.kind for one in own] for own in documents] == [
        ["text_to_image", "image_to_text"],
        ["text_to_image", "image_to_text", "questions"],
    ]
    draws, describes, answers = documents[1]
    assert words(draws) == words(describes) == CAPTION
    assert [piece.text for piece in draws.pieces if piece.kind == "code"] == [str(code) for code in samples[1].codes]
    assert words(draws, "special") == "[IMG][/IMG]"
    assert words(describes, "special") == "[IMG][/IMG]<eos>"
    assert (draws.continuous, describes.continuous) == (False, True)
    # The image of a drawing is scored with its weight; of a description the words and the end.
    assert {piece.weight for piece in draws.pieces if piece.kind == "code"} == {0.5}
    assert [piece.weight for piece in describes.pieces if piece.kind != "text"] == [0] * (len(samples[1].codes) + 2) + [
        1
    ]
    # Of a conversation the last answer is scored, the turn before it is read.
    assert words(answers) == "Question: what is it? Answer: a dogQuestion: its colour? Answer: brown"
    assert "".join(piece.text for piece in answers.pieces if piece.weight) == " brown<eos>"


def test_hidden_words_are_marked(reader, tiny_config):
    _, documents = shown(reader, tiny_config(caption_word_drop=0.5))
    describes = documents[0][1]
    assert 0 < sum(piece.hidden for piece in describes.pieces) < len(describes.pieces)
    assert not any(piece.hidden for piece in describes.pieces if piece.kind == "code")


def test_questions_that_training_leaves_out_are_not_shown(reader, tiny_config):
    _, documents = shown(reader, tiny_config(max_text_tokens=8), asked={0: [("a long question " * 9, "yes")]})
    assert [one.kind for one in documents[0]] == ["text_to_image", "image_to_text"]


def test_a_letter_of_several_ids_is_whole_with_its_last(tiny_config):
    text = open_document_text(None, ["a"], tiny_config(), 8)
    pieces = [piece for piece, _ in spell(text.codec.encode("a日b"), text)]
    assert pieces[0] == "a"
    assert pieces[-2:] == ["日", "b"]
    assert len(pieces) == 5
