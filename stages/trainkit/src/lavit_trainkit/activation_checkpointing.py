"""Activation checkpointing: a block's inner activations are dropped and computed again for the backward pass."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def run_block(block: Callable[..., Tensor], *inputs: object, recompute: bool) -> Tensor:
    """Return `block(*inputs)`; with `recompute` its inner activations are not kept for the backward pass.

    The block must draw nothing at random.
    """
    if not recompute or not torch.is_grad_enabled():
        return block(*inputs)
    again: Tensor = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
    return again
