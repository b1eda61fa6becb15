"""Each family of language models: several documents at once against one at a time, by the model's own forward pass."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lavit_core.errors import InputError
from lavit_pretrain.attention import PACKED as PACKED_ATTENTION
from lavit_pretrain.attention import disable_dropout, document_bounds, use_packed, use_padded
from lavit_pretrain.captioning import write_greedily
from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.document_isolation import choose_attention
from lavit_pretrain.documents import Document
from lavit_pretrain.language_model import LanguageModel, build_llm, load_llm
from lavit_pretrain.likelihood import score_continuations
from lavit_pretrain.packed_loss import packed_loss
from lavit_pretrain.packing import collate
from lavit_pretrain.sequence import drawing_prefix
from lavit_pretrain.text_tokenizer import train_text_tokenizer
from lavit_pretrain.train_language_model import train_language_model
from torch import Tensor

from .families import PACKED, PADDED, RECURRENT, make, network_of

QUICK = {"llama", "mistral", "gpt2", "gemma3", "cohere", "granite", "phi", "qwen3_moe", "gemma2", "gpt_oss", "bloom"}
"""Families whose tests are not slow: each has something that no other has."""

SHAPES = {**PACKED, **{family: shape for family, (shape, _) in PADDED.items()}}
FAMILIES = [
    pytest.param(family, id=family, marks=() if family in QUICK else pytest.mark.slow) for family in sorted(SHAPES)
]
LENGTHS = [11, 3, 9, 4]


@pytest.fixture
def chosen(request: pytest.FixtureRequest) -> LanguageModel:
    """A network of the family, as training has it before the first step."""
    family = request.param
    network = network_of(make(family, **SHAPES[family])).train()
    disable_dropout(network.llm)
    choose_attention(network, Path("llm"))
    return network


def documents() -> list[Document]:
    rng = np.random.default_rng(1)
    ids = [rng.integers(1, 264, length) for length in LENGTHS]
    return [Document(ids=each, weights=(np.arange(len(each)) > 0).astype(np.float32)) for each in ids]


def own_logits(network: LanguageModel, ids: np.ndarray) -> Tensor:
    """Logits [T, V] of the family's own forward pass over one document."""
    llm: Any = network.llm
    llm.set_attn_implementation("eager")
    logits: Tensor = llm.eval()(input_ids=torch.from_numpy(ids)[None], use_cache=False).logits[0]
    return logits


def own_loss(network: LanguageModel) -> Tensor:
    total = torch.zeros(())
    for document in documents():
        targets = torch.from_numpy(document.ids[1:])
        total = total + torch.nn.functional.cross_entropy(
            own_logits(network, document.ids)[:-1], targets, reduction="sum"
        )
    return total


def gradients(network: LanguageModel, loss: Tensor) -> dict[str, Tensor]:
    network.zero_grad()
    loss.backward()
    return {name: value.grad.clone() for name, value in network.named_parameters() if value.grad is not None}


def require_equal_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    largest = max(float(value.abs().max()) for value in expected.values())
    for name, value in expected.items():
        assert float((found[name] - value).abs().max()) < 1e-5 * largest, name


@pytest.mark.parametrize("chosen", FAMILIES, indirect=True)
def test_packed_padded_and_single_documents_have_equal_losses_and_gradients(
    chosen: LanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    family = chosen.llm.config.model_type
    network, batch = chosen, collate(documents())
    assert (chosen.llm.config._attn_implementation == PACKED_ATTENTION) == (family in PACKED)
    together, _ = packed_loss(network.train(), batch)
    found = gradients(network, together)
    use_padded(network.llm)
    padded, _ = packed_loss(network, batch)
    found_padded = gradients(network, padded)
    alone = own_loss(network)
    expected = gradients(network, alone)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=0)
    torch.testing.assert_close(padded, alone, rtol=1e-5, atol=0)
    require_equal_gradients(found, expected)
    require_equal_gradients(found_padded, expected)


