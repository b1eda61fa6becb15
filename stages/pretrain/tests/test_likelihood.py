"""Likelihoods of texts after images, and of codes after texts, against one plain forward pass for every pair."""

from typing import Any

import numpy as np
import pytest
import torch
from lavit_core.errors import UsageError
from lavit_core.tokens import TokenReader
from lavit_pretrain import likelihood
from lavit_pretrain.encoded_images import EncodedImages
from lavit_pretrain.image_input import stored_images
from lavit_pretrain.language_model import load_llm
from lavit_pretrain.likelihood import (
    caption_log_likelihoods,
    code_log_likelihoods,
    paired_code_log_likelihoods,
    text_log_likelihoods,
)
from lavit_pretrain.sequence import reading_prompts
from lavit_pretrain.train_language_model import train_language_model

TEXTS = ["a red circle", "a blue square stands there", "circle", "", "there is a yellow triangle"]


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    def of(image_input: str):
        from lavit_pretrain.config import LlmShape, Mix, PretrainConfig

        shape = LlmShape(hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, max_positions=64,
                         text_vocab_size=300)  # fmt: skip
        # A blind model has nothing to draw and nothing to see.
        mix = Mix(text_to_image=0.0 if image_input == "none" else 0.3, image_to_text=0.7, questions=0.0, text=0.0)
        config = PretrainConfig(image_input=image_input, llm=shape, mix=mix, num_steps=2, tokens_per_step=128,
                                warmup_steps=1, precision="fp32")  # fmt: skip
        out = tmp_path_factory.mktemp("likelihood") / image_input
        train_language_model([world.tokens], world.model, out, config, quiet=True)
        return load_llm(out / "model", device="cpu")

    return of


@torch.inference_mode()
def plain(llm, images: EncodedImages, text: str) -> float:
    """The whole document in one pass, no cache, no padding."""
    ids = np.append(llm.codec.encode(text), llm.codec.eos)
    row = llm.embed_prompt(reading_prompts(llm.vocabulary, images, [ids], blind_eos=llm.blind_eos)[0])
    hidden = llm.decoder(inputs_embeds=row[None]).last_hidden_state[0]
    log_p = (hidden @ llm.head_VD.T).log_softmax(-1)
    places = range(len(row) - len(ids) - 1, len(row) - 1)
    return float(sum(log_p[place, token] for place, token in zip(places, ids, strict=True)))


@pytest.mark.parametrize("image_input", ["codes", "features"])
@pytest.mark.parametrize("rows", [1, 2, 64])
def test_against_a_plain_pass_of_every_pair(trained: Any, reader: TokenReader, image_input: str, rows: Any) -> None:
    llm = trained(image_input)
    images = stored_images(llm, reader, np.arange(3))
    found = np.stack(list(text_log_likelihoods(llm, images, TEXTS, rows=rows)))
    expected = [[plain(llm, images.take([place]), text) for text in TEXTS] for place in range(3)]
    # Sums of at most 30 float32 log-probabilities near -6: 1e-4 is their rounding.
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found.shape == (3, len(TEXTS))
    assert (found < 0).all()


@torch.inference_mode()
def plain_codes(llm, text: str, codes: np.ndarray) -> float:
    """`text [IMG] codes [/IMG]` in one pass: what stands after [IMG] is scored."""
    vocabulary, before = llm.vocabulary, np.append(llm.codec.encode(text), llm.vocabulary.img)
    ids = np.concatenate([before, vocabulary.to_ids(codes), [vocabulary.end_img]])
    hidden = llm.decoder(inputs_embeds=llm.embed(torch.from_numpy(ids))[None]).last_hidden_state[0]
    log_p = (hidden @ llm.head_VD.T).log_softmax(-1)
    return float(sum(log_p[place - 1, ids[place]] for place in range(len(before), len(ids))))


