"""oneDNN's linear layers: which ones run there, and that they compute the same; arranged weights too."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from lavit_trainkit.onednn import (
    ArrangedLinear,
    OnednnLinear,
    arrange_linears,
    arranging_works,
    onednn_works,
    unarrange_linears,
)
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


needs_arranging = pytest.mark.skipif(not arranging_works(torch.float32), reason="weights are not arranged here")


@needs_arranging
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_arranged_layers_compute_what_torch_does(bias: bool, dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(48, 70, bias=bias), nn.Tanh(), nn.Linear(70, 20, bias=bias)).to(dtype)
    model.requires_grad_(False)
    inputs = [torch.randn(*shape, 48).to(dtype) for shape in ((2, 1), (1, 7), (40,))]
    # Rows that do not lie one after another, as a decoder's last token.
    inputs.append(torch.randn(3, 5, 48).to(dtype)[:, -1])
    expected = [model(x) for x in inputs]
    arrange_linears(model)
    assert all(isinstance(layer, ArrangedLinear) for layer in model[::2])
    for x, one in zip(inputs, expected, strict=True):
        if dtype == torch.bfloat16:
            assert torch.equal(model(x), one)
        else:
            assert (model(x) - one).norm() / one.norm() < 1e-6


def fill(layer: nn.Linear) -> None:
    layer.weight.fill_(1.0)


def replace(layer: nn.Linear) -> None:
    layer.weight.data = torch.ones_like(layer.weight)


def load(layer: nn.Linear) -> None:
    layer.load_state_dict({"weight": torch.ones_like(layer.weight), "bias": layer.bias})


@needs_arranging
@pytest.mark.parametrize("change", [fill, replace, load])
def test_a_weight_that_changes_after_it_was_arranged_is_read_as_it_is(change: Callable[[nn.Linear], None]) -> None:
    layer = nn.Linear(8, 4).requires_grad_(False)
    arrange_linears(layer)
    x = torch.randn(2, 8)
    change(layer)
    assert torch.allclose(layer(x), x.sum(1, keepdim=True) + layer.bias)


@needs_arranging
def test_an_arranged_layer_that_is_to_learn_has_gradients() -> None:
    layer = nn.Linear(8, 4).requires_grad_(False)
    arrange_linears(layer)
    layer.weight.requires_grad_(True)
    layer(torch.ones(2, 8)).sum().backward()
    assert torch.equal(layer.weight.grad, torch.full((4, 8), 2.0))  # type: ignore[arg-type]


@needs_arranging
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_of_an_arranged_layer_hold_the_weight_once(copied: Callable[[nn.Linear], nn.Linear]) -> None:
    layer = nn.Linear(8, 4).requires_grad_(False)
    arrange_linears(layer)
    x, found = torch.randn(2, 8), copied(layer)
    assert isinstance(found, ArrangedLinear)
    assert found.arranged is None
    assert torch.allclose(found(x), layer(x), atol=1e-6)


@needs_arranging
def test_what_learns_is_not_arranged_and_what_is_left_is_a_layer_as_before() -> None:
    learning, frozen = nn.Linear(8, 4), nn.Linear(8, 4).requires_grad_(False)
    both = nn.ModuleList([learning, frozen])
    arrange_linears(both)
    assert [type(layer) for layer in both] == [nn.Linear, ArrangedLinear]
    unarrange_linears(both)
    assert [type(layer) for layer in both] == [nn.Linear, nn.Linear]
    frozen.weight.data.fill_(1.0)
    x = torch.randn(2, 8)
    assert torch.allclose(frozen(x), x.sum(1, keepdim=True) + frozen.bias)


@needs_arranging
def test_an_arranged_layer_passes_gradients_and_takes_autocast_and_no_rows() -> None:
    layer = nn.Linear(8, 4).requires_grad_(False)
    arrange_linears(layer)
    x = torch.randn(2, 8, requires_grad=True)
    layer(x).sum().backward()
    assert torch.allclose(x.grad, layer.weight.sum(0).expand(2, -1))  # type: ignore[arg-type]
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x.detach()).dtype == torch.bfloat16
    assert layer(x[:0].detach()).shape == (0, 4)
