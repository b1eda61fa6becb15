"""Codebook: nearest code by cosine distance, k-means start, moving-average updates, restart of dead codes.

Letters: T vectors, K codes, C code width. Source: paper eq. 3; authors in jy0205/LaVIT issues 10 and 29.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNK = 1 << 22
"""Entries of the distance matrix computed at a time."""


class Quantizer(nn.Module):
    """K unit vectors. No gradient reaches them; `update` moves them."""

    def __init__(self, codebook_size: int, code_dim: int) -> None:
        super().__init__()
        self.register_buffer("codebook", F.normalize(torch.randn(codebook_size, code_dim), dim=1))
        self.register_buffer("ema_count", torch.ones(codebook_size))
        self.register_buffer("ema_sum", self.codebook.clone())
        self.codebook: Tensor
        self.ema_count: Tensor
        self.ema_sum: Tensor

    def forward(self, z_TC: Tensor) -> tuple[Tensor, Tensor]:
        """Return code vectors [T, C], their gradient passed straight to the unit vectors `z_TC`, and codes [T]."""
        codes_T = nearest(z_TC, self.codebook)
        return z_TC + (self.codebook[codes_T] - z_TC).detach(), codes_T

    @torch.no_grad()
    def start_from(self, z_TC: Tensor, *, iterations: int, stream: torch.Generator) -> None:
        """Initialise the codebook by k-means over unit vectors."""
        self.codebook.copy_(kmeans(z_TC, self.codebook.shape[0], iterations=iterations, stream=stream))
        counts = torch.bincount(nearest(z_TC, self.codebook), minlength=self.codebook.shape[0]).to(z_TC.dtype)
        # Scaled to one mean use per code: `update` only compares counts with their mean.
        self.ema_count.copy_(counts / counts.mean())
        self.ema_sum.copy_(self.codebook * self.ema_count[:, None])

    @torch.no_grad()
    def update(
        self, z_TC: Tensor, codes_T: Tensor, *, decay: float, restart_below: float, stream: torch.Generator
    ) -> int:
        """Move each code towards the mean of its vectors, restart codes of little use; return how many restarted."""
        num_codes = self.codebook.shape[0]
        share = num_codes / max(1, codes_T.numel())
        counts = torch.bincount(codes_T, minlength=num_codes).to(z_TC.dtype) * share
        sums = torch.zeros_like(self.ema_sum).index_add_(0, codes_T, z_TC) * share
        self.ema_count.lerp_(counts, 1 - decay)
        self.ema_sum.lerp_(sums, 1 - decay)
        dead = (self.ema_count < restart_below).nonzero().flatten()[: z_TC.shape[0]]
        if dead.numel():
            pick = torch.randperm(z_TC.shape[0], generator=stream)[: dead.numel()].to(z_TC.device)
            self.ema_sum[dead] = z_TC[pick]
            self.ema_count[dead] = 1.0
        self.codebook.copy_(F.normalize(self.ema_sum, dim=1))
        return int(dead.numel())


def nearest(z_TC: Tensor, codebook_KC: Tensor) -> Tensor:
    """Return int64 [T], argmin_k ||z - c_k||, always in fp32 (near-ties flip below it)."""
    with torch.autocast(z_TC.device.type, enabled=False):
        z, codes = z_TC.detach().float(), codebook_KC.float()
        bias = -0.5 * codes.square().sum(dim=1)
        rows = max(1, CHUNK // codes.shape[0])
        return torch.cat([torch.addmm(bias, part, codes.T).argmax(dim=1) for part in z.split(rows)])


def kmeans(z_TC: Tensor, num_codes: int, *, iterations: int, stream: torch.Generator) -> Tensor:
    """Return [K, C] unit centres of spherical k-means; an empty cluster restarts at a random vector."""
    start = torch.randperm(z_TC.shape[0], generator=stream)
    # Fewer vectors than codes: repeat them, the moving average and the restarts pull the copies apart.
    centres = z_TC[start.repeat(-(-num_codes // z_TC.shape[0]))[:num_codes]].clone()
    for _ in range(iterations):
        codes = nearest(z_TC, centres)
        sums = torch.zeros_like(centres).index_add_(0, codes, z_TC)
        empty = torch.bincount(codes, minlength=num_codes) == 0
        pick = torch.randint(z_TC.shape[0], (num_codes,), generator=stream).to(z_TC.device)
        centres = torch.where(empty[:, None], z_TC[pick], F.normalize(sums, dim=1))
    return centres


def usage(counts_K: Tensor) -> tuple[float, float]:
    """Return the share of codes that occur at all, and the perplexity of their distribution, from counts."""
    total = counts_K.sum().clamp_min(1)
    probabilities = counts_K[counts_K > 0].double() / total
    perplexity = float(torch.exp(-(probabilities * probabilities.log()).sum())) if probabilities.numel() else 0.0
    return float((counts_K > 0).double().mean()), perplexity