@pytest.mark.parametrize("image_input", ["codes", "features"])
@pytest.mark.parametrize(("rows", "head_rows"), [(1, 4096), (2, 3), (64, 4096)])
def test_codes_against_a_plain_pass_of_every_pair(
    trained: Any, reader: TokenReader, image_input: str, rows: Any, head_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "HEAD_ROWS", head_rows)
    llm = trained(image_input)
    gallery = [reader.codes(np.array([place]))[0] for place in range(4)] + [np.array([5])]
    assert len({len(codes) for codes in gallery}) > 1, "the padding is not tested"
    found = np.stack(list(code_log_likelihoods(llm, TEXTS, gallery, rows=rows)))
    expected = [[plain_codes(llm, text, codes) for codes in gallery] for text in TEXTS]
    # Sums of at most 65 float32 log-probabilities near -6: 1e-3 is ten times their rounding.
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert found.shape == (len(TEXTS), 5)
    assert (found < 0).all()


def test_a_prefix_is_read_once(trained: Any, reader: TokenReader, monkeypatch: pytest.MonkeyPatch) -> None:
    llm = trained("codes")
    lengths = []
    forward = llm.decoder.forward
    monkeypatch.setattr(
        llm.decoder, "forward", lambda **given: lengths.append(given["inputs_embeds"].shape) or forward(**given)
    )
    list(code_log_likelihoods(llm, TEXTS[:2], [np.arange(3)] * 5, rows=2))
    # Each of two texts: itself, then five images in batches of two.
    assert [shape[0] for shape in lengths] == [1, 2, 2, 1] * 2


def test_a_blind_model_is_refused(trained: Any) -> None:
    llm, nothing = trained("none"), EncodedImages(counts=np.zeros(1, np.int64))
    with pytest.raises(UsageError, match="trained without images"):
        next(text_log_likelihoods(llm, nothing, TEXTS))
    with pytest.raises(UsageError, match="trained without images"):
        next(code_log_likelihoods(llm, TEXTS, [np.arange(3)]))
    with pytest.raises(UsageError, match="trained without images"):
        caption_log_likelihoods(llm, nothing, ["a"])
    with pytest.raises(UsageError, match="trained without images"):
        paired_code_log_likelihoods(llm, ["a"], [np.arange(3)])


@pytest.mark.parametrize("image_input", ["codes", "features"])
@pytest.mark.parametrize("rows", [1, 2, 64])
def test_pairs_against_a_plain_pass_and_the_whole_matrix(
    trained: Any, reader: TokenReader, image_input: str, rows: Any
) -> None:
    llm = trained(image_input)
    images = stored_images(llm, reader, np.arange(len(TEXTS)))
    assert len({int(count) for count in images.counts}) > 1, "the padding is not tested"
    found = caption_log_likelihoods(llm, images, TEXTS, rows=rows)
    expected = [plain(llm, images.take([place]), text) for place, text in enumerate(TEXTS)]
    # Sums of at most 30 float32 log-probabilities near -6: 1e-4 is their rounding.
    np.testing.assert_allclose(found, expected, atol=1e-4)
    matrix = np.stack(list(text_log_likelihoods(llm, images, TEXTS)))
    np.testing.assert_allclose(found, matrix.diagonal(), atol=1e-4)


@pytest.mark.parametrize("rows", [1, 2, 64])
def test_pairs_of_codes_against_a_plain_pass_and_the_whole_matrix(trained: Any, reader: TokenReader, rows: Any) -> None:
    llm = trained("codes")
    gallery = [reader.codes(np.array([place]))[0] for place in range(4)] + [np.array([5])]
    found = paired_code_log_likelihoods(llm, TEXTS, gallery, rows=rows)
    np.testing.assert_allclose(
        found, [plain_codes(llm, text, codes) for text, codes in zip(TEXTS, gallery, strict=True)], atol=1e-3
    )
    np.testing.assert_allclose(found, np.stack(list(code_log_likelihoods(llm, TEXTS, gallery))).diagonal(), atol=1e-3)
