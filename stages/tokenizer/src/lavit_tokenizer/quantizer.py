"""Codebook: nearest code by cosine distance, k-means start, moving-average updates, restart of dead codes.

A factorised codebook is two small ones: each quantises one half of the vector, and code a * Kb + b is their pair. It is
still one number a patch, and a pair of entries that training never showed together has a code.

Letters: T vectors, K codes, C code width, F factors (1, or 2), R rows of all factors together, H = C / F.
Source: paper eq. 3; authors in jy0205/LaVIT issues 10 and 29.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNK = 1 << 22
"""Entries of the distance matrix computed at a time."""


class Quantizer(nn.Module):
    """Unit vectors, those of one factor after those of the other. No gradient reaches them; `update` moves them."""

    def __init__(self, codebook_size: int, code_dim: int, factors: Sequence[int] | None = None) -> None:
        super().__init__()
        self.sizes = list(factors or (codebook_size,))
        """Rows of each factor; their product is the codebook size."""
        rows, width = sum(self.sizes), code_dim // len(self.sizes)
        self.register_buffer("codebook", F.normalize(torch.randn(rows, width), dim=1))
        self.register_buffer("ema_count", torch.ones(rows))
        self.register_buffer("ema_sum", self.codebook.clone())
        self.codebook: Tensor
        """[R, H]: with one factor the K code embeddings [K, C]."""
        self.ema_count: Tensor
        self.ema_sum: Tensor

    def forward(self, z_TC: Tensor) -> tuple[Tensor, Tensor]:
        """Return code vectors [T, C], their gradient passed straight to the unit vectors `z_TC`, and codes [T]."""
        codes_T = self.codes(z_TC)
        return z_TC + (self.vectors(codes_T) - z_TC).detach(), codes_T

    def codes(self, z_TC: Tensor) -> Tensor:
        """Return the nearest code of each unit vector, int64 [T]."""
        books = self.codebook.split(self.sizes)
        found = [nearest(half, book) for half, book in zip(self._halves(z_TC), books, strict=True)]
        return found[0] if len(found) == 1 else found[0] * self.sizes[1] + found[1]

    def vectors(self, codes_T: Tensor) -> Tensor:
        """Return the code embeddings [T, C] of codes in [0, K)."""
        books = self.codebook.split(self.sizes)
        if len(books) == 1:
            return self.codebook[codes_T]
        rows = split_codes(codes_T, self.sizes)
        return torch.cat([book[own] for book, own in zip(books, rows, strict=True)], dim=1) * len(books) ** -0.5

    @torch.no_grad()
    def start_from(self, z_TC: Tensor, *, iterations: int, stream: torch.Generator) -> None:
        """Initialise the codebook by k-means over unit vectors."""
        for half, book, count, total in zip(self._halves(z_TC), *self._buffers_of_factors(), strict=True):
            book.copy_(kmeans(half, book.shape[0], iterations=iterations, stream=stream))
            counts = torch.bincount(nearest(half, book), minlength=book.shape[0]).to(half.dtype)
            # Scaled to one mean use per code: `update` only compares counts with their mean.
            count.copy_(counts / counts.mean())
            total.copy_(book * count[:, None])

    @torch.no_grad()
    def update(
        self, z_TC: Tensor, codes_T: Tensor, *, decay: float, restart_below: float, stream: torch.Generator
    ) -> int:
        """Move each row towards the mean of its vectors, restart rows of little use; return how many restarted."""
        restarted, rows = 0, split_codes(codes_T, self.sizes)
        for half, own, book, count, total in zip(self._halves(z_TC), rows, *self._buffers_of_factors(), strict=True):
            num_codes = book.shape[0]
            share = num_codes / max(1, own.numel())
            counts = torch.bincount(own, minlength=num_codes).to(half.dtype) * share
            sums = torch.zeros_like(total).index_add_(0, own, half) * share
            count.lerp_(counts, 1 - decay)
            total.lerp_(sums, 1 - decay)
            dead = (count < restart_below).nonzero().flatten()[: half.shape[0]]
            if dead.numel():
                pick = torch.randperm(half.shape[0], generator=stream)[: dead.numel()].to(half.device)
                total[dead] = half[pick]
                count[dead] = 1.0
            book.copy_(F.normalize(total, dim=1))
            restarted += int(dead.numel())
        return restarted

    def _halves(self, z_TC: Tensor) -> list[Tensor]:
        """Return the part of each factor of unit vectors, as unit vectors [T, H]."""
        if len(self.sizes) == 1:
            return [z_TC]
        return [half * len(self.sizes) ** 0.5 for half in z_TC.chunk(len(self.sizes), dim=1)]

    def _buffers_of_factors(self) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        """Return views of codebook, counts and sums by factor."""
        return self.codebook.split(self.sizes), self.ema_count.split(self.sizes), self.ema_sum.split(self.sizes)


def split_codes(codes_T: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Return the row of each factor that a code stands for: a and b of a * Kb + b, or the code alone."""
    return [codes_T] if len(sizes) == 1 else [codes_T // sizes[1], codes_T % sizes[1]]


def unit_vectors(z: Tensor, factors: Sequence[int] | None) -> Tensor:
    """Return vectors [..., C] scaled to unit length; of a factorised codebook each half has the same length."""
    if factors is None:
        return F.normalize(z, dim=-1)
    return torch.cat([F.normalize(half, dim=-1) for half in z.chunk(2, dim=-1)], dim=-1) * 0.5**0.5


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


def counts_by_factor(counts_K: Tensor, factors: Sequence[int] | None) -> list[Tensor]:
    """Return how often the entries of each factor occur, from the counts of codes; without factors these themselves."""
    if factors is None:
        return [counts_K]
    pairs = counts_K.view(*factors)
    return [pairs.sum(dim=1), pairs.sum(dim=0)]


def factor_usage(counts_K: Tensor, factors: Sequence[int] | None) -> dict[str, float]:
    """Return `code_usage` and `perplexity` of each factor (`_a`, `_b`) from counts of codes; none without factors.

    Few of the pairs of a factorised codebook are in use when all of its entries are.
    """
    if factors is None:
        return {}
    found = zip("ab", map(usage, counts_by_factor(counts_K, factors)), strict=True)
    return {
        f"{metric}_{name}": value
        for name, both in found
        for metric, value in zip(("code_usage", "perplexity"), both, strict=True)
    }
