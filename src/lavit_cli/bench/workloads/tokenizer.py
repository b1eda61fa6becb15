"""The visual tokenizer at the published width: packed work beside the published masked formulation.

Baseline: all patches through every layer, masks multiplied into the softmax with its constant, codes by distances, as
in the paper's section 3.1 and the released code (`published.py`, our own words for it). Real width, few layers.

Letters: B images, P patches, D width, T kept rows, C code width, K codes.
"""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from lavit_tokenizer.api import Loaded, Quantizer, TokenizerConfig, VisualTokenizer, new_merger
from lavit_trainkit.device import generator, seed_init
from lavit_trainkit.onednn import OnednnLinear
from torch import Tensor, nn

from lavit_cli.bench.comparison import Arm, BenchSettings, Comparison, Skipped, equal_share, equal_within
from lavit_cli.bench.machine import DTYPES
from lavit_cli.bench.workloads.goals import goal_here
from lavit_cli.bench.workloads.official import official_merger
from lavit_cli.bench.workloads.published import RELEASED_EPS, eager_encoder, nearest_published, random_encoder
from lavit_cli.bench.workloads.tokenizer_training import training

IMAGES, PATCHES, KEPT = 8, 256, 83
WIDTH, MLP_DIM, HEADS = 1408, 6144, 16
LIMITS = {"fp32": 1e-5, "bf16": 1e-2}
"""Relative differences that another order of sums, or bf16, may make."""
ONEDNN_FROM = 1.5
"""Ratio of oneDNN's fp32 product to torch's from which our fp32 arm takes it; it is 2.35 on that machine."""


def compare(settings: BenchSettings) -> Iterator[Comparison | Skipped]:
    """Yield the comparisons of the tokenizer's parts, and of the whole."""
    yield from merger(settings)
    yield released(settings)
    yield from scaling(settings)
    yield from nearest_code(settings)
    yield from encoder_blocks(settings)
    yield from whole(settings)
    yield from training(settings, 2.5)


def onednn_pays(settings: BenchSettings) -> bool:
    """Tell whether fp32 products are so much faster in oneDNN that preparing weights in every call does not matter."""
    return settings.speeds.get("fp32 oneDNN", 0.0) > ONEDNN_FROM * settings.speeds.get("fp32 torch", 1.0)


def kernels(dtype: str, settings: BenchSettings) -> AbstractContextManager[object]:
    """Return where our arm's linear layers run: in oneDNN's kernels for fp32 on a CPU where that pays."""
    return OnednnLinear() if dtype == "fp32" and onednn_pays(settings) else nullcontext()


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
    stream = generator(settings.seed, "bench", "merger")
    keep_BP = keep_masks(IMAGES, KEPT, stream)
    for dtype in settings.dtypes:
        yield merged(
            settings, dtype, keep_BP, layers=12 if settings.full else 2,
            goal=goal_here(12.0, settings) if dtype == "bf16" else 6.0 if onednn_pays(settings) else 3.0,
        )  # fmt: skip


def released(settings: BenchSettings) -> Comparison | Skipped:
    """Return the merger against the released code's own, where a clone is given."""
    if settings.official is None:
        return Skipped(name="merger of the released code", why="--official gives the folder of a clone")
    layers, dtype = 12 if settings.full else 2, settings.dtypes[-1]
    theirs = official_merger(settings.official, width=WIDTH, heads=HEADS, mlp_dim=MLP_DIM, layers=layers)
    keep_BP = keep_masks(IMAGES, KEPT, generator(settings.seed, "bench", "merger"))
    return merged(settings, dtype, keep_BP, layers=layers, official=theirs.eval().requires_grad_(False))


def scaling(settings: BenchSettings) -> Iterator[Comparison]:
    """Yield one block's merger over images, and over the share that is kept."""
    dtype, most = settings.dtypes[0], 32 if settings.full else 4
    sizes = [2**power for power in range(most.bit_length())]
    for images in sizes:
        stream = generator(settings.seed, "bench", "images", images)
        yield merged(settings, dtype, keep_masks(images, KEPT, stream), layers=1, curve="merger, images", at=images)
    for share in (1 / 8, 1 / 3, 2 / 3, 15 / 16):
        masks = keep_masks(2, share * PATCHES, generator(settings.seed, "bench", "share", str(share)))
        yield merged(settings, dtype, masks, layers=1, curve="merger, share kept", at=share)


