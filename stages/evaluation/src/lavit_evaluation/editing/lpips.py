"""LPIPS (Zhang et al. 2018, arXiv 1801.03924), version 0.1: how different two images look to a network.

The network is AlexNet or VGG-16 up to its last ReLU, in plain torch modules under torchvision's parameter names; five
learned heads weigh the squared differences of its unit features. Both weight files are the user's.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lavit_core.errors import InputError, VerificationError
from lavit_core.files import file_sha256
from lavit_trainkit.external_weights import load_strictly, read_tensors
from torch import Tensor, nn

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""ImageNet's mean and deviation on the [-1, 1] scale, rounded as version 0.1 has them."""

EPS = 1e-10
"""Keeps unit features finite where all are zero."""


@dataclass(frozen=True, kw_only=True)
class Trunk:
    """A network that LPIPS is published for."""

    name: str
    convolutions: tuple[tuple[int, int, int, int], ...]
    """(channels, kernel, stride, padding), a ReLU after each."""
    pools_before: tuple[int, ...]
    """Convolutions with a maximum pool before them."""
    pool: tuple[int, int]
    """Kernel and stride of the pools."""
    taps: tuple[int, ...]
    """Convolutions whose ReLU is compared."""
    digest: str
    """First digits of the SHA-256 of torchvision's file; they are part of its name."""
    heads_digest: str
    """First digits of the SHA-256 of the heads in lpips 0.1.4 (weights/v0.1)."""


ALEXNET = Trunk(
    name="alex",
    convolutions=((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1)),
    pools_before=(1, 2),
    pool=(3, 2),
    taps=(0, 1, 2, 3, 4),
    digest="7be5be79",
    heads_digest="df73285e",
)
VGG16 = Trunk(
    name="vgg",
    convolutions=tuple((width, 3, 1, 1) for width in (64, 64, 128, 128, 256, 256, 256, *[512] * 6)),
    pools_before=(2, 4, 7, 10),
    pool=(2, 2),
    taps=(1, 3, 6, 9, 12),
    digest="397923af",
    heads_digest="a78928a0",
)


class Lpips(nn.Module):
    """Two images [3, H, W] on the [-1, 1] scale -> their distance."""

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk
        self.features = nn.ModuleDict()
        """The convolutions, by their place in torchvision's `features`."""
        inside, place = 3, 0
        for number, (width, kernel, stride, padding) in enumerate(trunk.convolutions):
            place += number in trunk.pools_before
            self.features[str(place)] = nn.Conv2d(inside, width, kernel, stride=stride, padding=padding)
            inside, place = width, place + 2
        self.heads = nn.ParameterList(nn.Parameter(torch.zeros(trunk.convolutions[tap][0], 1, 1)) for tap in trunk.taps)
        self.register_buffer("shift", torch.tensor(SHIFT).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(3, 1, 1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        x = (torch.stack([first, second]) - self.shift) / self.scale
        distance, tapped = x.new_zeros(()), 0
        for number, convolution in enumerate(self.features.values()):
            if number in self.trunk.pools_before:
                x = nn.functional.max_pool2d(x, self.trunk.pool[0], stride=self.trunk.pool[1])
            x = convolution(x).relu()
            if number in self.trunk.taps:
                unit = x / (x.square().sum(1, keepdim=True).sqrt() + EPS)
                distance = distance + (self.heads[tapped] * (unit[0] - unit[1]).square()).sum(0).mean()
                tapped += 1
        return distance


def load_lpips(trunk_file: Path, heads_file: Path, *, any_weights: bool, device: torch.device) -> Lpips:
    """Return LPIPS with torchvision's trunk (alexnet-owt-7be5be79.pth, vgg16-397923af.pth) and lpips' heads, frozen.

    Raises InputError if a file does not match, VerificationError for weights other than the published unless
    `any_weights`: the metric then has another name.
    """
    features = {name: value for name, value in read_tensors(trunk_file).items() if name.startswith("features.")}
    trunk = next((one for one in (ALEXNET, VGG16) if _matches(one, features)), None)
    if trunk is None:
        shape = list(features["features.0.weight"].shape) if "features.0.weight" in features else "missing"
        raise InputError(
            f"--lpips-trunk {trunk_file}: features.0.weight is {shape}, expected AlexNet's [64, 3, 11, 11] or VGG-16's "
            "[64, 3, 3, 3], as in torchvision's files"
        )
    network = Lpips(trunk)
    stored = read_tensors(heads_file)
    heads = {f"heads.{n}": _head(stored, n, heads_file) for n in range(len(trunk.taps))}
    for file, prefix, tensors in ((trunk_file, "features.", features), (heads_file, "heads.", heads)):
        of_file = {name: value for name, value in network.state_dict().items() if name.startswith(prefix)}
        load_strictly(of_file, file, tensors)
    if not any_weights:
        _check(trunk_file, "--lpips-trunk", trunk.digest)
        _check(heads_file, "--lpips-heads", trunk.heads_digest)
    return network.requires_grad_(False).eval().to(device)


def lpips_distance(network: Lpips, first: np.ndarray, second: np.ndarray) -> float:
    """Return the distance of two uint8 images [H, W, 3] of one size. Raises InputError if they are too small."""
    where = network.shift.device
    pair = [torch.from_numpy(image.copy()).to(where).permute(2, 0, 1).float() / 127.5 - 1 for image in (first, second)]
    try:
        with torch.inference_mode():
            return float(network(*pair))
    except RuntimeError as error:
        if "too small" not in str(error) and "Kernel size" not in str(error):
            raise
        height, width, _ = first.shape
        raise InputError(f"LPIPS: images of {width}x{height} pixels are too small for {network.trunk.name}") from None


def _matches(trunk: Trunk, state: dict[str, Tensor]) -> bool:
    width, kernel, _, _ = trunk.convolutions[0]
    first = state.get("features.0.weight")
    return first is not None and tuple(first.shape) == (width, 3, kernel, kernel)


def _head(heads: dict[str, Tensor], number: int, file: Path) -> Tensor:
    name = f"lin{number}.model.1.weight"
    if name not in heads or heads[name].ndim != 4 or len(heads[name]) != 1:
        raise InputError(f"--lpips-heads {file}: no {name} of shape [1, C, 1, 1], expected lpips' weights/v0.1/*.pth")
    return heads[name][0]


def _check(file: Path, option: str, expected: str) -> None:
    digest = file_sha256(file)
    if not digest.startswith(expected):
        raise VerificationError(
            f"{option} {file}: SHA-256 {digest[:16]}..., expected {expected}... (the published file); other weights "
            "give no LPIPS; --set any_lpips=true takes them and names the metric lpips_other"
        )
