"""The published formulation of what the tokenizer does otherwise, for the baselines."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from lavit_tokenizer.api import Encoder, published_encoder
from torch import Tensor

RELEASED_EPS = 1e-6
"""Constant of the released code's softmax."""


def nearest_published(z_TC: Tensor, codebook_KC: Tensor) -> Tensor:
    """Return codes [T]: the whole matrix of squared distances, its `argmin`, and rows of ones that nobody reads."""
    squares = z_TC.square().sum(1, keepdim=True) + codebook_KC.square().sum(1)
    codes_T = (squares - 2 * torch.einsum("tc,kc->tk", z_TC, codebook_KC)).argmin(1)
    F.one_hot(codes_T, len(codebook_KC)).type(z_TC.dtype)
    return codes_T


def random_encoder(layers: int) -> Encoder:
    """Return an encoder of the published shape with weights of the size that training gives them.

    transformers starts this network at 1e-10, where any two ways to compute it agree.
    """
    encoder = published_encoder(layers).eval()
    for weight in encoder.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.02)
    return encoder


def eager_encoder(encoder: Encoder) -> Encoder:
    """Return an encoder of transformers with the same weights (own tensors) and attention written out."""
    plain = copy.deepcopy(encoder)
    config: Any = plain.network.config
    config._attn_implementation = "eager"
    return plain
