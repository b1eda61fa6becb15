import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lavit_core.errors import InputError, Interrupted, LavitError, UsageError
from lavit_core.modeldir import selection_of
from lavit_core.rundir import read_metrics
from lavit_core.tokens import open_tokens
from lavit_pretrain import packed_loss
from lavit_pretrain import train_language_model as module
from lavit_pretrain.build_network import build_network
from lavit_pretrain.captioning import answer, caption
from lavit_pretrain.config import Mix, PretrainConfig
from lavit_pretrain.image_input import stored_images
from lavit_pretrain.language_model import load_llm
from lavit_pretrain.text_tokenizer import train_text_tokenizer
from lavit_pretrain.train_language_model import train_language_model
from lavit_trainkit.testing import Killed, have_equal_weights, kill_at_step, metrics_of, stop_at_step
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer


def weights(run):
    folder = run / "model" / "llm"
    return {**load_file(folder / "model.safetensors"), **load_file(folder / "visual.safetensors")}


@pytest.mark.parametrize("image_input", ["codes", "features", "none"])
def test_every_input_trains_and_its_loss_falls(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path, image_input: str
) -> None:
    config = tiny_config(image_input=image_input, num_steps=30, log_every=1)
    summary = train_language_model(
        [world.tokens], world.model, tmp_path, config, questions=[world.questions], quiet=True
    )
    losses = [row["text_loss"] for row in read_metrics(tmp_path)]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert summary["steps"] == 30
    assert summary["per_second"] > 0
    assert summary["peak_memory_bytes"] > 0
    assert load_llm(tmp_path / "model").image_input == image_input