@pytest.mark.parametrize("chosen", FAMILIES, indirect=True)
@torch.no_grad()
def test_generation_and_likelihoods_are_those_of_the_models_own_forward_pass(chosen: LanguageModel) -> None:
    network, ids = chosen.eval(), [document.ids for document in documents()]
    use_padded(network.llm)
    written = write_greedily(network, [network.embed(torch.from_numpy(each)) for each in ids], 6)
    scores = score_continuations(network, [network.embed(torch.from_numpy(ids[0]))], ids[1:], rows=2)
    text_vocab, eos = network.vocabulary.text_vocab, network.codec.eos
    for each, text in zip(ids, written, strict=True):
        expected: list[int] = []
        while len(expected) < 6 and eos not in expected:
            read = np.concatenate([each, np.array(expected, np.int64)])
            expected.append(int(own_logits(network, read)[-1, :text_vocab].argmax()))
        assert text == network.codec.decode(expected)
    for after, score in zip(ids[1:], scores, strict=True):
        log_p = own_logits(network, np.concatenate([ids[0], after]))[len(ids[0]) - 1 : -1].log_softmax(-1)
        assert score == pytest.approx(float(log_p.gather(1, torch.from_numpy(after)[:, None]).sum()), rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_new_rows_leave_the_old_logits_as_they_are(
    family: str, tmp_path: Path, tiny_config: Callable[..., PretrainConfig]
) -> None:
    model = make(family, **SHAPES[family]).eval()
    model.save_pretrained(tmp_path)
    train_text_tokenizer(["a"], 258).save_pretrained(tmp_path)
    grown, text, vocabulary = build_llm(tiny_config().llm, tmp_path, [], 24)
    old = vocabulary.text_vocab
    assert (old, vocabulary.total) == (len(text) - 2, len(text) + 24)
    assert grown.get_input_embeddings().weight.shape[0] == vocabulary.total
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert (grown.get_output_embeddings().weight is grown.get_input_embeddings().weight) == tied
    ids = torch.arange(1, 12)[None]
    with torch.no_grad():
        before, after = (each.eval()(input_ids=ids).logits for each in (model, grown))
    assert after.shape[-1] == vocabulary.total
    torch.testing.assert_close(after[..., :old], before[..., :old], rtol=1e-4, atol=1e-4)
    assert grown.config.get_text_config().vocab_size == vocabulary.total


def test_the_table_in_the_documentation_is_what_the_tests_run() -> None:
    page = Path(__file__).parents[3] / "docs" / "parts.md"
    section = page.read_text().split("## Language models")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| `")]
    told = {row[0].strip("`"): row[1:] for row in rows}
    expected = {family: ["packed", "yes", "yes", "yes", ""] for family in PACKED}
    expected |= {family: ["padded", "yes", "yes", "yes", reason] for family, (_, reason) in PADDED.items()}
    recurrent = ["refused", "no", "no", "no", "recurrent: it carries a state from token to token"]
    assert told == {**expected, **dict.fromkeys(RECURRENT, recurrent)}


@pytest.mark.parametrize("family", sorted(PADDED))
def test_padding_is_said_with_its_reason(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    shape, reason = PADDED[family]
    network = network_of(make(family, **shape))
    disable_dropout(network.llm)
    choose_attention(network, Path("llm"))
    said = capsys.readouterr().err
    assert "llm: documents are padded" in said
    assert reason in said


@torch.no_grad()
def test_the_window_is_what_makes_the_difference() -> None:
    wide, narrow = (make("mistral", **{**PACKED["mistral"], "sliding_window": window}) for window in (None, 4))
    narrow.load_state_dict(wide.state_dict())
    logits = []
    for model in (wide, narrow):
        use_packed(model)
        ids = torch.arange(1, 12)
        logits.append(model(input_ids=ids[None], cu_seq_lens_q=document_bounds([11]), use_cache=False).logits[0])
    torch.testing.assert_close(logits[0][:4], logits[1][:4], rtol=1e-4, atol=1e-4)
    assert (logits[0][4:] - logits[1][4:]).abs().max() > 0.1


@pytest.mark.parametrize("family", sorted(RECURRENT))
def test_recurrent_models_are_refused_with_the_reason(family: str) -> None:
    network = network_of(make(family, **RECURRENT[family]))
    with pytest.raises(InputError, match=f"a {family} model is recurrent") as caught:
        choose_attention(network, Path("llm"))
    assert "\n" not in str(caught.value)


def change_scale(llm: Any) -> None:
    llm.config.logit_scale = 0.5


def add_noise(llm: Any) -> None:
    llm.model.layers[0].mlp.forward = lambda x: torch.nn.functional.dropout(x, 0.5, llm.training)


def mix_rows(llm: Any) -> None:
    llm.model.layers[0].mlp.forward = lambda x: x.cumsum(0)


def take_no_embeddings(llm: Any) -> None:
    own = llm.model.forward
    llm.model.forward = lambda input_ids=None, inputs_embeds=None, **rest: own(input_ids=input_ids, **rest)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (change_scale, "gives other logits after a prompt that is padded"),
        (add_noise, "gives other logits in training, for several documents"),
        (mix_rows, "gives other logits after a prompt"),
        (take_no_embeddings, "can't be called on documents"),
    ],
)
def test_a_model_that_neither_way_computes_is_refused(change: Callable[[Any], None], reason: str) -> None:
    model = make("llama", **PACKED["llama"])
    change(model)
    with pytest.raises(InputError, match=reason):
        choose_attention(network_of(model), Path("llm"))


def test_a_window_that_never_reaches_the_attention_function_is_left_to_the_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = make("llama", **PACKED["llama"])
    model.config.sliding_window = 4096
    choose_attention(network_of(model), Path("llm"))
    assert "limits attention to the last 4096 tokens by a mask of its own" in capsys.readouterr().err
    assert model.config._attn_implementation != PACKED_ATTENTION


@pytest.mark.parametrize("family", ["gemma2", "gpt2"])
def test_pretrain_takes_a_family_and_the_result_generates(
    family: str, world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    make(family, **SHAPES[family]).save_pretrained(tmp_path / "llm")
    train_text_tokenizer(["a red circle"] * 3, 264).save_pretrained(tmp_path / "llm")
    config = tiny_config(num_steps=2, image_input="codes")
    train_language_model([world.tokens], world.model, tmp_path / "run", config, llm=tmp_path / "llm", quiet=True)
    network = load_llm(tmp_path / "run" / "model", device="cpu")
    prompt = drawing_prefix(network.vocabulary, network.codec.encode("a red circle"))
    [text] = write_greedily(network, [network.embed(torch.from_numpy(prompt))], 3)
    assert isinstance(text, str)


def test_pretrain_refuses_a_recurrent_model_with_exit_code_3(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    make("mamba", **{**RECURRENT["mamba"], "vocab_size": 300}).save_pretrained(tmp_path / "llm")
    train_text_tokenizer(["a red circle"] * 3, 300).save_pretrained(tmp_path / "llm")
    with pytest.raises(InputError, match="llm: a mamba model is recurrent: it carries a state") as caught:
        train_language_model(
            [world.tokens], world.model, tmp_path / "run", tiny_config(), llm=tmp_path / "llm", quiet=True
        )
    assert caught.value.exit_code == 3
