"""LoRA: what is trained, what a checkpoint holds, and merged weights against the adapters."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lavit_core.errors import InputError, UsageError
from lavit_core.rundir import read_metrics
from lavit_pretrain.attention import disable_dropout
from lavit_pretrain.config import LoraSettings, PretrainConfig
from lavit_pretrain.document_isolation import choose_attention
from lavit_pretrain.language_model import LanguageModel, load_llm
from lavit_pretrain.lora import add_lora, merge_lora, trained_parameters
from lavit_pretrain.packed_loss import packed_loss
from lavit_pretrain.packing import collate
from lavit_pretrain.train_language_model import train_language_model
from lavit_trainkit.testing import Killed, have_equal_weights, kill_at_step, metrics_of
from safetensors.torch import load_file
from torch import Tensor

from .families import make, network_of
from .test_document_isolation import FAMILIES, SHAPES, documents, own_logits

LORA = LoraSettings(rank=4)


@pytest.fixture
def network(request: pytest.FixtureRequest) -> LanguageModel:
    family = request.param
    found = network_of(make(family, **SHAPES[family])).train()
    disable_dropout(found.llm)
    choose_attention(found, Path("llm"))
    return found


def logits(network: LanguageModel) -> Tensor:
    with torch.no_grad():
        return torch.cat([own_logits(network, document.ids) for document in documents()])


def train(network: LanguageModel, steps: int = 3) -> None:
    optimizer = torch.optim.AdamW(trained_parameters(network).values(), lr=0.02, weight_decay=0.1)
    for _ in range(steps):
        packed_loss(network.train(), collate(documents()))[0].backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("network", FAMILIES, indirect=True)
def test_adapters_start_at_nothing_and_merged_weights_give_the_unmerged_logits(network: LanguageModel) -> None:
    text_vocab, batch = network.vocabulary.text_vocab, collate(documents())
    before = {name: value.clone() for name, value in network.llm.state_dict().items()}
    with torch.no_grad():
        loss = packed_loss(network, batch)[0]
    add_lora(network.llm, LORA, text_vocab)
    with torch.no_grad():
        torch.testing.assert_close(packed_loss(network, batch)[0], loss, rtol=1e-6, atol=0)
    train(network)
    with torch.no_grad():
        assert packed_loss(network, batch)[0] < loss
    unmerged = logits(network)
    merge_lora(network.llm)
    torch.testing.assert_close(logits(network), unmerged, rtol=1e-4, atol=1e-4 * float(unmerged.abs().max()))
    after = network.llm.state_dict()
    assert after.keys() == before.keys()
    tables = {id(table.weight) for table in (network.llm.get_input_embeddings(), network.llm.get_output_embeddings())}
    for name, parameter in network.llm.named_parameters():
        if id(parameter) in tables:
            assert torch.equal(parameter[:text_vocab], before[name][:text_vocab]), name
            assert not torch.equal(parameter[text_vocab:], before[name][text_vocab:]), name


@pytest.mark.parametrize("network", ["llama"], indirect=True)
@pytest.mark.parametrize("change", [{"use_rslora": True}, {"use_dora": True}, {"target_modules": "q_proj,v_proj"}])
def test_variants_of_peft_train_and_merge(network: LanguageModel, change: dict[str, Any]) -> None:
    add_lora(network.llm, LoraSettings(rank=4, **change), network.vocabulary.text_vocab)
    adapted = {name.split(".lora_")[0].split(".")[-1] for name in trained_parameters(network) if ".lora_" in name}
    assert adapted == (
        {"q_proj", "v_proj"}
        if "target_modules" in change
        else {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    )
    train(network)
    unmerged = logits(network)
    merge_lora(network.llm)
    torch.testing.assert_close(logits(network), unmerged, rtol=1e-4, atol=1e-4 * float(unmerged.abs().max()))


@pytest.fixture(scope="module")
def trained(world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The language model folder of a finished run."""
    run = tmp_path_factory.mktemp("trained")
    train_language_model([world.tokens], world.model, run, tiny_config(), questions=[world.questions], quiet=True)
    return run / "model" / "llm"


