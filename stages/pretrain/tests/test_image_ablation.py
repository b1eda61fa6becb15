"""The image ablation: the swap, its metrics, its warnings, and that training is not changed by it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lavit_core.rundir import read_metrics, read_warnings
from lavit_pretrain import image_ablation
from lavit_pretrain.build_network import build_network
from lavit_pretrain.config import Mix, PretrainConfig
from lavit_pretrain.corpus import open_corpus
from lavit_pretrain.documents import DocumentSource
from lavit_pretrain.image_ablation import is_check, measure_loss_increases
from lavit_pretrain.packed_loss import packed_loss
from lavit_pretrain.packing import collate
from lavit_pretrain.swapped_context import LOSS_INCREASES, can_swap, context_end, score_target, swap
from lavit_pretrain.train_language_model import train_language_model
from safetensors.torch import load_file


@pytest.fixture
def documents(world, reader, tiny_config):
    """A function that gives (network before training, 24 documents) for some settings."""

    def make(**changes):
        config = tiny_config(**changes)
        corpus = open_corpus(reader, questions=[world.questions], text=[])
        network = build_network(config, reader, corpus, None, None, 0)
        source = DocumentSource(corpus, network.vocabulary, network.codec, config, 0)
        return network, [source.document(number) for number in range(24)]

    return make


@pytest.mark.parametrize("image_input", ["codes", "features"])
def test_a_swap_takes_the_next_image_and_keeps_scored_tokens(documents: Any, image_input: str) -> None:
    network, some = documents(image_input=image_input)
    vocabulary = network.vocabulary
    own = [score_target(one, vocabulary) for one in some if can_swap(one, vocabulary)]
    assert {one.kind for one in own} == set(LOSS_INCREASES)
    for kind in LOSS_INCREASES:
        mine = [place for place, one in enumerate(own) if one.kind == kind]
        for place, other in zip(mine, mine[1:] + mine[:1], strict=True):
            kept, taken, made = own[place], own[other], swap(own, vocabulary)[place]
            cut, begin = context_end(taken, vocabulary), context_end(kept, vocabulary)
            assert made.ids.tolist() == [*taken.ids[:cut], *kept.ids[begin:]]
            assert made.ids[made.weights > 0].tolist() == kept.ids[kept.weights > 0].tolist()
            if kind == "text_to_image":
                codes = kept.ids[begin:]
                assert codes[0] == vocabulary.img
                assert (made.weights[cut:] > 0).tolist() == [False] + [True] * (len(codes) - 1)
            elif image_input == "features":
                assert made.features is taken.features
                assert made.images == taken.images
                [(first, last)] = made.images
                assert (made.ids[first - 1], made.ids[last]) == (vocabulary.img, vocabulary.end_img)
            assert not made.weights[:cut].any()


def plain(network, batch):
    return packed_loss(network, batch)[1]


def test_gains_of_an_untrained_and_of_a_blind_model(documents: Any) -> None:
    network, some = documents()
    found = measure_loss_increases(network, collate(some), plain)
    assert set(found) == set(LOSS_INCREASES.values())
    assert all(abs(gain) < 0.05 for gain in found.values())
    blind, some = documents(image_input="none")
    assert measure_loss_increases(blind, collate(some), plain) == {}


def test_dropout_draws_nothing_and_the_mode_comes_back(documents: Any) -> None:
    network, some = documents()
    network.train()
    before = torch.get_rng_state()
    network.llm.model.norm = torch.nn.Sequential(network.llm.model.norm, torch.nn.Dropout(0.5))
    measure_loss_increases(network, collate(some), plain)
    assert network.training
    assert torch.equal(torch.get_rng_state(), before)


def train(world, config, out, questions=None):
    return train_language_model(
        [world.tokens], world.model, out, config, questions=[questions or world.questions], quiet=True
    )


def test_measuring_changes_no_weight(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(num_steps=8)
    train(world, config, tmp_path / "without")
    monkeypatch.setattr(image_ablation, "CHECK_STEPS", 2)
    train(world, config, tmp_path / "with")
    one, two = (load_file(tmp_path / name / "model" / "llm" / "model.safetensors") for name in ("without", "with"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert "answer_gain" in read_metrics(tmp_path / "with")[-1]
    assert "answer_gain" not in read_metrics(tmp_path / "without")[-1]


def test_answers_that_need_no_image_are_warned_of_and_others_are_not(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_ablation, "CHECK_STEPS", 10)
    config = tiny_config(num_steps=120, log_every=5, mix=Mix(text_to_image=0, image_to_text=0, questions=1, text=0))
    train(world, config, tmp_path / "sees")
    assert read_metrics(tmp_path / "sees")[-1]["answer_gain"] > 0.3
    assert read_warnings(tmp_path / "sees") == []
    rows = [json.loads(line) for line in world.questions.read_text().splitlines()]
    told = tmp_path / "told.jsonl"  # the question gives its answer away
    told.write_text("".join(json.dumps({**row, "question": f"say {row['answer']}"}) + "\n" for row in rows))
    train(world, config, tmp_path / "blind", told)
    [found] = read_warnings(tmp_path / "blind")
    assert found["kind"] == "blind answers"
    assert "raise mix.questions or visual_lr" in found["message"]


def test_checks_are_a_function_of_the_step() -> None:
    assert [done for done in range(20, 1151, 20) if is_check(done, 20)] == list(range(100, 1151, 100))
    assert [done for done in range(30, 500, 30) if is_check(done, 30)] == [120, 240, 360, 480]
