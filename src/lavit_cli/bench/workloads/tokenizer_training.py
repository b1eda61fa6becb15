"""A step of tokenizer training: gradients of merger and decoder packed, those of the selector in bf16.

The selector's gradient passes through the mask of dropped patches, which needs their rows in every layer: that step is
masked in both arms, and only its precision differs.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from lavit_tokenizer.api import TokenizerConfig, VisualTokenizer, gumbel, gumbel_mask
from lavit_trainkit.device import generator, seed_init
from torch import Tensor

from lavit_cli.bench.comparison import Arm, BenchSettings, Comparison, equal_within

LIMITS = {"fp32": 1e-4, "bf16": 5e-2}
"""Relative differences of gradients, sums of other orders or in bf16."""


def training(settings: BenchSettings, goal: float) -> Iterator[Comparison]:
    """Yield steps (forward, backward) of merger and decoder, and of the selector with them."""
    layers, images = (12, 16) if settings.full else (1, 1)
    seed_init(settings.seed, "training")
    config = TokenizerConfig(merger_layers=layers, decoder_layers=layers)
    tokenizer = VisualTokenizer(config).to(settings.device)
    stream = generator(settings.seed, "bench", "training")
    x_BPD = torch.randn(images, config.num_patches, config.feature_dim, generator=stream).to(settings.device)
    noise = gumbel((images, config.num_patches, 2), stream).to(settings.device)
    tokenizer.selector.start_at(config.keep_ratio)
    with torch.no_grad():
        keep_BP = gumbel_mask(tokenizer.selector(x_BPD), noise, 1.0) > 0.5
    counts = f"{int(keep_BP.sum())} of {keep_BP.numel()} kept"
    size = f"width {config.feature_dim}, {layers} + {layers} blocks, {images} images, {counts}"

    def masked(dtype: str, *, selector: bool) -> Tensor:
        with torch.autocast(x_BPD.device.type, torch.bfloat16, enabled=dtype == "bf16"):
            mask_BP = gumbel_mask(tokenizer.selector(x_BPD), noise, 1.0) if selector else keep_BP.float()
            z_BPC = tokenizer.project(tokenizer.merger.forward_masked(x_BPD, mask_BP))
            return _gradient(tokenizer, tokenizer.decoder.forward_masked(z_BPC, mask_BP), x_BPD, selector=selector)

    def packed(dtype: str) -> Tensor:
        with torch.autocast(x_BPD.device.type, torch.bfloat16, enabled=dtype == "bf16"):
            z_TC = tokenizer.project(tokenizer.merger(x_BPD, keep_BP))
            return _gradient(tokenizer, tokenizer.decoder(z_TC, keep_BP.sum(dim=1)), x_BPD, selector=False)

    for dtype in settings.dtypes:
        yield Comparison(
            name="training step, selector frozen",
            size=size,
            dtype=dtype,
            baseline=Arm(name="masked, fp32", run=lambda: masked("fp32", selector=False)),
            ours=Arm(name=f"packed, {dtype}", run=lambda dtype=dtype: packed(dtype)),  # type: ignore[misc]
            equal=equal_within(LIMITS[dtype]),
            unit="images",
            amount=images,
            goal=goal if dtype == "bf16" else None,
        )
    if "bf16" in settings.dtypes:
        yield Comparison(
            name="training step, selector learns",
            size=size,
            dtype="bf16",
            baseline=Arm(name="masked, fp32", run=lambda: masked("fp32", selector=True)),
            ours=Arm(name="masked, bf16", run=lambda: masked("bf16", selector=True)),
            equal=equal_within(LIMITS["bf16"]),
            unit="images",
            amount=images,
        )


def _gradient(tokenizer: VisualTokenizer, decoded: Tensor, target_BPD: Tensor, *, selector: bool) -> Tensor:
    """Return one matrix of the gradients of the loss: of the selector's first layer, or of the merger's."""
    tokenizer.zero_grad()
    (1 - F.cosine_similarity(decoded.float(), target_BPD, dim=-1).mean()).backward()
    name = "selector.in_conv.1.weight" if selector else "merger.blocks.0.token_causal_attn.qkv.weight"
    gradient = tokenizer.get_parameter(name).grad
    assert gradient is not None
    return gradient
