"""FID and KID of folders: refusals, small samples, kills, the command."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lavit_core.errors import InputError, UsageError, VerificationError
from lavit_evaluation.cli import evaluate
from lavit_evaluation.compute import Compute
from lavit_evaluation.image_metrics import fid
from lavit_evaluation.image_metrics.features import Featurize
from lavit_evaluation.image_metrics.fid import FidConfig, evaluate_fid, statistics
from PIL import Image
from typer.testing import CliRunner

Draw = Callable[..., Path]

torch = pytest.importorskip("torch")

QUIET = Compute(quiet=True)


def direct(one: np.ndarray, other: np.ndarray) -> float:
    """The formula as written: the root of S1 S2 by its (complex) eigenvalues."""
    m1, m2 = one.mean(0, dtype=np.float64), other.mean(0, dtype=np.float64)
    s1, s2 = np.cov(one.astype(np.float64), rowvar=False), np.cov(other.astype(np.float64), rowvar=False)
    root = np.sqrt(np.linalg.eigvals(s1 @ s2).astype(complex)).sum().real
    return float(((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * root)


def simple(images: list[np.ndarray]) -> np.ndarray:
    """Eight cheap numbers an image in place of Inception's features."""
    return np.stack([one.reshape(-1)[:8].astype(np.float32) / 255 for one in images])


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put `simple` in Inception's place."""
    monkeypatch.setattr(fid, "load_network", lambda *given: simple)


@pytest.fixture
def sides(draw: Draw, tmp_path: Path) -> tuple[Path, Path]:
    return draw(tmp_path / "drawn", 40, 10), draw(tmp_path / "real", 30, 60)


@pytest.mark.usefixtures("cheap")
def test_fid_of_folders(sides: tuple[Path, Path], inception: Path, tmp_path: Path) -> None:
    drawn, real = sides
    config = FidConfig(any_inception=True, few=True, crop="none", size=None)
    result = evaluate_fid(drawn, tmp_path / "out", inception, config, real=real, compute=QUIET)
    expected = direct(*(simple([np.asarray(Image.open(f)) for f in sorted(side.iterdir())]) for side in sides))
    assert result["figures"]["fd"]["value"] == pytest.approx(expected, rel=1e-6)
    assert result["figures"]["kd"]["value"] > 0
    assert result["protocol"]["name"] == "custom"
    assert "40 images" not in result["notes"]["rank_deficient"]
    assert result["notes"]["rank_deficient"].startswith("30 images")
    assert result["pictures"] == {"generated": 40, "real": 30}
    # Saved statistics give the same distance; single features are gone, so no KID.
    made = statistics(real, inception, tmp_path / "stats", config, compute=QUIET)
    file = Path(made["statistics"])
    again = evaluate_fid(drawn, tmp_path / "out2", inception, config, reference=file, compute=QUIET)
    assert again["figures"]["fd"]["value"] == pytest.approx(result["figures"]["fd"]["value"], abs=1e-9)
    assert "give --real" in again["skipped"]["kd"]
    other = FidConfig(any_inception=True, few=True, crop="center", size=64)
    with pytest.raises(InputError, match="made with size = None, now it is 64"):
        evaluate_fid(drawn, tmp_path / "o3", inception, other, reference=file, compute=QUIET)
    np.savez(tmp_path / "ref.npz", mu=np.zeros(8), sigma=np.eye(8))
    known = evaluate_fid(drawn, tmp_path / "o4", inception, config, reference=tmp_path / "ref.npz", compute=QUIET)
    assert known["pictures"]["real"] is None
    assert known["reference"]["preprocess"] == "not known"


@pytest.mark.usefixtures("cheap")
def test_few_images_give_kid_and_a_reason(sides: tuple[Path, Path], inception: Path, tmp_path: Path) -> None:
    drawn, real = sides
    config = FidConfig(any_inception=True)
    result = evaluate_fid(drawn, tmp_path / "o", inception, config, real=real, compute=QUIET)
    assert list(result["figures"]) == ["kd"]
    assert "30 images, fewer than 2,048 features" in result["skipped"]["fd"]


def test_a_killed_job_goes_on_with_the_next_shard(
    sides: tuple[Path, Path], inception: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lavit_evaluation.image_metrics import features as module

    monkeypatch.setattr(module, "SHARD", 8)
    drawn, real = sides
    config = FidConfig(any_inception=True, few=True)

    def dying(after: int) -> Featurize:
        seen = 0

        def featurize(images: list[np.ndarray]) -> np.ndarray:
            nonlocal seen
            seen += len(images)
            if seen > after:
                raise KeyboardInterrupt
            return simple(images)

        return featurize

    monkeypatch.setattr(fid, "load_network", lambda *given: simple)
    whole = evaluate_fid(drawn, tmp_path / "whole", inception, config, real=real, compute=QUIET)
    monkeypatch.setattr(fid, "load_network", lambda *given: dying(21))
    with pytest.raises(KeyboardInterrupt):
        evaluate_fid(drawn, tmp_path / "o", inception, config, real=real, compute=Compute(batch_size=3, quiet=True))
    assert len(list((tmp_path / "o" / "features").iterdir())) == 2
    rest = dying(70 - 16)
    monkeypatch.setattr(fid, "load_network", lambda *given: rest)
    compute = Compute(batch_size=5, quiet=True)
    result = evaluate_fid(drawn, tmp_path / "o", inception, config, real=real, compute=compute)
    assert result["figures"] == whole["figures"]


def test_the_real_network_on_a_command_line(
    draw: Draw, sides: tuple[Path, Path], inception: Path, tmp_path: Path
) -> None:
    drawn = draw(tmp_path / "d", 3, 10, side=32)
    real = draw(tmp_path / "r", 3, 90, side=40)
    line = ["coco-fid", "--generated", str(drawn), "--inception", str(inception), "--size", "48", "--device", "cpu"]
    refused = CliRunner().invoke(evaluate, [*line, "--out", str(tmp_path / "o"), "--real", str(real)])
    assert isinstance(refused.exception, VerificationError)
    assert not (tmp_path / "o").exists()
    line += ["--any-inception", "--out", str(tmp_path / "o")]
    with pytest.raises(UsageError, match="either --real FOLDER or --reference"):
        CliRunner().invoke(evaluate, line, catch_exceptions=False)
    done = CliRunner().invoke(evaluate, [*line, "--real", str(real), "--json"], catch_exceptions=False)
    result = json.loads(done.stdout)
    assert result["figures"]["kd"]["value"] > 0
    assert result["settings"]["preprocess"] == "torch-fidelity"
    shown = CliRunner().invoke(evaluate, [*line, "--real", str(real)], catch_exceptions=False).stdout
    assert "fd: skipped: 3 images" in shown
    made = ["fid-stats", str(real), "--inception", str(inception), "--any-inception", "--out", str(tmp_path / "s")]
    assert "3 images" in CliRunner().invoke(evaluate, [*made, "--size", "48"], catch_exceptions=False).stdout
