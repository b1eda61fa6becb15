"""Codebook: nearest code, k-means, moving averages, restarts."""

import torch
import torch.nn.functional as F
from lavit_tokenizer.quantizer import Quantizer, kmeans, nearest, usage


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_nearest_against_plain_distances(monkeypatch):
    z, codebook = unit(100, 8), torch.randn(40, 8)  # released codebooks are not normalised
    monkeypatch.setattr("lavit_tokenizer.quantizer.CHUNK", 40 * 7)
    assert torch.equal(nearest(z, codebook), torch.cdist(z, codebook).argmin(1))


def test_straight_through_passes_the_gradient():
    quantizer = Quantizer(16, 8)
    z = unit(20, 8).requires_grad_()
    read, codes = quantizer(z)
    torch.testing.assert_close(read.detach(), quantizer.codebook[codes])
    weights = torch.randn(20, 8)
    (read * weights).sum().backward()
    torch.testing.assert_close(z.grad, weights)
    assert not list(quantizer.parameters())


def test_kmeans_finds_separated_clusters():
    centres = F.normalize(torch.eye(8), dim=1)
    z = F.normalize(centres.repeat(50, 1) + 0.01 * unit(400, 8), dim=1)
    found = kmeans(z, 8, iterations=10, stream=torch.Generator().manual_seed(3))
    assert float((z @ found.T).amax(1).min()) > 0.7
    assert float((found.norm(dim=1) - 1).abs().max()) < 1e-6


def test_kmeans_with_fewer_vectors_than_codes():
    found = kmeans(unit(5, 8), 12, iterations=3, stream=torch.Generator().manual_seed(0))
    assert found.shape == (12, 8)
    assert bool(torch.isfinite(found).all())


def test_update_is_the_moving_average():
    quantizer = Quantizer(4, 3)
    z = unit(10, 3)
    count, total = quantizer.ema_count.clone(), quantizer.ema_sum.clone()
    codes = nearest(z, quantizer.codebook)
    quantizer.update(z, codes, decay=0.9, restart_below=0.0, stream=torch.Generator())
    for code in range(4):
        mine = z[codes == code]
        expected_sum = 0.9 * total[code] + 0.1 * mine.sum(0) * 4 / 10
        torch.testing.assert_close(quantizer.ema_sum[code], expected_sum)
        torch.testing.assert_close(quantizer.ema_count[code], 0.9 * count[code] + 0.1 * len(mine) * 4 / 10)
        torch.testing.assert_close(quantizer.codebook[code], F.normalize(expected_sum, dim=0))


def test_dead_codes_restart_at_vectors_of_the_batch():
    quantizer = Quantizer(8, 4)
    z = unit(1, 4).repeat(32, 1)
    quantizer.codebook.copy_(-unit(8, 4, seed=5))
    quantizer.codebook[3] = z[0]
    restarted = 0
    for step in range(30):
        codes = nearest(z, quantizer.codebook)
        stream = torch.Generator().manual_seed(step)
        restarted += quantizer.update(z, codes, decay=0.9, restart_below=0.1, stream=stream)
    assert restarted >= 7
    assert float((quantizer.codebook @ z[0]).min()) > 0.999


def test_usage_and_perplexity():
    share, perplexity = usage(torch.tensor([5, 5, 5, 5, 0, 0, 0, 0]))
    assert share == 0.5
    assert abs(perplexity - 4) < 1e-9
    assert usage(torch.zeros(4, dtype=torch.int64)) == (0.0, 0.0)
