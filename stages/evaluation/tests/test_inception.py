"""The Inception network: its shape, its resize, and which weights it takes."""

import hashlib
from pathlib import Path

import pytest
from lavit_core.errors import InputError, VerificationError

torch = pytest.importorskip("torch")


def test_the_network_has_the_published_shape(inception: Path) -> None:
    from lavit_evaluation.image_metrics.inception import Inception, load_inception
    from lavit_evaluation.image_metrics.preprocess import PREPROCESS

    assert (
        sum(value.numel() for value in Inception().parameters()) == 21_785_568
    )  # the paper's network without its classifier
    network = load_inception(inception, torch.device("cpu"))
    image = torch.randint(0, 256, (1, 3, 80, 120), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = {name: network(prepare(image)) for name, prepare in PREPROCESS.items()}
    assert all(one.shape == (1, 2048) and bool(torch.isfinite(one).all()) for one in found.values())
    names = list(found)
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            assert not torch.allclose(found[name], found[other], atol=1e-3), (name, other)


def test_tensorflow_resize_by_hand() -> None:
    from lavit_evaluation.image_metrics.preprocess import tensorflow_bilinear

    row = torch.tensor([0.0, 10.0]).view(1, 1, 1, 2)
    # Output i lies at i * 2 / 4: 0, 0.5, 1, 1.5; past the last pixel its value repeats.
    assert tensorflow_bilinear(row, 4)[0, 0, 0].tolist() == [0.0, 5.0, 10.0, 10.0]


def test_weights_that_are_not_the_published_are_refused(inception: Path, tmp_path: Path) -> None:
    from lavit_evaluation.image_metrics.inception import check_weights, load_inception

    with pytest.raises(VerificationError, match=r"expected 6726825d\.\.\. .* features of other weights give no FID"):
        check_weights(inception, any_weights=False)
    assert check_weights(inception, any_weights=True) == hashlib.sha256(inception.read_bytes()).hexdigest()
    with pytest.raises(InputError, match=r"download pt_inception-2015-12-05-6726825d.pth"):
        check_weights(tmp_path / "none.pth", any_weights=False)
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"--inception .*other.pth: weights \d+ missing"):
        load_inception(tmp_path / "other.pth", torch.device("cpu"))
    (tmp_path / "code.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match="not a weights file"):
        load_inception(tmp_path / "code.pth", torch.device("cpu"))
