import pytest
import torch
import torch.nn.functional as F
from lavit_pretrain.chunked_cross_entropy import chunk_rows, chunked_cross_entropy
from lavit_pretrain.head import Head


@pytest.mark.parametrize("chunk", [3, 7, 64])
@pytest.mark.parametrize("shaped", [{}, {"scale": 0.25}, {"cap": 2.0}, {"scale": 3.0, "cap": 2.0}])
@pytest.mark.parametrize("biased", [False, True])
def test_loss_and_gradients_equal_plain_cross_entropy(chunk: int, shaped: dict[str, float], biased: bool) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(20, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    leaves = [hidden, weight, torch.randn(50, requires_grad=True)][: 2 + biased]
    head = Head(*leaves[1:], **shaped)
    targets, weights = torch.randint(0, 50, (20,)), torch.rand(20)
    total, each = chunked_cross_entropy(hidden, head, targets, weights, chunk=chunk)
    (total * 0.5).backward()
    grads = [leaf.grad.clone() for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    logits = (hidden @ weight.T + (leaves[2] if biased else 0)) * shaped.get("scale", 1.0)
    if cap := shaped.get("cap"):
        logits = cap * torch.tanh(logits / cap)
    plain = F.cross_entropy(logits, targets, reduction="none")
    ((plain * weights).sum() * 0.5).backward()
    torch.testing.assert_close(each, plain.detach())
    for grad, leaf in zip(grads, leaves, strict=True):
        torch.testing.assert_close(grad, leaf.grad)


def test_bf16_autocast_stays_near_fp32_and_keeps_gradient_dtypes() -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(20, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    targets, weights = torch.randint(0, 50, (20,)), torch.ones(20)
    exact, _ = chunked_cross_entropy(hidden, Head(head), targets, weights)
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = chunked_cross_entropy(hidden, Head(head), targets, weights)
    total.backward()
    assert hidden.grad.dtype == head.grad.dtype == torch.float32
    assert float(total.detach()) == pytest.approx(float(exact.detach()), rel=1e-2)  # bf16 has 8 bits


def test_no_gradient_work_and_no_rows_are_fine() -> None:
    head = torch.randn(5, 4)
    total, each = chunked_cross_entropy(torch.zeros(0, 4), Head(head), torch.zeros(0, dtype=torch.long), torch.zeros(0))
    assert float(total) == 0
    assert each.shape == (0,)


def test_larger_vocabularies_have_fewer_rows_at_a_time() -> None:
    assert [chunk_rows(size) for size in (300, 48_386, 2 * 48_386, 10**12)] == [8192, 8192, 4096, 1]
