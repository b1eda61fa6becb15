"""The moving average of weights."""

import pytest
from lavit_trainkit.ema import Ema
from torch import nn


def test_ema_moves_by_one_minus_decay() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 0.0)
    ema = Ema(module, decay=0.9)
    nn.init.constant_(module.weight, 1.0)
    ema.update(module)
    ema.copy_to(module)
    assert module.weight.item() == pytest.approx(0.1)


def test_a_restored_average_goes_on_where_it_was() -> None:
    module = nn.Linear(2, 2)
    ema, other = Ema(module, decay=0.9), Ema(nn.Linear(2, 2), decay=0.9)
    other.restore({name: value.clone() for name, value in ema.shadow.items()})
    assert all((other.shadow[name] == value).all() for name, value in ema.shadow.items())
