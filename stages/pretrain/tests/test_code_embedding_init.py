"""Code embeddings that start at the mean features of their codes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lavit_core.tokens import TokenReader, open_tokens
from lavit_pretrain import code_embedding_init
from lavit_pretrain.build_network import build_network
from lavit_pretrain.code_embedding_init import mean_features
from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.corpus import open_corpus
from lavit_pretrain.language_model import load_llm
from lavit_pretrain.train_language_model import train_language_model

CODES = 24


def built(reader, config, seed: int = 0):
    return build_network(config, reader, open_corpus(reader, questions=[], text=[]), None, None, seed)


@pytest.fixture
def drawn_and_started(reader, tiny_config):
    return built(reader, tiny_config()), built(reader, tiny_config(code_rows="features"))


def rows_of(network) -> torch.Tensor:
    return network.llm.get_input_embeddings().weight.detach()[network.vocabulary.first_code :]


def test_means_against_a_loop(reader: TokenReader) -> None:
    mean_KD, seen_K = mean_features(reader, CODES + 1)
    codes, _ = reader.codes(np.arange(len(reader)))
    features = reader.features(np.arange(len(reader)))
    for code in range(CODES):
        own = features[codes == code]
        assert bool(seen_K[code]) == bool(len(own))
        if len(own):
            np.testing.assert_allclose(mean_KD[code], own.mean(0), atol=1e-5)
    assert not seen_K[CODES]


def test_codes_that_look_alike_start_alike(drawn_and_started: Any, reader: TokenReader) -> None:
    drawn, started = drawn_and_started
    mean_KD, seen_K = mean_features(reader, CODES)
    assert seen_K.sum() == CODES - 1, "one code of this world does not occur"
    with torch.no_grad():
        shown_KH = started.projector(mean_KD)
    shown_KH = shown_KH - shown_KH[seen_K].mean(0)
    near = torch.nn.functional.cosine_similarity(rows_of(started), shown_KH)[seen_K]
    assert near.min() > 0.8
    assert torch.nn.functional.cosine_similarity(rows_of(drawn), shown_KH).abs().mean() < 0.3
    assert torch.equal(rows_of(started)[~seen_K], rows_of(drawn)[~seen_K])
    # As large as drawn ones, and every other weight as it was.
    assert float(rows_of(started).std()) == pytest.approx(float(rows_of(drawn).std()), rel=0.05)
    own, other = dict(drawn.named_parameters()), dict(started.named_parameters())
    tables = {"llm.model.embed_tokens.weight", "llm.lm_head.weight"} & own.keys()
    assert len(tables) == 2, "the tables of an untied model"
    for name, value in own.items():
        first = drawn.vocabulary.first_code if name in tables else len(value)
        assert torch.equal(value[:first], other[name][:first]), name
        if name in tables:
            assert not torch.equal(value[first:], other[name][first:]), name


def test_tied_tables_move_once(reader: TokenReader, tiny_config: Callable[..., PretrainConfig]) -> None:
    shape = tiny_config().llm.model_copy(update={"tie_embeddings": True})
    drawn = built(reader, tiny_config(llm=shape))
    twice = built(reader, tiny_config(llm=shape, code_rows="features"))
    assert float(rows_of(twice).std()) == pytest.approx(float(rows_of(drawn).std()), rel=0.05)


@pytest.mark.parametrize("image_input", ["features", "codes", "none"])
def test_training_works_for_every_image_input(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path, image_input: str
) -> None:
    config = tiny_config(image_input=image_input, code_rows="features", num_steps=2)
    train_language_model([world.tokens], world.model, tmp_path / "run", config, questions=[world.questions], quiet=True)
    assert load_llm(tmp_path / "run" / "model", device="cpu").image_input == image_input


def test_code_embeddings_of_a_given_model_stay(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    config = tiny_config(num_steps=1)
    train_language_model([world.tokens], world.model, tmp_path / "first", config, quiet=True)
    learned = load_llm(tmp_path / "first" / "model", device="cpu")
    config = tiny_config(code_rows="features", num_steps=1, llm_lr=0.0, weight_decay=0.0)
    train_language_model(
        [world.tokens], world.model, tmp_path / "more", config, llm=tmp_path / "first" / "model" / "llm", quiet=True
    )
    assert torch.equal(rows_of(load_llm(tmp_path / "more" / "model", device="cpu")), rows_of(learned))


def test_without_features_code_embeddings_stay_random_with_a_warning(
    make_world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = open_tokens(make_world(tmp_path / "bare", features=False).tokens)
    found = built(bare, tiny_config(image_input="codes", code_rows="features"))
    assert "has no features for code embeddings to start at; they start at random" in capsys.readouterr().err
    assert torch.equal(rows_of(found), rows_of(built(bare, tiny_config(image_input="codes"))))
    assert not capsys.readouterr().err


def test_a_collapsed_codebook_leaves_code_embeddings_random(
    reader: TokenReader,
    tiny_config: Callable[..., PretrainConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mean_KD, _ = mean_features(reader, CODES)
    alone = mean_KD, torch.arange(CODES) == 3
    monkeypatch.setattr(code_embedding_init, "mean_features", lambda *_: alone)
    drawn, started = built(reader, tiny_config()), built(reader, tiny_config(code_rows="features"))
    assert torch.equal(rows_of(drawn), rows_of(started))
    assert "have one and the same code; code embeddings start at random" in capsys.readouterr().err
