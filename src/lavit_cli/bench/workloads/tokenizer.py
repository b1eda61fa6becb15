"""The visual tokenizer at the published width: packed work beside the published masked formulation.

Baseline: all patches through every layer, masks multiplied into the softmax, its constant, as in the paper's section
3.1 and the released code (our own reference on the same weights).

Letters: B images, P patches, D width, T kept rows, C code width, K codes.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from lavit_tokenizer.api import TokenizerConfig, new_merger
from lavit_trainkit.device import generator, seed_init
from torch import Tensor, nn

from lavit_cli.bench.comparison import Arm, BenchSettings, Comparison, Skipped, equal_share, equal_within
from lavit_cli.bench.machine import DTYPES

IMAGES, PATCHES, KEPT = 8, 256, 83
WIDTH, MLP_DIM, HEADS = 1408, 6144, 16
RELEASED_EPS = 1e-6
LIMITS = {"fp32": 1e-5, "bf16": 1e-2}
"""Relative differences that two orders of the same sums may have."""
MERGER_GOALS = {"fp32": 6.0, "bf16": 12.0}


def compare(settings: BenchSettings) -> Iterator[Comparison | Skipped]:
    """Yield the comparisons of the tokenizer's parts."""
    yield from merger(settings)
    yield from nearest_code(settings)


def keep_masks(count: int, kept: float, stream: torch.Generator) -> Tensor:
    """Return random masks bool [count, P] that keep about `kept` patches each, at least one."""
    masks = torch.rand(count, PATCHES, generator=stream) < kept / PATCHES
    masks[:, 0] = True
    return masks


def features(count: int, stream: torch.Generator) -> Tensor:
    """Return random features [count, P, D]."""
    return torch.randn(count, PATCHES, WIDTH, generator=stream)


def merger_flops(layers: int, masks: Tensor) -> float:
    """Return the operations of a packed merger: products with kept rows, keys and values of dropped ones, attention."""
    kept = masks.sum(dim=1).double()
    dropped = masks.shape[1] - kept
    linear = kept * (6 * WIDTH**2 + 2 * WIDTH * MLP_DIM) + dropped * 2 * WIDTH**2
    attention = kept.square() * WIDTH + 2 * kept * dropped * WIDTH
    return float(2 * layers * (linear + attention).sum())


def merger(settings: BenchSettings) -> Iterator[Comparison]:
    """Yield the merger, packed against masked."""
    layers = 12 if settings.full else 2
    config = TokenizerConfig(feature_dim=WIDTH, mlp_dim=MLP_DIM, heads=HEADS, merger_layers=layers)
    seed_init(settings.seed, "merger")
    stream = generator(settings.seed, "bench", "merger")
    masked = new_merger(config).eval().requires_grad_(False).to(settings.device)
    x_BPD = features(IMAGES, stream).to(settings.device)
    keep_BP = keep_masks(IMAGES, KEPT, stream).to(settings.device)
    mask_BP = keep_BP.float()
    size = f"width {WIDTH}, {layers} blocks, {IMAGES} images, {int(keep_BP.sum())} of {keep_BP.numel()} kept"

    def published() -> Tensor:
        with torch.inference_mode():
            return masked.forward_masked(x_BPD, mask_BP, released_eps=RELEASED_EPS)[keep_BP]

    for dtype in settings.dtypes:
        packed = new_merger(config).eval().requires_grad_(False)
        packed.load_state_dict(masked.state_dict())
        packed = packed.to(settings.device, DTYPES[dtype])
        x = x_BPD.to(DTYPES[dtype])

        def ours(packed: nn.Module = packed, x: Tensor = x) -> Tensor:
            with torch.inference_mode():
                return packed(x, keep_BP)  # type: ignore[no-any-return]

        yield Comparison(
            name="merger",
            size=size,
            dtype=dtype,
            baseline=Arm(name="masked, all patches, fp32", run=published),
            ours=Arm(name=f"packed, {dtype}", run=ours),
            equal=equal_within(LIMITS[dtype]),
            unit="images",
            amount=IMAGES,
            flops=merger_flops(layers, keep_BP),
            goal=MERGER_GOALS[dtype],
        )


def nearest_code(settings: BenchSettings) -> Iterator[Comparison]:
    """Yield the nearest code of each vector, against the published distances, `argmin` and one-hot rows."""
    from lavit_tokenizer.api import Quantizer

    config = TokenizerConfig()
    stream = generator(settings.seed, "bench", "codes")
    vectors_TC = F.normalize(torch.randn(680, config.code_dim, generator=stream), dim=1).to(settings.device)
    seed_init(settings.seed, "codebook")
    quantizer = Quantizer(config.codebook_size, config.code_dim).to(settings.device)
    codebook_KC = quantizer.codebook

    def published() -> Tensor:
        squares = vectors_TC.square().sum(1, keepdim=True) + codebook_KC.square().sum(1)
        distances_TK = squares - 2 * torch.einsum("tc,kc->tk", vectors_TC, codebook_KC)
        codes_T = distances_TK.argmin(1)
        F.one_hot(codes_T, len(codebook_KC)).type(vectors_TC.dtype)
        return codes_T

    yield Comparison(
        name="nearest code",
        size=f"{len(vectors_TC)} vectors, {len(codebook_KC)} codes of {config.code_dim}",
        dtype="fp32",
        baseline=Arm(name="distances, one-hot rows", run=published),
        ours=Arm(name="products alone", run=lambda: quantizer.codes(vectors_TC)),
        equal=equal_share(1.0),
        unit="vectors",
        amount=len(vectors_TC),
    )
