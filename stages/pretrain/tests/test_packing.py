"""Packing documents into steps, and attention that stays inside a document."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from lavit_core.errors import UsageError
from lavit_pretrain.attention import use_packed, use_padded
from lavit_pretrain.documents import Document
from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.packed_loss import packed_loss
from lavit_pretrain.packing import Packer, collate, share_documents, share_step


def make_document(number: int) -> Document:
    rng = np.random.default_rng(number)
    length = int(rng.integers(5, 40))
    return Document(
        ids=rng.integers(0, 250, length),
        weights=(rng.random(length) < 0.5).astype(np.float32) * (np.arange(length) > 0),
    )


def test_steps_are_full_and_no_document_is_lost_or_repeated():
    seen = []
    packer = Packer(lambda number: seen.append(number) or make_document(number), 2048)
    tokens = [len(packer.next_batch().ids_T) for _ in range(30)]
    assert min(tokens) / 2048 >= 0.99
    assert seen == list(range(len(seen)))
    assert sum(tokens) + sum(len(document) for _, document in packer.waiting) == sum(
        len(make_document(n)) for n in seen
    )


@pytest.mark.parametrize("num_shares", [1, 2, 3, 7])
def test_shares_hold_every_document_once_and_about_as_many_tokens(num_shares):
    documents = [make_document(number) for number in range(60)]
    shares = share_documents(documents, num_shares)
    assert [document for share in shares for document in share] == documents
    sizes = [sum(map(len, share)) for share in shares]
    assert max(sizes) - min(sizes) <= max(map(len, documents))


@pytest.mark.parametrize(("num_batches", "processes"), [(1, 1), (4, 2), (2, 2), (1, 3), (2, 6), (3, 2)])
def test_processes_take_a_step_apart(monkeypatch, num_batches, processes):
    packer = Packer(make_document, 300)
    batches = [packer.next_batch() for _ in range(num_batches)]
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    taken = []
    for rank in range(processes):
        monkeypatch.setenv("RANK", str(rank))
        taken.append(share_step(batches))
    assert len({len(own) for own in taken}) == 1  # or they would wait for each other for ever
    if num_batches % processes and processes % num_batches:
        parts = [own[place] for place in range(num_batches) for own in taken]
    else:
        parts = [part for own in taken for part in own]
    assert torch.equal(torch.cat([part.ids_T for part in parts]), torch.cat([batch.ids_T for batch in batches]))
    assert torch.equal(torch.cat([part.weights_S for part in parts]), torch.cat([batch.weights_S for batch in batches]))


def test_no_process_is_left_without_a_document():
    longest = max((make_document(number) for number in range(60)), key=len)
    documents = [longest, *(make_document(0) for _ in range(3))]
    assert [len(share) for share in share_documents(documents, 4)] == [1, 1, 1, 1]
    assert all(share_documents([make_document(0)] * 3 + [longest], 3))
    with pytest.raises(UsageError, match=r"tokens_per_step: 4 documents fit one pass, expected .* the 5 processes"):
        share_documents(documents, 5)


def test_a_resumed_packer_goes_on_exactly():
    whole = Packer(make_document, 500)
    first = [whole.next_batch() for _ in range(7)]
    state = whole.state
    rest = [whole.next_batch().ids_T for _ in range(5)]
    again = Packer(make_document, 500, state)
    assert all(torch.equal(a, again.next_batch().ids_T) for a in rest)
    assert not torch.equal(first[0].ids_T, first[1].ids_T)


def test_a_document_longer_than_a_step_is_refused():
    long = Document(ids=np.zeros(11, np.int64), weights=np.ones(11, np.float32))
    with pytest.raises(UsageError, match="tokens_per_step: 10 tokens, but document 0 has 11"):
        Packer(lambda number: long, 10).next_batch()


@pytest.fixture
def network(random_llm: Callable[..., LanguageModel]) -> LanguageModel:
    return random_llm("features").train()


def with_features(document: Document, seed: int) -> Document:
    features = np.random.default_rng(seed).normal(size=(3, 8)).astype(np.float32)
    return Document(ids=document.ids, weights=document.weights, image=(1, 4), features=features)


def test_packed_loss_and_gradients_equal_documents_run_one_by_one_by_transformers(network):
    documents = [with_features(make_document(n), n) if n % 2 else make_document(n) for n in range(6)]
    model = network
    use_packed(model.llm)
    packed, _ = packed_loss(model, collate(documents))
    packed.backward()
    packed_grads = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    use_padded(model.llm)
    single = torch.zeros(())
    for document in documents:
        batch = collate([document])
        inputs = model.embed(batch.ids_T, batch.image_rows_F, batch.features_FD)
        logits = model.llm(inputs_embeds=inputs[None]).logits[0, batch.rows_S]
        each = torch.nn.functional.cross_entropy(logits, batch.targets_S, reduction="none")
        single = single + (each * batch.weights_S).sum()
    single.backward()
    # fp32, sums of about a hundred losses near 6: 1e-5 relative
    torch.testing.assert_close(packed, single, rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(packed_grads[name], parameter.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_grouped_query_attention_is_packed_too():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
    )
    llm = LlamaForCausalLM(config).eval()
    ids = torch.randint(0, 64, (1, 9))
    alone = llm.model(ids).last_hidden_state
    use_packed(llm)
    packed = llm.model(ids, position_ids=torch.arange(9)[None], cu_seq_lens_q=torch.tensor([0, 9])).last_hidden_state
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)


def test_a_document_does_not_see_its_neighbour(network):
    model = network
    use_packed(model.llm)
    one, two, other = make_document(1), make_document(2), make_document(3)
    _, with_two = packed_loss(model, collate([one, two]))
    _, with_other = packed_loss(model, collate([one, other]))
    own = int((one.weights > 0).sum())
    torch.testing.assert_close(with_two[:own], with_other[:own], rtol=1e-5, atol=1e-6)