def adapt(world: Any, config: PretrainConfig, llm: Path | None, out: Path) -> dict[str, Any]:
    return train_language_model(
        [world.tokens], world.model, out, config, questions=[world.questions], llm=llm, quiet=True
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_killed_runs_end_like_an_uninterrupted_one_and_store_what_they_train(
    world: Any,
    tiny_config: Callable[..., PretrainConfig],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
) -> None:
    config = tiny_config(lora={"rank": 2}, precision=precision)
    summary = adapt(world, config, trained, tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_at_step(patch, 9)
        with pytest.raises(Killed):
            adapt(world, config, trained, tmp_path / "killed")
    stored = load_file(tmp_path / "killed" / "checkpoints" / "step-00000005" / "model.safetensors")
    kinds = {name for name in stored if ".lora_" not in name}
    assert kinds == {
        "llm.model.embed_tokens.parametrizations.weight.original1",
        "llm.lm_head.parametrizations.weight.original1",
        "projector.weight",
        "projector.bias",
    }
    assert summary["trained_parameters"] == sum(value.numel() for value in stored.values())
    assert summary["trained_parameters"] < summary["parameters"]
    adapt(world, config, trained, tmp_path / "killed")
    assert metrics_of(tmp_path / "killed") == metrics_of(tmp_path / "whole")
    assert have_equal_weights(tmp_path / "whole" / "model" / "llm", tmp_path / "killed" / "model" / "llm")


def test_the_exported_model_is_a_plain_one_whose_text_rows_are_the_old_ones(
    world: Any, tiny_config: Callable[..., PretrainConfig], trained: Path, tmp_path: Path
) -> None:
    adapt(world, tiny_config(lora={"rank": 2}, num_steps=20, log_every=1), trained, tmp_path)
    losses = [row["loss"] for row in read_metrics(tmp_path)]
    assert sum(losses[-5:]) < sum(losses[:5])
    old, new = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path / "model" / "llm"))
    assert old.keys() == new.keys()
    text_vocab = load_llm(tmp_path / "model").vocabulary.text_vocab
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert torch.equal(old[name][:text_vocab], new[name][:text_vocab])
        assert not torch.equal(old[name][text_vocab:], new[name][text_vocab:])
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert {name for name in changed if "layers" in name} == {name for name in old if name.endswith("proj.weight")}


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"lora": {"rank": 2}, "optimizer": "muon"}, UsageError, "set optimizer to adamw"),
        ({"lora": {"rank": 2, "target_modules": "query"}}, UsageError, "lora.target_modules: query .*not found"),
        # peft adapts the first one, and says nothing of the other.
        ({"lora": {"rank": 2, "target_modules": "q_proj,query"}}, UsageError, "lora.target_modules: query not found"),
        ({"lora": {"rank": 2, "target_modules": "lm_head"}}, UsageError, "lm_head is a table of tokens"),
        ({"lora": {"rank": 2, "target_modules": "embed_tokens"}}, UsageError, "embed_tokens is a table of tokens"),
        ({"lora": {"lora_alpha": 4}}, UsageError, "lora.lora_alpha: 4 with lora.rank: 0, which adapts nothing"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    world: Any,
    tiny_config: Callable[..., PretrainConfig],
    trained: Path,
    tmp_path: Path,
    change: dict[str, Any],
    error: type[Exception],
    match: str,
) -> None:
    with pytest.raises(error, match=match):
        adapt(world, tiny_config(**change), trained, tmp_path)


def test_a_new_model_or_a_missing_peft_is_refused(
    world: Any,
    tiny_config: Callable[..., PretrainConfig],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny_config(lora={"rank": 2})
    with pytest.raises(UsageError, match="adapts a trained model; give it by --llm"):
        adapt(world, config, None, tmp_path)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else found(name))
    with pytest.raises(InputError, match="needs peft, which is not installed; run `pip install"):
        adapt(world, config, trained, tmp_path)