def merged(
    settings: BenchSettings, dtype: str, keep_BP: Tensor, *, layers: int,
    goal: float | None = None, curve: str | None = None, at: float | None = None, official: nn.Module | None = None,
) -> Comparison:  # fmt: skip
    """Return the merger of some masks, packed against masked, or against the released code's own."""
    config = TokenizerConfig(feature_dim=WIDTH, mlp_dim=MLP_DIM, heads=HEADS, merger_layers=layers)
    seed_init(settings.seed, "merger")
    masked = new_merger(config).eval().requires_grad_(False).to(settings.device)
    packed = new_merger(config).eval().requires_grad_(False)
    packed.load_state_dict(masked.state_dict())
    packed = packed.to(settings.device, DTYPES[dtype])
    keep_BP = keep_BP.to(settings.device)
    x_BPD = features(len(keep_BP), generator(settings.seed, "bench", "features")).to(settings.device)
    low_BPD, mask_BP = x_BPD.to(DTYPES[dtype]), keep_BP.float()
    if official is not None:
        official.load_state_dict(masked.state_dict())
        official.to(settings.device)

    def from_clone() -> Tensor:
        assert official is not None
        with torch.inference_mode():
            return official(x_BPD, mask_BP)[keep_BP]  # type: ignore[no-any-return]

    def published() -> Tensor:
        with torch.inference_mode():
            return masked.forward_masked(x_BPD, mask_BP, released_eps=RELEASED_EPS)[keep_BP]

    def ours() -> Tensor:
        with torch.inference_mode(), kernels(dtype, settings):
            return packed(low_BPD, keep_BP)  # type: ignore[no-any-return]

    return Comparison(
        name="merger",
        size=f"width {WIDTH}, {layers} blocks, {len(keep_BP)} images, {int(keep_BP.sum())} of {keep_BP.numel()} kept",
        dtype=dtype,
        baseline=Arm(name="masked, all patches, fp32", run=published)
        if official is None
        else Arm(name="the released code, fp32", run=from_clone),
        ours=Arm(name=f"packed, {dtype}", run=ours),
        equal=equal_within(LIMITS[dtype]),
        unit="images",
        amount=len(keep_BP),
        flops=merger_flops(layers, keep_BP),
        goal=goal,
        curve=curve,
        at=at,
        pairs=None if curve is None else 3,
    )


def nearest_code(settings: BenchSettings) -> Iterator[Comparison]:
    """Yield the nearest code of each vector, against the published distances, `argmin` and one-hot rows."""
    config = TokenizerConfig()
    stream = generator(settings.seed, "bench", "codes")
    vectors_TC = F.normalize(torch.randn(680, config.code_dim, generator=stream), dim=1).to(settings.device)
    seed_init(settings.seed, "codebook")
    quantizer = Quantizer(config.codebook_size, config.code_dim).to(settings.device)
    yield Comparison(
        name="nearest code",
        size=f"{len(vectors_TC)} vectors, {config.codebook_size} codes of {config.code_dim}",
        dtype="fp32",
        baseline=Arm(name="distances, one-hot rows", run=lambda: nearest_published(vectors_TC, quantizer.codebook)),
        ours=Arm(name="products alone", run=lambda: quantizer.codes(vectors_TC)),
        equal=equal_share(1.0),
        unit="vectors",
        amount=len(vectors_TC),
    )


