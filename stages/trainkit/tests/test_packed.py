"""Packed attention against one attention call a segment."""

import pytest
import torch
from lavit_trainkit.packed import LOOP_FROM_ROWS, cumulative, looped_attention, packed_attention, padded_attention


def rows(count: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(count, 4, 16, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("lengths", [[5], [1, 9, 3], [0, 4, 2], [7, 7, 7]])
def test_padded_attention_against_the_loop(lengths: list[int]) -> None:
    cu = cumulative(torch.tensor(lengths))
    q, k, v = (rows(sum(lengths), seed) for seed in range(3))
    for causal in (False, True):
        padded = padded_attention(q, k, v, cu_q=cu, cu_k=cu, causal=causal)
        torch.testing.assert_close(
            padded, looped_attention(q, k, v, cu_q=cu, cu_k=cu, causal=causal), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("window", [1, 3, 8, 20])
def test_a_sliding_window_sees_the_last_keys_of_its_own_segment(window: int) -> None:
    cu = cumulative(torch.tensor([5, 9, 1]))
    outs = []
    for attention in (padded_attention, looped_attention):
        q, k, v = (rows(15, seed).requires_grad_() for seed in range(3))
        out = attention(q, k, v, cu_q=cu, cu_k=cu, causal=True, window=window)
        (out * rows(15, 9)).sum().backward()
        outs.append((out, q.grad, k.grad, v.grad))
    for padded, looped in zip(*outs, strict=True):
        torch.testing.assert_close(padded, looped, rtol=1e-4, atol=1e-6)
    q, k, v = (rows(15, seed) for seed in range(3))
    for first, last in ((0, 5), (5, 14), (14, 15)):
        for row in range(first, last):
            seen = slice(max(first, row - window + 1), row + 1)
            weights_HS = (torch.einsum("he,she->hs", q[row], k[seen]) / 16**0.5).softmax(-1)
            torch.testing.assert_close(
                outs[0][0][row], torch.einsum("hs,she->he", weights_HS, v[seen]), rtol=1e-4, atol=1e-6
            )


def test_cross_attention_with_an_empty_segment_gives_zeros() -> None:
    cu_q, cu_k = cumulative(torch.tensor([3, 2, 4])), cumulative(torch.tensor([2, 0, 5]))
    q, k, v = rows(9, 0), rows(7, 1), rows(7, 2)
    padded = padded_attention(q, k, v, cu_q=cu_q, cu_k=cu_k)
    torch.testing.assert_close(padded, looped_attention(q, k, v, cu_q=cu_q, cu_k=cu_k), rtol=1e-5, atol=1e-6)
    assert padded[3:5].abs().max() == 0
    assert padded[:3].abs().max() > 0


def test_gradients_against_the_loop() -> None:
    cu = cumulative(torch.tensor([3, 8, 1]))
    grads = []
    for attention in (padded_attention, looped_attention):
        q, k, v = (rows(12, seed).requires_grad_() for seed in range(3))
        (attention(q, k, v, cu_q=cu, cu_k=cu, causal=True) * rows(12, 9)).sum().backward()
        grads.append((q.grad, k.grad, v.grad))
    for padded, looped in zip(*grads, strict=True):
        torch.testing.assert_close(padded, looped, rtol=1e-4, atol=1e-6)


def test_neighbours_are_invisible() -> None:
    cu = cumulative(torch.tensor([4, 6]))
    q, k, v = (rows(10, seed) for seed in range(3))
    before = packed_attention(q, k, v, cu_q=cu, cu_k=cu)
    k[4:], v[4:] = rows(6, 7), rows(6, 8)
    after = packed_attention(q, k, v, cu_q=cu, cu_k=cu)
    assert torch.equal(before[:4], after[:4])
    assert not torch.equal(before[4:], after[4:])


def test_long_segments_take_the_loop() -> None:
    cu = cumulative(torch.tensor([LOOP_FROM_ROWS, 3]))
    q, k, v = (rows(LOOP_FROM_ROWS + 3, seed) for seed in range(3))
    chosen = packed_attention(q, k, v, cu_q=cu, cu_k=cu, causal=True)
    assert torch.equal(chosen, looped_attention(q, k, v, cu_q=cu, cu_k=cu, causal=True))


@pytest.mark.gpu
def test_variable_length_kernel_against_the_loop() -> None:
    cu = cumulative(torch.tensor([40, 3, 17])).cuda()
    q, k, v = (rows(60, seed, torch.bfloat16).cuda() for seed in range(3))
    for window in (None, 5):
        fused = packed_attention(q, k, v, cu_q=cu, cu_k=cu, causal=True, window=window)
        looped = looped_attention(q.float(), k.float(), v.float(), cu_q=cu, cu_k=cu, causal=True, window=window)
        # bfloat16 keeps 8 bits of mantissa: outputs near 1 differ by up to about 2e-2.
        torch.testing.assert_close(fused.float(), looped, rtol=2e-2, atol=2e-2)
