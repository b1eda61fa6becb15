"""Codebook: nearest code, k-means, moving averages, restarts."""

import torch
import torch.nn.functional as F
from lavit_tokenizer.quantizer import Quantizer, counts_by_factor, factor_usage, kmeans, nearest, unit_vectors, usage


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


def halves(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return vectors of unit length whose halves are equally long."""
    return unit_vectors(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), (2, 2))


def test_codes_of_factors_against_a_table_of_all_pairs():
    quantizer, z = Quantizer(15, 8, (5, 3)), halves(200, 8)
    first, second = quantizer.codebook[:5], quantizer.codebook[5:]
    table = torch.stack([torch.cat([first[a], second[b]]) / 2**0.5 for a in range(5) for b in range(3)])
    torch.testing.assert_close(quantizer.vectors(torch.arange(15)), table)
    codes = quantizer.codes(z)
    assert torch.equal(codes, torch.cdist(z, table).argmin(1))
    assert len(codes.unique()) > 10
    read, again = quantizer(z.requires_grad_())
    assert torch.equal(again, codes)
    torch.testing.assert_close(read.detach(), table[codes])
    weights = torch.randn(200, 8)
    (read * weights).sum().backward()
    torch.testing.assert_close(z.grad, weights)


def test_update_moves_each_factor_as_a_codebook_of_its_own():
    """The plain reference: two quantisers of one factor, each on its half."""
    quantizer, z = Quantizer(15, 8, (5, 3)), halves(40, 8)
    sides = [Quantizer(5, 4), Quantizer(3, 4)]
    for side, rows in zip(sides, quantizer.codebook.split([5, 3]), strict=True):
        side.codebook.copy_(rows)
        side.ema_sum.copy_(rows)
    for step in range(30):
        codes, stream, same = quantizer.codes(z), *(torch.Generator().manual_seed(step) for _ in range(2))
        restarted = quantizer.update(z, codes, decay=0.8, restart_below=0.3, stream=stream)
        of_sides = 0
        for side, half, own in zip(sides, z.chunk(2, dim=1), (codes // 3, codes % 3), strict=True):
            assert torch.equal(own, side.codes(F.normalize(half, dim=1)))
            of_sides += side.update(F.normalize(half, dim=1), own, decay=0.8, restart_below=0.3, stream=same)
        assert restarted == of_sides
        z = halves(40, 8, seed=step + 1)
    for name in ("codebook", "ema_count", "ema_sum"):
        whole = torch.cat([getattr(side, name) for side in sides])
        torch.testing.assert_close(getattr(quantizer, name), whole)


def test_a_pair_that_training_never_showed_has_a_code():
    """Four kinds of one half and four of the other, of whose pairs (0, 0) is held out."""
    first, second = unit(4, 8, seed=1), unit(4, 8, seed=2)
    pairs = [(a, b) for a in range(4) for b in range(4) if (a, b) != (0, 0)]
    z = torch.stack([torch.cat([first[a], second[b]]) / 2**0.5 for a, b in pairs]).repeat(20, 1)
    new = torch.cat([first[0], second[0]]) / 2**0.5
    errors = {}
    for name, quantizer in (("flat", Quantizer(16, 16)), ("factors", Quantizer(16, 16, (4, 4)))):
        quantizer.start_from(z, iterations=10, stream=torch.Generator().manual_seed(0))
        shown, unseen = quantizer(z)[0], quantizer(new[None])[0]
        errors[name] = (1 - (shown * z).sum(1)).mean(), 1 - (unseen[0] * new).sum()
    assert max(errors["factors"]) < 1e-5
    assert errors["flat"][1] > 0.1


def test_usage_of_factors():
    counts = torch.tensor([[2, 0, 0], [0, 0, 2]])  # code a * 3 + b
    by_factor = counts_by_factor(counts.flatten(), (2, 3))
    assert [part.tolist() for part in by_factor] == [[2, 2], [2, 0, 2]]
    found = factor_usage(counts.flatten(), (2, 3))
    assert list(found) == ["code_usage_a", "perplexity_a", "code_usage_b", "perplexity_b"]
    assert (found["code_usage_a"], found["code_usage_b"]) == (1, 2 / 3)
    assert abs(found["perplexity_a"] - 2) + abs(found["perplexity_b"] - 2) < 1e-9
    assert counts_by_factor(counts.flatten(), None)[0].tolist() == [2, 0, 0, 0, 0, 2]
    assert factor_usage(counts.flatten(), None) == {}
