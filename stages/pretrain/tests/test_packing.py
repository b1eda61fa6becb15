"""Packing documents into steps, and attention that stays inside a document."""

import dataclasses

import numpy as np
import pytest
import torch
from lavit_core.errors import UsageError
from lavit_pretrain.documents import Document
from lavit_pretrain.packing import Packer, collate, share_documents, share_step


def make_document(number: int) -> Document:
    rng = np.random.default_rng(number)
    length = int(rng.integers(5, 40))
    return Document(
        ids=rng.integers(0, 250, length),
        weights=(rng.random(length) < 0.5).astype(np.float32) * (np.arange(length) > 0),
    )


def test_steps_are_full_and_no_document_is_lost_or_repeated() -> None:
    seen = []
    packer = Packer(lambda number: seen.append(number) or make_document(number), 2048)
    tokens = [len(packer.next_batch().ids_T) for _ in range(30)]
    assert min(tokens) / 2048 >= 0.99
    assert seen == list(range(len(seen)))
    assert sum(tokens) + sum(len(document) for _, document in packer.waiting) == sum(
        len(make_document(n)) for n in seen
    )


@pytest.mark.parametrize("num_shares", [1, 2, 3, 7])
def test_shares_hold_every_document_once_and_about_as_many_tokens(num_shares: int) -> None:
    documents = [make_document(number) for number in range(60)]
    shares = share_documents(documents, num_shares)
    assert [document for share in shares for document in share] == documents
    sizes = [sum(map(len, share)) for share in shares]
    assert max(sizes) - min(sizes) <= max(map(len, documents))


@pytest.mark.parametrize(("num_batches", "processes"), [(1, 1), (4, 2), (2, 2), (1, 3), (2, 6), (3, 2)])
def test_processes_take_a_step_apart(monkeypatch: pytest.MonkeyPatch, num_batches: int, processes: int) -> None:
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


def test_no_process_is_left_without_a_document() -> None:
    longest = max((make_document(number) for number in range(60)), key=len)
    documents = [longest, *(make_document(0) for _ in range(3))]
    assert [len(share) for share in share_documents(documents, 4)] == [1, 1, 1, 1]
    assert all(share_documents([make_document(0)] * 3 + [longest], 3))
    with pytest.raises(UsageError, match=r"tokens_per_step: 4 documents fit one pass, expected .* the 5 processes"):
        share_documents(documents, 5)


def test_a_resumed_packer_goes_on_exactly() -> None:
    whole = Packer(make_document, 500)
    first = [whole.next_batch() for _ in range(7)]
    state = whole.state
    rest = [whole.next_batch().ids_T for _ in range(5)]
    again = Packer(make_document, 500, state)
    assert all(torch.equal(a, again.next_batch().ids_T) for a in rest)
    assert not torch.equal(first[0].ids_T, first[1].ids_T)


def test_a_document_longer_than_a_step_is_refused() -> None:
    long = Document(ids=np.zeros(11, np.int64), weights=np.ones(11, np.float32))
    with pytest.raises(UsageError, match="tokens_per_step: 10 tokens, but document 0 has 11"):
        Packer(lambda number: long, 10).next_batch()


def test_a_batch_reads_the_tail_and_scores_the_ids() -> None:
    documents = [make_document(number) for number in range(3)]
    tail = np.array([901, 902, 903])
    hidden = [documents[0], dataclasses.replace(documents[1], read_tail=tail), documents[2]]
    plain, batch = collate(documents), collate(hidden)
    end = len(documents[0]) + len(documents[1])
    expected = plain.ids_T.clone()
    expected[end - 3 : end] = torch.from_numpy(tail)
    assert torch.equal(batch.ids_T, expected)
    for name in ("rows_S", "targets_S", "weights_S", "positions_T"):
        assert torch.equal(getattr(batch, name), getattr(plain, name)), name
