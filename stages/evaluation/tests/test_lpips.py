"""LPIPS against the plain formula, and which weights it takes."""

from pathlib import Path

import numpy as np
import pytest
from lavit_core.errors import InputError, VerificationError

torch = pytest.importorskip("torch")

ALEX = ((0, 64, 3, 11, 4, 2), (3, 192, 64, 5, 1, 2), (6, 384, 192, 3, 1, 1), (8, 256, 384, 3, 1, 1),
        (10, 256, 256, 3, 1, 1))  # fmt: skip

VGG = ((0, 64), (2, 64), (5, 128), (7, 128), (10, 256), (12, 256), (14, 256), (17, 512), (19, 512), (21, 512),
       (24, 512), (26, 512), (28, 512))  # fmt: skip


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def plain_lpips(one: np.ndarray, other: np.ndarray, state: dict, heads: dict, kind: str) -> float:
    """LPIPS written out: torchvision's layers one after another, the rest in numpy."""
    functional = torch.nn.functional
    features = []
    for image in (one, other):
        x = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None] / 255 * 2 - 1
        x = (x - torch.tensor([-0.030, -0.088, -0.188]).double().view(1, 3, 1, 1)) / torch.tensor(
            [0.458, 0.448, 0.450]
        ).double().view(1, 3, 1, 1)
        kept = []
        for row in ALEX if kind == "alex" else VGG:
            place = row[0]
            weight, bias = (state[f"features.{place}.{part}"].double() for part in ("weight", "bias"))
            stride, padding = row[4:] if kind == "alex" else (1, 1)
            x = torch.relu(functional.conv2d(x, weight, bias, stride=stride, padding=padding))
            if kind == "alex" or place in (2, 7, 14, 21, 28):
                kept.append(x[0].numpy())
            if kind == "alex" and place in (0, 3):
                x = functional.max_pool2d(x, 3, 2)
            if kind == "vgg" and place in (2, 7, 14, 21):
                x = functional.max_pool2d(x, 2, 2)
        features.append(kept)
    total = 0.0
    for layer, (a, b) in enumerate(zip(*features, strict=True)):
        a = a / (np.sqrt((a**2).sum(0)) + 1e-10)
        b = b / (np.sqrt((b**2).sum(0)) + 1e-10)
        weight = heads[f"lin{layer}.model.1.weight"].numpy().reshape(-1, 1, 1)
        total += float((weight * (a - b) ** 2).sum(0).mean())
    return total


def random_weights(folder: Path, kind: str) -> tuple[Path, Path]:
    """Random weights in torchvision's and lpips' files, the classifier along."""
    torch.manual_seed(0)
    shapes = {place: (out, inside, kernel, kernel) for place, out, inside, kernel, _, _ in ALEX}
    if kind == "vgg":
        inside, shapes = 3, {}
        for place, out in VGG:
            shapes[place], inside = (out, inside, 3, 3), out
    state = {"classifier.6.bias": torch.zeros(3)}
    for place, shape in shapes.items():
        state[f"features.{place}.weight"] = torch.randn(shape) * (2 / np.prod(shape[1:])) ** 0.5
        state[f"features.{place}.bias"] = torch.randn(shape[0]) * 0.1
    widths = [64, 192, 384, 256, 256] if kind == "alex" else [64, 128, 256, 512, 512]
    heads = {f"lin{n}.model.1.weight": torch.rand(1, width, 1, 1) for n, width in enumerate(widths)}
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / f"{kind}-trunk.pth")
    torch.save(heads, folder / f"{kind}-heads.pth")
    return folder / f"{kind}-trunk.pth", folder / f"{kind}-heads.pth"


@pytest.mark.parametrize("kind", ["alex", "vgg"])
def test_lpips_against_the_plain_formula(tmp_path: Path, kind: str) -> None:
    from lavit_evaluation.editing.lpips import load_lpips, lpips_distance

    trunk, heads = random_weights(tmp_path, kind)
    network = load_lpips(trunk, heads, any_weights=True, device=torch.device("cpu"))
    assert network.trunk.name == kind
    one, other = noise(0, 40, 53), noise(1, 40, 53)
    expected = plain_lpips(one, other, torch.load(trunk), torch.load(heads), kind)
    assert expected > 0.1
    # fp32 against float64: 5e-7 of the value on this machine.
    assert lpips_distance(network, one, other) == pytest.approx(expected, rel=2e-5)
    assert lpips_distance(network, one, one) == 0
    with pytest.raises(InputError, match="8x8 pixels are too small"):
        lpips_distance(network, one[:8, :8], other[:8, :8])


def test_lpips_takes_published_weights_only_unless_told(tmp_path: Path) -> None:
    from lavit_evaluation.editing.lpips import load_lpips

    trunk, heads = random_weights(tmp_path, "alex")
    cpu = torch.device("cpu")
    with pytest.raises(VerificationError, match=r"--lpips-trunk .*expected 7be5be79.* names the metric lpips_other"):
        load_lpips(trunk, heads, any_weights=False, device=cpu)
    with pytest.raises(InputError, match=r"--lpips-trunk .*features.0.weight is missing, expected AlexNet's"):
        load_lpips(heads, heads, any_weights=True, device=cpu)
    with pytest.raises(InputError, match=r"--lpips-heads .*no lin0.model.1.weight"):
        load_lpips(trunk, trunk, any_weights=True, device=cpu)
    with pytest.raises(InputError, match="file not found"):
        load_lpips(tmp_path / "none.pth", heads, any_weights=True, device=cpu)
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"bad\.pth: not a checkpoint of plain tensors"):
        load_lpips(tmp_path / "bad.pth", heads, any_weights=True, device=cpu)
    state = torch.load(heads)
    state["lin2.model.1.weight"] = torch.rand(1, 7, 1, 1)
    torch.save(state, tmp_path / "wide.pth")
    with pytest.raises(InputError, match=r"wide\.pth: .*heads.2 is \(7, 1, 1\), expected \(384, 1, 1\)"):
        load_lpips(trunk, tmp_path / "wide.pth", any_weights=True, device=cpu)
    state = torch.load(trunk)
    del state["features.8.bias"]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(InputError, match=r"short\.pth: weights 1 missing \(features.8.bias\)"):
        load_lpips(tmp_path / "short.pth", heads, any_weights=True, device=cpu)
