"""A batch that is being continued: what is read once, and rows that leave it, against each row alone."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lavit_pretrain import shared_attention
from lavit_pretrain.attention import use_padded
from lavit_pretrain.decoding import DecodingBatch, distinct_prompts, shared_prefix
from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.shared_attention import Beginning, shared_forward
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig, LlamaForCausalLM

IDS = [[5, 6, 7, 8, 9, 10, 11], [5, 6, 7, 8, 9, 12], [20], [5, 6, 7, 8, 9, 10, 11], [5, 6, 7, 8, 9, 13, 14, 15]]


@pytest.fixture(scope="module")
def llm(random_llm: Callable[..., LanguageModel]) -> LanguageModel:
    llm = random_llm("codes")
    use_padded(llm.llm)
    return llm.eval().requires_grad_(False)


@pytest.fixture
def short_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beginnings of a few tokens are held once too."""
    monkeypatch.setattr(shared_attention, "SHORTEST", 1)


def alone(llm: LanguageModel, ids: list[int]) -> torch.Tensor:
    return llm.decoder(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0, -1]


@pytest.mark.parametrize("shortest", [1, 32])
def test_equal_prompts_and_what_they_begin_with_are_read_once(
    llm: LanguageModel, monkeypatch: pytest.MonkeyPatch, shortest: int
) -> None:
    monkeypatch.setattr(shared_attention, "SHORTEST", shortest)
    read = []
    forward = DecodingBatch._forward

    def counted(batch: DecodingBatch, inputs: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        read.append(tuple(inputs.shape[:2]))
        return forward(batch, inputs, positions)

    monkeypatch.setattr(DecodingBatch, "_forward", counted)
    batch = DecodingBatch(llm, [llm.embed(torch.tensor(ids)) for ids in IDS])
    torch.testing.assert_close(batch.start(), torch.stack([alone(llm, ids) for ids in IDS]))
    assert read == [(1, 5), (4, 3)]
    after = batch.extend(torch.tensor([30, 31, 32, 33, 34]))
    torch.testing.assert_close(after, torch.stack([alone(llm, [*ids, 30 + row]) for row, ids in enumerate(IDS)]))


@pytest.mark.parametrize("shortest", [1, 32])
def test_rows_leave(llm: LanguageModel, monkeypatch: pytest.MonkeyPatch, shortest: int) -> None:
    monkeypatch.setattr(shared_attention, "SHORTEST", shortest)
    batch = DecodingBatch(llm, [llm.embed(torch.tensor(ids)) for ids in IDS])
    batch.start()
    batch.extend(torch.tensor([30, 31, 32, 33, 34]))
    batch.keep(torch.tensor([1, 2, 4]))
    for token in range(40, 80):  # more than the room that was taken ahead
        hidden = batch.extend(torch.tensor([token] * 3))
    tail = list(range(40, 80))
    expected = [alone(llm, [*IDS[row], 30 + row, *tail]) for row in (1, 2, 4)]
    torch.testing.assert_close(hidden, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_a_prefix_is_shared_where_fewer_rows_are_read() -> None:
    def rows(*numbers: int) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.float32)[:, None]

    assert shared_prefix([rows(1, 2, 3), rows(1, 2, 4), rows(1, 2)]) == (1, [True, True, True])
    assert shared_prefix([rows(1, 2, 3, 4, 5), rows(1, 2, 3, 4, 6), rows(9)]) == (4, [True, True, False])
    assert shared_prefix([rows(1, 2), rows(3, 4)]) == (0, [False, False])
    assert shared_prefix([rows(1, 2, 3, 4), rows(5)]) == (0, [False, False])  # nobody shares it
    assert shared_prefix([rows(1)]) == (0, [False])
    found, places = distinct_prompts([rows(1, 2), rows(3), rows(1, 2), rows(1, 3)])
    assert ([len(one) for one in found], places) == ([2, 1, 2], [0, 1, 0, 2])


@pytest.mark.usefixtures("short_shared")
def test_a_shared_beginning_is_held_once(llm: LanguageModel) -> None:
    batch = DecodingBatch(llm, [llm.embed(torch.tensor(ids)) for ids in IDS])
    batch.start()
    assert batch._beginning is not None
    assert [keys.shape[1] for keys, _ in batch._beginning.layers] == [5] * len(batch._cache.layers)
    assert batch._cache.get_seq_length() == 3
    # A row that forgets everything begins anew, without what it shared.
    batch.forget(torch.tensor([True, False, False, False, False]))
    hidden = batch.extend(torch.tensor([30, 31, 32, 33, 34]))
    expected = [alone(llm, [30]), *(alone(llm, [*IDS[row], 30 + row]) for row in range(1, 5))]
    torch.testing.assert_close(hidden, torch.stack(expected))


@pytest.mark.parametrize(("first", "own", "held"), [(31, 2, False), (32, 2, True), (40, 40, True), (40, 41, False)])
def test_a_beginning_is_held_once_where_it_pays(llm: LanguageModel, first: int, own: int, held: bool) -> None:
    rows = [[*range(5, 5 + first), 60 + row, *range(5, 4 + own)] for row in range(2)]
    batch = DecodingBatch(llm, [llm.embed(torch.tensor(ids)) for ids in rows])
    torch.testing.assert_close(batch.start(), torch.stack([alone(llm, ids) for ids in rows]))
    assert (batch._beginning is not None) == held
    after = batch.extend(torch.tensor([30, 31]))
    torch.testing.assert_close(after, torch.stack([alone(llm, [*ids, 30 + row]) for row, ids in enumerate(rows)]))


def test_in_bf16_it_errs_no_more_than_the_fast_attention() -> None:
    torch.manual_seed(0)
    first = torch.randn(2, 4, 300, 128, dtype=torch.bfloat16)
    own = torch.randn(2, 3, 4, 5, 128, dtype=torch.bfloat16)
    query = 5 * torch.randn(3, 4, 2, 128, dtype=torch.bfloat16)  # scores of tens, where rounding shows
    mask = torch.ones(3, 1, 2, 305, dtype=torch.bool)
    layer: Any = SimpleNamespace(layer_idx=0)
    beginning = Beginning([(first[0], first[1])], mask[:, 0, 0, 0])
    found = shared_forward(layer, query, own[0], own[1], mask, beginning=beginning)[0].transpose(1, 2)
    key, value = (torch.cat([one.expand(3, -1, -1, -1), more], 2) for one, more in zip(first, own, strict=True))
    exact = scaled_dot_product_attention(query.double(), key.double(), value.double(), mask)

    def error(states: torch.Tensor) -> float:
        return float((states - exact).norm() / exact.norm())

    assert error(found) < 1.5 * error(scaled_dot_product_attention(query, key, value, mask))


@pytest.mark.usefixtures("short_shared")
def test_heads_that_share_keys_read_a_shared_beginning_too() -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    network: Any = LlamaForCausalLM(LlamaConfig(vocab_size=64, num_key_value_heads=2, **shape)).eval()
    use_padded(network)
    held: Any = SimpleNamespace(
        llm=network, decoder=network.model, device=network.device, embed=network.model.embed_tokens
    )
    batch = DecodingBatch(held, [held.embed(torch.tensor(ids)) for ids in IDS])
    with torch.no_grad():
        found = [batch.start(), batch.extend(torch.tensor([30, 31, 32, 33, 34]))]
        assert batch._beginning is not None
        torch.testing.assert_close(found[0], torch.stack([alone(held, ids) for ids in IDS]))
        expected = [alone(held, [*ids, 30 + row]) for row, ids in enumerate(IDS)]
    torch.testing.assert_close(found[1], torch.stack(expected))
