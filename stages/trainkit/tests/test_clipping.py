"""Gradient clipping."""

import pytest
import torch
from lavit_core.errors import LavitError
from lavit_trainkit.clipping import clip_gradients
from torch import nn


def test_gradient_that_is_no_number_is_refused() -> None:
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([float("nan"), 1.0])
    with pytest.raises(LavitError, match="gradient norm is nan, expected a finite number"):
        clip_gradients([weight], 1.0)
