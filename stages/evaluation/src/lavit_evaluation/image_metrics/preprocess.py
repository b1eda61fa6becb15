"""How an image becomes Inception's input: four implementations whose FIDs differ by whole points, each by its name."""

from collections.abc import Callable

import numpy as np
import torch
from lavit_core.images import resize_to_square
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from lavit_evaluation.image_metrics.inception import INPUT_PX


def torch_fidelity(pixels_u8: Tensor) -> Tensor:
    """Return [B, 3, 299, 299]: TensorFlow 1's bilinear resize (no half-pixel centres), then (x - 128) / 128.

    Source: torch-fidelity; torchmetrics with antialias=False, which LaVIT's script ran.
    """
    return (tensorflow_bilinear(pixels_u8.float(), INPUT_PX) - 128) / 128


def torchmetrics(pixels_u8: Tensor) -> Tensor:
    """Return [B, 3, 299, 299]: antialiased bilinear resize, (x - 128) / 128. Source: torchmetrics 1.9's default."""
    x = interpolate(pixels_u8.float(), size=(INPUT_PX, INPUT_PX), mode="bilinear", align_corners=False, antialias=True)
    return (x - 128) / 128


def pytorch_fid(pixels_u8: Tensor) -> Tensor:
    """Return [B, 3, 299, 299]: bilinear resize with half-pixel centres on [0, 1], then 2 x - 1. Source: pytorch-fid."""
    x = interpolate(pixels_u8.float() / 255, size=(INPUT_PX, INPUT_PX), mode="bilinear", align_corners=False)
    return 2 * x - 1


def clean_fid(pixels_u8: Tensor) -> Tensor:
    """Return [B, 3, 299, 299]: PIL's bicubic resize in floating point, channel by channel, then (x - 128) / 128.

    Source: clean-fid (arXiv 2104.11222).
    """
    planes = pixels_u8.flatten(0, 1).float().cpu().numpy()  # [B * 3, H, W]
    side = (INPUT_PX, INPUT_PX)
    images = [Image.fromarray(plane, mode="F").resize(side, Image.Resampling.BICUBIC) for plane in planes]
    x = torch.from_numpy(np.stack([np.asarray(image) for image in images])).clamp(0, 255).view(-1, 3, *side)
    return ((x - 128) / 128).to(pixels_u8.device)


PREPROCESS: dict[str, Callable[[Tensor], Tensor]] = {
    "torch-fidelity": torch_fidelity,
    "torchmetrics": torchmetrics,
    "pytorch-fid": pytorch_fid,
    "clean-fid": clean_fid,
}
"""uint8 images [B, 3, H, W] -> Inception's input."""


def tensorflow_bilinear(x: Tensor, size: int) -> Tensor:
    """Return [B, C, size, size] by TensorFlow 1's rule: output i lies at i * in / out, the last row repeats."""
    for axis in (2, 3):
        inside = x.shape[axis]
        place = torch.arange(size, dtype=torch.float32) * (inside / size)
        low = place.floor().long()
        high = (low + 1).clamp(max=inside - 1)
        shape = [1, 1, 1, 1]
        shape[axis] = size
        weight = (place - low).view(shape).to(x)
        first, second = (x.index_select(axis, index.to(x.device)) for index in (low, high))
        x = first + (second - first) * weight
    return x


def resized(image: Image.Image, size: int | None, crop: str) -> np.ndarray:
    """Return an image as uint8 [H, W, 3]: `crop` "none" leaves it; squash and center resize bicubically to `size`."""
    if crop == "none" or size is None:
        return np.asarray(image)
    if crop == "center":
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return resize_to_square(image, size)
