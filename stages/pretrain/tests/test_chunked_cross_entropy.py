import pytest
import torch
import torch.nn.functional as F
from lavit_pretrain.chunked_cross_entropy import chunked_cross_entropy


@pytest.mark.parametrize("chunk", [3, 7, 64])
def test_loss_and_gradients_equal_plain_cross_entropy(chunk: int) -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(20, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    targets, weights = torch.randint(0, 50, (20,)), torch.rand(20)
    total, each = chunked_cross_entropy(hidden, head, targets, weights, chunk=chunk)
    (total * 0.5).backward()
    grads = hidden.grad.clone(), head.grad.clone()
    hidden.grad = head.grad = None
    plain = F.cross_entropy(hidden @ head.T, targets, reduction="none")
    ((plain * weights).sum() * 0.5).backward()
    torch.testing.assert_close(each, plain.detach())
    torch.testing.assert_close(grads[0], hidden.grad)
    torch.testing.assert_close(grads[1], head.grad)


def test_bf16_autocast_stays_near_fp32_and_keeps_gradient_dtypes() -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(20, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    targets, weights = torch.randint(0, 50, (20,)), torch.ones(20)
    exact, _ = chunked_cross_entropy(hidden, head, targets, weights)
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = chunked_cross_entropy(hidden, head, targets, weights)
    total.backward()
    assert hidden.grad.dtype == head.grad.dtype == torch.float32
    assert float(total.detach()) == pytest.approx(float(exact.detach()), rel=1e-2)  # bf16 has 8 bits


def test_no_gradient_work_and_no_rows_are_fine() -> None:
    head = torch.randn(5, 4)
    total, each = chunked_cross_entropy(torch.zeros(0, 4), head, torch.zeros(0, dtype=torch.long), torch.zeros(0))
    assert float(total) == 0
    assert each.shape == (0,)