def test_the_model_reads_what_it_was_shown_and_is_a_plain_transformers_directory(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    config = tiny_config(num_steps=150, mix=Mix(text_to_image=0.375, image_to_text=0.125, questions=0.45, text=0.05))
    train_language_model(
        [world.tokens], world.model, tmp_path, config, questions=[world.questions], text=[world.text], quiet=True
    )
    llm = load_llm(tmp_path / "model")
    everyone = np.arange(48)
    images = stored_images(llm, open_tokens(world.tokens), everyone)
    expected = [("red", "green", "blue", "yellow")[colour] for colour in world.colours]
    answers = answer(llm, images, ["What colour is it?"] * 48)
    assert np.mean([a == b for a, b in zip(answers, expected, strict=True)]) > 0.9
    # One at a time, without padding, the same words.
    assert [answer(llm, images.take([i]), ["What colour is it?"])[0] for i in range(8)] == answers[:8]
    assert all(colour in text for colour, text in zip(expected[:8], caption(llm, images.take(range(8))), strict=True))
    assert len(answer(llm, None, ["What colour is it?"])) == 1

    folder = tmp_path / "model" / "llm"
    plain, text = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert plain.config.vocab_size == llm.vocabulary.total
    assert text.convert_tokens_to_ids(["[IMG]", "[/IMG]"]) == [llm.vocabulary.img, llm.vocabulary.end_img]
    assert "tokenizer" in json.loads((tmp_path / "model" / "lavit.json").read_text())["parts"]
    assert selection_of(tmp_path / "model") == ("topk", 3)  # as the token files say


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_killed_runs_end_like_an_uninterrupted_one(
    world: Any,
    tiny_config: Callable[..., PretrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
) -> None:
    config = tiny_config(accumulate_steps=2, precision="bf16", optimizer=optimizer)

    def run(name):
        return train_language_model(
            [world.tokens], world.model, tmp_path / name, config, questions=[world.questions], quiet=True
        )

    run("whole")
    with monkeypatch.context() as patch:
        kill_at_step(patch, 9)
        with pytest.raises(Killed):
            run("killed")
    assert read_metrics(tmp_path / "killed")[-1]["step"] == 8  # past the checkpoint at 5
    run("killed")
    assert metrics_of(tmp_path / "killed") == metrics_of(tmp_path / "whole")
    assert have_equal_weights(tmp_path / "whole" / "model" / "llm", tmp_path / "killed" / "model" / "llm")
    assert run("whole")["steps"] == 12  # a finished run does nothing


def test_a_stop_request_saves_and_ends_with_code_75(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at_step(monkeypatch, 4)
    with pytest.raises(Interrupted, match="at step 4 of 12, state saved"):
        train_language_model(
            [world.tokens], world.model, tmp_path, tiny_config(), questions=[world.questions], quiet=True
        )
    assert (tmp_path / "checkpoints" / "step-00000004").is_dir()


def test_a_run_killed_after_its_last_step_tells_that_steps_losses(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(num_steps=5)  # a checkpoint at 5, then the export

    def run(name):
        return train_language_model(
            [world.tokens], world.model, tmp_path / name, config, questions=[world.questions], quiet=True
        )

    def failing(*args, **kwargs):
        raise KeyboardInterrupt

    whole, original = run("whole"), module.export_part
    monkeypatch.setattr(module, "export_part", failing)
    with pytest.raises(KeyboardInterrupt):
        run("killed")
    monkeypatch.setattr(module, "export_part", original)
    killed = run("killed")
    told = {name for name in whole if name.endswith("loss")}
    assert {"loss", "image_loss", "text_loss"} == told
    assert {name: killed[name] for name in told} == {name: whole[name] for name in told}


def test_gradients_do_not_depend_on_how_a_step_is_cut(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    """Two passes of one document stream weigh every scored token equally, whatever their shares of scored tokens."""
    from lavit_pretrain.corpus import open_corpus
    from lavit_pretrain.documents import DocumentSource
    from lavit_pretrain.packing import collate

    config = tiny_config()
    reader = open_tokens(world.tokens)
    corpus = open_corpus(reader, questions=[world.questions], text=[])
    network = build_network(config, reader, corpus, None, None, 0)
    source = DocumentSource(corpus, network.vocabulary, network.codec, config, 0)
    documents = [source.document(n) for n in range(12)]
    weight = sum(float(document.weights.sum()) for document in documents)

    def gradients(parts):
        network.zero_grad()
        for part in parts:
            (packed_loss.packed_loss(network, collate(part))[0] / weight).backward()
        return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}

    whole, cut = gradients([documents]), gradients([documents[:3], documents[3:]])
    for name in whole:
        torch.testing.assert_close(whole[name], cut[name], rtol=1e-4, atol=1e-6)


def test_not_a_number_stops_with_one_line_and_keeps_the_checkpoint(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, count = packed_loss.packed_loss, 0

    def poisoned(*args):
        nonlocal count
        count += 1
        loss, each = original(*args)
        return (loss * float("nan"), each * float("nan")) if count == 8 else (loss, each)

    monkeypatch.setattr(packed_loss, "packed_loss", poisoned)
    with pytest.raises(LavitError, match="loss is nan at step 7") as caught:
        train_language_model(
            [world.tokens], world.model, tmp_path, tiny_config(), questions=[world.questions], quiet=True
        )
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    assert (tmp_path / "checkpoints" / "step-00000005").is_dir()


def test_tokens_of_another_tokenizer_are_refused(
    world: Any, make_world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    other = make_world(tmp_path / "other", 4, seed=1)
    with pytest.raises(InputError, match=r"made with tokenizer .* holds tokenizer"):
        train_language_model([world.tokens], other.model, tmp_path / "run", tiny_config(), quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_model_whose_tokenizer_was_swapped_is_refused(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    train_language_model([world.tokens], world.model, tmp_path, tiny_config(num_steps=1), quiet=True)
    part = tmp_path / "model" / "tokenizer"
    (part / "config.json").unlink()  # carried over by hard link: never write through it
    (part / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"llm: trained with tokenizer .*lavit pretrain"):
        load_llm(tmp_path / "model")


def test_settings_that_contradict_the_input_are_refused(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no kind of document has both a share above 0 and input"):
        train_language_model(
            [world.tokens],
            world.model,
            tmp_path / "a",
            tiny_config(mix=Mix(text_to_image=0, image_to_text=0, text=1)),
            quiet=True,
        )
    with pytest.raises(UsageError, match="live, but no images were given; add --data DIR"):
        train_language_model([world.tokens], world.model, tmp_path / "b", tiny_config(image_input="live"), quiet=True)
    assert not (tmp_path / "b").exists()  # so the corrected command can take the same --out
    with pytest.raises(InputError, match="found nothing, expected a folder of images or a list of them"):
        train_language_model(
            [world.tokens], world.model, tmp_path / "c", tiny_config(), questions=[tmp_path / "q"], quiet=True
        )
    with pytest.raises(InputError, match=r"no config.json here, expected a transformers directory for --llm"):
        train_language_model([world.tokens], world.model, tmp_path / "d", tiny_config(), llm=tmp_path, quiet=True)


def test_an_existing_language_model_gets_its_rows(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    train_language_model([world.tokens], world.model, tmp_path / "first", tiny_config(num_steps=2), quiet=True)
    grown = AutoModelForCausalLM.from_pretrained(tmp_path / "first" / "model" / "llm")
    text = AutoTokenizer.from_pretrained(tmp_path / "first" / "model" / "llm")
    source = tmp_path / "llm"
    text_rows = text.convert_tokens_to_ids("[IMG]")
    # A model as downloaded: text rows, and a few padding rows past its tokenizer.
    grown.resize_token_embeddings(text_rows + 7, mean_resizing=False)
    grown.save_pretrained(source)
    from lavit_pretrain.text_tokenizer import train_text_tokenizer

    plain = train_text_tokenizer(["a red circle"] * 3, 300)
    plain.save_pretrained(source)
    train_language_model(
        [world.tokens], world.model, tmp_path / "second", tiny_config(num_steps=2), llm=source, quiet=True
    )
    llm = load_llm(tmp_path / "second" / "model")
    assert llm.vocabulary.text_vocab == len(plain)
    assert llm.head_VD.shape[0] == len(plain) + 2 + 24


def test_gradient_checkpointing_changes_nothing_but_memory(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    for name, on in (("plain", False), ("checkpointed", True)):
        config = tiny_config(num_steps=3, gradient_checkpointing=on)
        train_language_model(
            [world.tokens], world.model, tmp_path / name, config, questions=[world.questions], quiet=True
        )
    plain, checkpointed = weights(tmp_path / "plain"), weights(tmp_path / "checkpointed")
    for name in plain:
        torch.testing.assert_close(plain[name], checkpointed[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["qwen2", "gpt_neox", "gemma", "gpt2"])
def test_other_families_of_language_models_train_and_answer(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path, family: str
) -> None:
    from lavit_pretrain.text_tokenizer import train_text_tokenizer

    torch.manual_seed(0)
    text = train_text_tokenizer(["a red circle"] * 3, 300)
    shape = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape |= {"max_position_embeddings": 128, "bos_token_id": None, "eos_token_id": text.eos_token_id}
    if family in ("qwen2", "gemma"):
        shape |= {"num_key_value_heads": 1, "head_dim": 16}
    if family != "gpt2":
        shape |= {"intermediate_size": 32}
    AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **shape)).save_pretrained(tmp_path / "llm")
    text.save_pretrained(tmp_path / "llm")
    settings = tiny_config(num_steps=40, log_every=1)
    train_language_model(
        [world.tokens],
        world.model,
        tmp_path / "run",
        settings,
        questions=[world.questions],
        llm=tmp_path / "llm",
        quiet=True,
    )
    losses = [row["text_loss"] for row in read_metrics(tmp_path / "run")]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    llm = load_llm(tmp_path / "run" / "model")
    images = stored_images(llm, open_tokens(world.tokens), np.arange(4))
    together = answer(llm, images, ["What colour is it?"] * 4)
    assert together == [answer(llm, images.take([i]), ["What colour is it?"])[0] for i in range(4)]


def test_a_list_of_tokens_trains_by_its_weights_and_joins_questions_by_its_names(
    world: Any, make_world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    other = make_world(tmp_path / "other", 12, seed=0)
    listed = tmp_path / "tokens.yaml"
    listed.write_text(f"sources: [{{data: {world.tokens}, name: a}}, {{data: {other.tokens}, name: b, weight: 3}}]")
    asked = tmp_path / "asked.jsonl"
    row = {"file_name": "b/images/0000.png", "question": "what is it?", "answer": "this"}
    asked.write_text(json.dumps(row))
    config = tiny_config(num_steps=2, checkpoint_every=1)
    summary = train_language_model([listed], world.model, tmp_path / "list", config, questions=[asked], quiet=True)
    assert summary["images"] == 48 + 3 * 12
    # Without names a question about this key could mean either image.
    row["file_name"] = "images/0000.png"
    asked.write_text(json.dumps(row))
    folders = [world.tokens, *[other.tokens] * 3]
    with pytest.raises(InputError, match="whose names keep keys apart"):
        train_language_model(folders, world.model, tmp_path / "plain", config, questions=[asked], quiet=True)
    # Weights are repetitions, so that the same draws are made.
    one = train_language_model([listed], world.model, tmp_path / "one", config, quiet=True)
    same = train_language_model(folders, world.model, tmp_path / "same", config, quiet=True)
    assert have_equal_weights(tmp_path / "one" / "model" / "llm", tmp_path / "same" / "model" / "llm")
    assert one["images"] == same["images"]
    listed.write_text(listed.read_text().replace("weight: 3", "weight: 2"))
    with pytest.raises(UsageError, match="tokens"):
        train_language_model([listed], world.model, tmp_path / "one", config, quiet=True)


@pytest.mark.parametrize(
    ("kind", "settings", "refused"),
    [
        ("gpt2", {"n_embd": 32, "n_head": 2, "n_layer": 1}, True),
        ("opt", {"hidden_size": 32, "ffn_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                 "word_embed_proj_dim": 32}, True),
        ("llama", {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
         False),
    ],
)  # fmt: skip
def test_a_document_longer_than_a_learned_table_of_positions_is_refused(
    world: Any,
    tiny_config: Callable[..., PretrainConfig],
    tmp_path: Path,
    kind: str,
    settings: dict[str, int],
    refused: bool,
) -> None:
    shape = AutoConfig.for_model(kind, **settings, vocab_size=300, max_position_embeddings=16)
    AutoModelForCausalLM.from_config(shape).save_pretrained(tmp_path / "llm")
    train_text_tokenizer(["a red circle"] * 2, 270).save_pretrained(tmp_path / "llm")
    config = tiny_config(num_steps=1)

    def train() -> None:
        train_language_model(
            [world.tokens], world.model, tmp_path / "run", config, llm=tmp_path / "llm", questions=[world.questions],
            quiet=True,
        )  # fmt: skip

    if not refused:
        return train()  # rotary positions are computed
    with pytest.raises(UsageError, match=r"document \d+ has \d+ tokens.* table of 16 positions; lower max_text_tokens"):
        train()
