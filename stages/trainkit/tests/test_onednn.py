"""oneDNN's linear layers: which ones run there, and that they compute the same."""

import pytest
import torch
from lavit_trainkit.onednn import OnednnLinear, onednn_works
from torch import nn

pytestmark = pytest.mark.skipif(not onednn_works(), reason="this torch has no such kernel")


def calls(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    seen, real = [], torch.ops.mkldnn._linear_pointwise

    def count(x: torch.Tensor, *others: object) -> torch.Tensor:
        seen.append(x.shape)
        return real(x, *others)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", count)
    return seen


@pytest.mark.parametrize("bias", [True, False])
def test_it_computes_what_torch_does(monkeypatch: pytest.MonkeyPatch, bias: bool) -> None:
    seen, layer = calls(monkeypatch), nn.Linear(48, 20, bias=bias)
    x = torch.randn(3, 5, 48)
    with torch.no_grad():
        expected = layer(x)
        with OnednnLinear():
            found = layer(x)
    assert seen == [x.shape]
    # fp32: sums in another order.
    assert (found - expected).norm() / expected.norm() < 1e-6


def test_what_it_can_not_do_runs_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, layer = calls(monkeypatch), nn.Linear(8, 4)
    x = torch.randn(2, 8)
    with OnednnLinear():
        layer(x).sum().backward()
        with torch.no_grad():
            layer.to(torch.bfloat16)(x.to(torch.bfloat16))
            with torch.autocast("cpu", torch.bfloat16):
                nn.Linear(8, 4)(x)
            nn.Linear(8, 4)(x[:0])
    assert seen == []
    assert layer.weight.grad is not None
