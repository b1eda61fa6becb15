"""The loss of packed documents against documents run one by one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from lavit_pretrain.attention import use_packed, use_padded
from lavit_pretrain.documents import Document
from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.lean_llama import LeanNorm
from lavit_pretrain.packed_loss import packed_loss
from lavit_pretrain.packing import collate
from transformers.models.llama.modeling_llama import LlamaRMSNorm


def make_document(number: int) -> Document:
    rng = np.random.default_rng(number)
    length = int(rng.integers(5, 40))
    return Document(
        ids=rng.integers(0, 250, length),
        weights=(rng.random(length) < 0.5).astype(np.float32) * (np.arange(length) > 0),
    )


def with_features(document: Document, seed: int) -> Document:
    features = np.random.default_rng(seed).normal(size=(3, 8)).astype(np.float32)
    return Document(ids=document.ids, weights=document.weights, images=((1, 4),), features=features)


def test_packed_loss_and_gradients_equal_documents_run_one_by_one_by_transformers(network: LanguageModel) -> None:
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


def test_the_last_layer_computes_scored_rows_alone(network: LanguageModel) -> None:
    use_packed(network.llm)
    batch, rows = collate([make_document(n) for n in range(4)]), []
    for layer in network.decoder.layers:
        layer.mlp.register_forward_hook(lambda _module, given, _out: rows.append(given[0].shape[1]))
    packed_loss(network, batch)
    assert rows == [len(batch.ids_T)] * (len(rows) - 1) + [len(batch.rows_S)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lean_norm_equals_transformers(dtype: torch.dtype) -> None:
    stream = torch.Generator().manual_seed(0)
    norms = [LlamaRMSNorm(24).to(dtype), LlamaRMSNorm(24).to(dtype)]
    norms[1].__class__ = LeanNorm
    weight, x, grad = (torch.randn(shape, generator=stream).to(dtype) for shape in ((24,), (1, 50, 24), (1, 50, 24)))
    found = []
    for norm in norms:
        norm.weight.data.copy_(weight)
        given = x.clone().requires_grad_()
        out = norm(given)
        out.backward(grad)
        found.append((out, given.grad, norm.weight.grad))
    # bfloat16 sums are rounded once here and step by step by autograd: a few steps of 2 ** -8.
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 3e-2, "atol": 5e-2}
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance)


def test_a_document_does_not_see_its_neighbour(network: LanguageModel) -> None:
    model = network
    use_packed(model.llm)
    one, two, other = make_document(1), make_document(2), make_document(3)
    _, with_two = packed_loss(model, collate([one, two]))
    _, with_other = packed_loss(model, collate([one, other]))
    own = int((one.weights > 0).sum())
    torch.testing.assert_close(with_two[:own], with_other[:own], rtol=1e-5, atol=1e-6)


@pytest.fixture
def network(random_llm: Callable[..., LanguageModel]) -> LanguageModel:
    return random_llm("features").train()
