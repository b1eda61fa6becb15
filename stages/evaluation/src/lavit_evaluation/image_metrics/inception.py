"""The network of the 2015-12-05 Inception graph up to its pooled features: what FID is defined on.

Source: Szegedy et al. 2015 (arXiv 1512.00567) as released by Google in that graph; parameter names are those of the
public PyTorch conversion `pt_inception-2015-12-05-6726825d.pth`. Differs from the Inception v3 of model libraries:
average pools do not count their padding, the last block pools by maximum, other weights.
"""

from pathlib import Path

import torch
from lavit_core.errors import InputError, VerificationError
from lavit_core.files import file_sha256
from lavit_trainkit.external_weights import load_strictly
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, relu

DIGEST = "6726825d"
"""First digits of the published file's SHA-256; they are part of its name."""

INPUT_PX = 299

Size = int | tuple[int, int]


class Conv(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, inside: int, out: int, kernel: Size, *, stride: int = 1, padding: Size = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, out, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.bn(self.conv(x)))


def padded_average(x: Tensor) -> Tensor:
    """Return 3x3 means in which the padding does not count."""
    return avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class BlockA(nn.Module):
    """35 x 35: 1x1, 5x5, double 3x3 and pool side by side."""

    def __init__(self, inside: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(inside, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = Conv(inside, 48, 1), Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(inside, 64, 1), Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(inside, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(padded_average(x))], 1)


class BlockB(nn.Module):
    """35 x 35 to 17 x 17."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(inside, 384, 3, stride=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(inside, 64, 1), Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, max_pool2d(x, 3, stride=2)], 1)


class BlockC(nn.Module):
    """17 x 17: 7x7 as 1x7 and 7x1."""

    def __init__(self, inside: int, width: int) -> None:
        super().__init__()
        across: tuple[Size, Size] = ((1, 7), (0, 3))
        down: tuple[Size, Size] = ((7, 1), (3, 0))
        self.branch1x1 = Conv(inside, 192, 1)
        self.branch7x7_1 = Conv(inside, width, 1)
        self.branch7x7_2 = Conv(width, width, across[0], padding=across[1])
        self.branch7x7_3 = Conv(width, 192, down[0], padding=down[1])
        self.branch7x7dbl_1 = Conv(inside, width, 1)
        self.branch7x7dbl_2 = Conv(width, width, down[0], padding=down[1])
        self.branch7x7dbl_3 = Conv(width, width, across[0], padding=across[1])
        self.branch7x7dbl_4 = Conv(width, width, down[0], padding=down[1])
        self.branch7x7dbl_5 = Conv(width, 192, across[0], padding=across[1])
        self.branch_pool = Conv(inside, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(padded_average(x))], 1)


class BlockD(nn.Module):
    """17 x 17 to 8 x 8."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = Conv(inside, 192, 1), Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Conv(inside, 192, 1)
        self.branch7x7x3_2 = Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, max_pool2d(x, 3, stride=2)], 1)


class BlockE(nn.Module):
    """8 x 8: 3x3 as 1x3 beside 3x1; the first such block pools by mean, the last by maximum."""

    def __init__(self, inside: int, *, pool_by_maximum: bool) -> None:
        super().__init__()
        self.pool_by_maximum = pool_by_maximum
        self.branch1x1 = Conv(inside, 320, 1)
        self.branch3x3_1 = Conv(inside, 384, 1)
        self.branch3x3_2a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(inside, 448, 1), Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = Conv(inside, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = max_pool2d(x, 3, stride=1, padding=1) if self.pool_by_maximum else padded_average(x)
        three_parts = [self.branch3x3_2a(three), self.branch3x3_2b(three)]
        double_parts = [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(x), *three_parts, *double_parts, self.branch_pool(pooled)], 1)


class Inception(nn.Module):
    """Images [B, 3, 299, 299] on the [-1, 1] scale -> features [B, 2048]."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = BlockA(192, 32), BlockA(256, 64), BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b, self.Mixed_6c = BlockC(768, 128), BlockC(768, 160)
        self.Mixed_6d, self.Mixed_6e = BlockC(768, 160), BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b, self.Mixed_7c = BlockE(1280, pool_by_maximum=False), BlockE(2048, pool_by_maximum=True)

    def forward(self, x: Tensor) -> Tensor:
        x = max_pool2d(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))), 3, stride=2)
        x = max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean((2, 3))


def check_weights(file: Path, *, any_weights: bool) -> str:
    """Return the SHA-256 of a weights file.

    Raises InputError without one, and VerificationError for another than the published unless `any_weights`: metrics
    then bear another name.
    """
    if not file.is_file():
        raise InputError(
            f"--inception {file}: file not found; download pt_inception-2015-12-05-6726825d.pth from the releases of "
            "pytorch-fid (or the same file of torch-fidelity)"
        )
    digest = file_sha256(file)
    if not digest.startswith(DIGEST) and not any_weights:
        raise VerificationError(
            f"--inception {file}: SHA-256 {digest[:16]}..., expected {DIGEST}... (the 2015 graph); features of other "
            "weights give no FID; --skip-inception-check takes them and names the metrics fd and kd"
        )
    return digest


def load_inception(file: Path, device: torch.device) -> Inception:
    """Return the network with a file's weights, frozen. Raises InputError when names or shapes do not fit."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    # torch raises pickle errors, RuntimeErrors, KeyErrors and more for what is no weights file.
    except Exception as error:  # noqa: BLE001
        raise InputError(f"--inception {file}: not a weights file ({' '.join(str(error).split())[:160]})") from None
    if not isinstance(state, dict):
        raise InputError(f"--inception {file}: found {type(state).__name__}, expected a dictionary of tensors")
    network = Inception()
    # The classifier is not part of the features; counters are not part of the graph.
    given = {name: value for name, value in state.items() if not name.startswith("fc.")}
    given |= {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    load_strictly(network, file, given, option="--inception")
    return network.requires_grad_(False).eval().to(device)
