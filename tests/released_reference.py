"""The published formulation, written down once more, plainly: what imported weights are held against.

Straight from the paper's section 3.1 and the released inference code's numerics, on released names, without any module
of ours: softmax with an epsilon and a maximum over closed keys, all patches through every layer, fp32.
Letters: B images, N patches, D width, T kept patches.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]
EPS = 1e-6


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def norm(w: Weights, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)


def mlp(w: Weights, name: str, x: Tensor) -> Tensor:
    return linear(w, f"{name}.fc2", F.gelu(linear(w, f"{name}.fc1", x)))


def heads_of(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def mix(q: Tensor, k: Tensor, v: Tensor, policy: Tensor | None, bias: Tensor | float = 0.0) -> Tensor:
    """Attention of [B, H, L, E] rows; a policy (1 open, 0 closed) means the released epsilon softmax."""
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + bias
    if policy is None:
        weights = scores.softmax(-1)
    else:
        raised = (scores - scores.max(-1, keepdim=True).values).exp() * policy
        weights = (raised + EPS / scores.shape[-1]) / (raised.sum(-1, keepdim=True) + EPS)
    return (weights @ v).transpose(1, 2).flatten(2)


def blocks(w: Weights, prefix: str) -> range:
    return range(len({name.removeprefix(prefix).split(".")[0] for name in w if name.startswith(prefix)}))


def encode(w: Weights, pixels: Tensor, heads: int) -> Tensor:
    """Return features [B, N, D] of normalised pixels: the last block, before the final norm, without class token."""
    x = F.conv2d(
        pixels, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=w["patch_embed.proj.weight"].shape[-1]
    )
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x], dim=1) + w["pos_embed"]
    for i in blocks(w, "blocks."):
        at = f"blocks.{i}"
        y = norm(w, f"{at}.norm1", x, 1e-6)
        query = w[f"{at}.attn.q_bias"]
        bias = torch.cat([query, torch.zeros_like(query), w[f"{at}.attn.v_bias"]])
        q, k, v = (heads_of(part, heads) for part in F.linear(y, w[f"{at}.attn.qkv.weight"], bias).chunk(3, -1))
        x = x + linear(w, f"{at}.attn.proj", mix(q, k, v, None))
        x = x + mlp(w, f"{at}.mlp", norm(w, f"{at}.norm2", x, 1e-6))
    return x[:, 1:]


def keep(w: Weights, x: Tensor) -> Tensor:
    """Return the mask [B, N]: 1 where keep is the likelier class."""
    y = F.gelu(linear(w, "token_predictor.in_conv.1", norm(w, "token_predictor.in_conv.0", x)))
    half = y.shape[-1] // 2
    y = torch.cat([y[..., :half], y[..., half:].mean(1, keepdim=True).expand(-1, y.shape[1], -1)], dim=-1)
    for layer in (0, 2):
        y = F.gelu(linear(w, f"token_predictor.out_conv.{layer}", y))
    scores = linear(w, "token_predictor.out_conv.4", y)
    return (scores[..., 0] >= scores[..., 1]).float()


def merge(w: Weights, x: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Return merged features [B, N, D], of which the kept rows count."""
    length = mask.shape[1]
    origin = norm(w, "causal_encoder.ln_vision", x)
    kept = mask[:, None, None, :]
    causal = (kept + (1 - kept) * torch.eye(length)) * torch.ones(length, length).tril()
    for i in blocks(w, "causal_encoder.blocks."):
        at = f"causal_encoder.blocks.{i}"
        qkv = linear(w, f"{at}.token_causal_attn.qkv", norm(w, f"{at}.norm0", x)).chunk(3, -1)
        q, k, v = (heads_of(part, heads) for part in qkv)
        x = x + linear(w, f"{at}.token_causal_attn.proj", mix(q, k, v, causal))
        q = heads_of(linear(w, f"{at}.token_cross_attn.query", norm(w, f"{at}.norm1", x)), heads)
        k, v = (heads_of(linear(w, f"{at}.token_cross_attn.{name}", origin), heads) for name in ("key", "value"))
        x = x + linear(w, f"{at}.token_cross_attn.proj", mix(q, k, v, 1 - kept))
        x = x + mlp(w, f"{at}.mlp", norm(w, f"{at}.norm2", x))
    return norm(w, "causal_encoder.norm", x)


def quantise(w: Weights, merged: Tensor) -> Tensor:
    """Return codes [T]: the nearest raw codebook row of the unit vector."""
    z = torch.tanh(linear(w, "encode_task_layer.0", merged))
    z = F.normalize(linear(w, "encode_task_layer.2", z), dim=-1)
    return torch.cdist(z.double(), w["quantize.embedding.weight"].double()).argmin(-1)


def decode(w: Weights, vectors: Tensor, counts: Tensor, heads: int) -> Tensor:
    """Return decoded features [B, N, F] of code vectors [T, C], padded to the longest image as released."""
    codes = linear(w, "in_proj", vectors).split(counts.tolist())
    longest = int(counts.max())
    padded = torch.stack([F.pad(rows, (0, 0, 0, longest - len(rows))) for rows in codes])
    padded = padded + w["pos_embed"][:, :longest]
    closed = (torch.arange(longest) >= counts[:, None])[:, None, None, :] * -1e4
    x = w["query_embed"].expand(len(counts), -1, -1)
    for i in blocks(w, "blocks."):
        at = f"blocks.{i}"
        qkv = linear(w, f"{at}.self_attn.qkv", norm(w, f"{at}.norm0", x)).chunk(3, -1)
        q, k, v = (heads_of(part, heads) for part in qkv)
        x = x + linear(w, f"{at}.self_attn.proj", mix(q, k, v, None))
        q = heads_of(linear(w, f"{at}.cross_attn.query", norm(w, f"{at}.norm1", x)), heads)
        k, v = (heads_of(linear(w, f"{at}.cross_attn.{name}", padded), heads) for name in ("key", "value"))
        x = x + linear(w, f"{at}.cross_attn.proj", mix(q, k, v, None, closed))
        x = x + mlp(w, f"{at}.mlp", norm(w, f"{at}.norm2", x))
    x = torch.tanh(linear(w, "decode_task_layer.0", norm(w, "norm", x)))
    return linear(w, "decode_task_layer.2", x)


def pool(w: Weights, x: Tensor, heads: int) -> Tensor:
    """Return CLIP's attention pooling [B, E]: the mean row asks."""
    x = torch.cat([x.mean(1, keepdim=True), x], dim=1) + w["unet_attnpool.positional_embedding"]
    q, k, v = (heads_of(linear(w, f"unet_attnpool.{name}_proj", x), heads) for name in "qkv")
    return linear(w, "unet_attnpool.c_proj", mix(q, k, v, None))[:, 0]