def encoder_blocks(settings: BenchSettings) -> Iterator[Comparison]:
    """Yield blocks of ViT-g, against attention written out."""
    layers, images = (40, 16) if settings.full else (2, 4)
    seed_init(settings.seed, "encoder")
    ours = random_encoder(layers).to(settings.device)
    plain = eager_encoder(ours)
    pixels = torch.randn(images, 3, 224, 224, generator=generator(settings.seed, "bench", "pixels")).to(settings.device)
    for dtype in settings.dtypes:
        low = ours.to(DTYPES[dtype])  # the plain arm's weights are its own

        def run(low: nn.Module = low, dtype: str = dtype) -> Tensor:
            with torch.inference_mode(), kernels(dtype, settings):
                return low(pixels)  # type: ignore[no-any-return]

        def published() -> Tensor:
            with torch.inference_mode():
                return plain(pixels)  # type: ignore[no-any-return]

        yield Comparison(
            name="encoder",
            size=f"ViT-g width, {layers} blocks, {images} images",
            dtype=dtype,
            baseline=Arm(name="attention written out, fp32", run=published),
            ours=Arm(name=f"fused attention, {dtype}", run=run),
            equal=equal_within(LIMITS[dtype]),
            unit="images",
            amount=images,
            flops=encoder_flops(layers) * images,
        )


def encoder_flops(layers: int) -> float:
    """Return the operations of an image through blocks of ViT-g, its 257 rows' attention included."""
    rows = PATCHES + 1
    block = 2 * rows * (4 * 1408**2 + 2 * 1408 * 6144) + 4 * rows**2 * 1408
    return layers * block + 2.0 * PATCHES * 14 * 14 * 3 * 1408


def whole(settings: BenchSettings) -> Iterator[Comparison]:
    """Yield pixels to codes, with the published proportion of encoder and merger blocks."""
    layers, merger_layers, images = (40, 12, 16) if settings.full else (7, 2, 2)
    config = TokenizerConfig(merger_layers=merger_layers, decoder_layers=0)
    seed_init(settings.seed, "whole")
    encoder = random_encoder(layers)
    tokenizer = VisualTokenizer(config, encoder, use="encode").eval().requires_grad_(False)
    plain = copy.deepcopy(tokenizer).to(settings.device)
    plain.encoder = eager_encoder(encoder).to(settings.device)
    stream = generator(settings.seed, "bench", "images")
    images_u8 = torch.randint(0, 256, (images, 224, 224, 3), generator=stream, dtype=torch.uint8)
    keep_BP = plain.select(images_u8, selection="topk", tokens=85)[1]
    flops = images * encoder_flops(layers) + merger_flops(merger_layers, keep_BP.cpu())

    def published() -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            x_BPD = plain.features(images_u8)
            plain.selector(x_BPD)
            merged = plain.merger.forward_masked(x_BPD, keep_BP.float(), released_eps=RELEASED_EPS)[keep_BP]
            return nearest_published(plain.project(merged), plain.quantizer.codebook), merged

    for dtype in settings.dtypes:
        tokenizer.loaded = Loaded(precision=dtype)
        tokenizer.hold_low()  # fp32 first: bf16 can't be undone
        tokenizer.to(settings.device)

        def ours(dtype: str = dtype) -> tuple[Tensor, Tensor]:
            with torch.inference_mode(), kernels(dtype, settings):
                x_BPD = tokenizer.features(images_u8)
                tokenizer.selector(x_BPD)
                # The mask is the same for both arms: where bf16 decides otherwise, rows could not be compared.
                encoded = tokenizer.encode_kept(x_BPD, keep_BP)
            return encoded.codes, encoded.merged

        yield Comparison(
            name="pixels to codes",
            size=f"ViT-g width, {layers} + {merger_layers} blocks (40 + 12 are published), {images} images, 85 of 256",
            dtype=dtype,
            baseline=Arm(name="published, fp32", run=published),
            ours=Arm(name=f"ours, {dtype}", run=ours),
            equal=_same_codes if dtype == "fp32" else _near_features,
            unit="images",
            amount=images,
            flops=flops,
            # 1.22 times fewer operations are left where oneDNN does not pay.
            goal=goal_here(5.0, settings) if dtype == "bf16" else 2.5 if onednn_pays(settings) else 1.2,
        )


def _same_codes(theirs: tuple[Tensor, Tensor], ours: tuple[Tensor, Tensor]) -> str:
    return f"codes: {equal_share(1.0)(theirs[0], ours[0])}"


def _near_features(theirs: tuple[Tensor, Tensor], ours: tuple[Tensor, Tensor]) -> str:
    alike = float((theirs[0] == ours[0]).double().mean())
    return f"merged features: {equal_within(5e-2)(theirs[1], ours[1])}, {alike:.0%} of the codes alike"
