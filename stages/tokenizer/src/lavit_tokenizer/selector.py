"""Token selector: which patches become tokens (paper section 3.1; local and global halves as in DynamicViT).

Letters: B images, P patches, D width.
"""

from collections.abc import Sequence

import torch
from lavit_core.errors import UsageError
from lavit_core.modeldir import SELECTIONS
from lavit_core.seeds import derive_seed
from lavit_trainkit.device import generator
from torch import Tensor, nn

from lavit_tokenizer.config import TokenizerConfig
from lavit_tokenizer.layers import NORM_EPS, init_transformer


class Selector(nn.Module):
    """MLP from patch features to log-probabilities of (keep, drop)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_conv = nn.Sequential(nn.LayerNorm(width, eps=NORM_EPS), nn.Linear(width, width), nn.GELU())
        self.out_conv = nn.Sequential(
            nn.Linear(width, width // 2),
            nn.GELU(),
            nn.Linear(width // 2, width // 4),
            nn.GELU(),
            nn.Linear(width // 4, 2),
            nn.LogSoftmax(dim=-1),
        )
        init_transformer(self, width)

    def start_at(self, keep_ratio: float) -> None:
        """Set the last bias so that an untrained selector keeps each patch with probability `keep_ratio`."""
        last = self.out_conv[4]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([keep_ratio, 1 - keep_ratio]).log())

    def forward(self, x_BPD: Tensor) -> Tensor:
        """Return log-probabilities [B, P, 2], class 0 = keep, in fp32 (decisions hang on them)."""
        with torch.autocast(x_BPD.device.type, enabled=False):
            return self.log_probabilities(x_BPD.float())

    def log_probabilities(self, x_BPD: Tensor) -> Tensor:
        """Return log-probabilities [B, P, 2] in the precision at hand (the meta device has no autocast)."""
        x_BPD = self.in_conv(x_BPD)
        half = x_BPD.shape[-1] // 2
        whole_image = x_BPD[..., half:].mean(dim=1, keepdim=True).expand(-1, x_BPD.shape[1], -1)
        return self.out_conv(torch.cat([x_BPD[..., :half], whole_image], dim=-1))


def topk_tokens(config: TokenizerConfig, tokens: int | None) -> int:
    """Return how many patches of each image `topk` keeps: `tokens`, or round(keep_ratio * P) where it is None.

    Raises UsageError if an image has fewer patches.
    """
    if tokens is None:
        return max(1, round(config.keep_ratio * config.num_patches))
    if not 1 <= tokens <= config.num_patches:
        raise UsageError(f"tokens: found {tokens}, expected 1 to {config.num_patches}, the patches of an image")
    return tokens


def select_patches(
    log_keep_BP2: Tensor, selection: str, config: TokenizerConfig, *, tokens: int | None = None, seed: int = 0,
    keys: Sequence[str] | None = None,
) -> Tensor:  # fmt: skip
    """Return the keep mask bool [B, P] of a selection policy; at least one patch an image.

    `tokens` is the number that `topk` keeps. Raises UsageError if `selection` is unknown, `tokens` are more than there
    are patches, or `sample` has no image keys.
    """
    if selection == "threshold":
        return select_threshold(log_keep_BP2, config.keep_threshold, config.least_share)
    if selection == "topk":
        return select_topk(log_keep_BP2, topk_tokens(config, tokens))
    if selection == "sample" and keys is not None:
        return select_sample(log_keep_BP2, seed=seed, keys=keys)
    if selection == "sample":
        raise UsageError("selection sample: expected the images' keys, found none")
    raise UsageError(f"selection {selection}: expected {', '.join(SELECTIONS[:-1])} or {SELECTIONS[-1]}")


def at_least_one(keep_BP: Tensor, score_BP: Tensor) -> Tensor:
    """Return the mask with the best-scored patch kept where none was: an image is never zero tokens."""
    best = score_BP.argmax(dim=1, keepdim=True)
    return keep_BP | (torch.zeros_like(keep_BP).scatter(1, best, True) & ~keep_BP.any(dim=1, keepdim=True))


def select_threshold(log_keep_BP2: Tensor, threshold: float, least_share: float = 0.0) -> Tensor:
    """Keep patches whose keep probability is at least `threshold`, and in any case as many of the best of each image as
    `least_share` of the sum of its keep probabilities; returns bool [B, P]."""
    log_keep = log_keep_BP2[..., 0]
    keep = at_least_one(log_keep.exp() >= threshold, log_keep)
    if not least_share:
        return keep
    return keep | select_best(log_keep_BP2, (least_share * log_keep.exp().sum(dim=1)).round().long())


def select_topk(log_keep_BP2: Tensor, count: int) -> Tensor:
    """Keep the `count` patches (at least one) with the highest keep probability, of equal ones the first; returns bool
    [B, P]."""
    return select_best(log_keep_BP2, torch.full(log_keep_BP2.shape[:1], max(1, count), device=log_keep_BP2.device))


def select_best(log_keep_BP2: Tensor, counts_B: Tensor) -> Tensor:
    """Keep as many patches of each image as its count [B] says, as `select_topk` does; returns bool [B, P]."""
    # Log-odds, since a keep probability near 1 is rounded to it, and a stable order, since topk's is any.
    odds = log_keep_BP2[..., 0] - log_keep_BP2[..., 1]
    order = odds.argsort(dim=1, descending=True, stable=True)
    within = torch.arange(odds.shape[1], device=odds.device) < counts_B[:, None]
    return torch.zeros_like(within).scatter(1, order, within)


def select_sample(log_keep_BP2: Tensor, *, seed: int, keys: Sequence[str]) -> Tensor:
    """Draw each patch from its keep probability (Gumbel), seeded by image key; returns bool [B, P].

    The noise depends on seed and key alone, never on the batch an image is in.
    """
    shape = log_keep_BP2.shape[1:]
    noise = torch.stack([gumbel(shape, generator(derive_seed(seed, "gumbel", key))) for key in keys])
    noisy = log_keep_BP2 + noise.to(log_keep_BP2.device)
    return at_least_one(noisy[..., 0] > noisy[..., 1], log_keep_BP2[..., 0])


def gumbel(shape: Sequence[int], stream: torch.Generator) -> Tensor:
    """Return standard Gumbel noise of a shape from a stream."""
    uniform = torch.rand(*shape, generator=stream).clamp_(1e-9, 1 - 1e-7)
    return -torch.log(-torch.log(uniform))


def gumbel_mask(log_keep_BP2: Tensor, noise_BP2: Tensor, tau: float) -> Tensor:
    """Return the straight-through mask [B, P]: hard 0 or 1 forward, softmax((log p + g) / tau) backward (eq. 1)."""
    soft = ((log_keep_BP2 + noise_BP2) / tau).softmax(dim=-1)[..., 0]
    hard = at_least_one(soft > 0.5, soft).to(soft.dtype)
    return hard + (soft - soft.detach())  # in this order the mask stays exactly 0 or 1
