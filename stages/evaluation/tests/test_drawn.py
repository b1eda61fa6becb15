"""FID, KID and CLIPScore against direct formulas, the streaming against one pass, the network file's refusals."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from lavit_core.errors import InputError, UsageError, VerificationError
from lavit_evaluation.cli import evaluate
from lavit_evaluation.image_metrics.clip_score import Clip, center_square, clip_scores, evaluate_clip_score
from lavit_evaluation.image_metrics.features import Featurize
from lavit_evaluation.image_metrics.fid import FidConfig, evaluate_fid, statistics
from lavit_evaluation.image_metrics.kid import kid, polynomial_mmd
from lavit_evaluation.image_metrics.moments import frechet_distance, load_moments, merge, moments_of, save_moments
from lavit_evaluation.runner import Compute
from PIL import Image
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

QUIET = Compute(quiet=True)


def features(count: int, width: int = 16, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(width, width))
    return (rng.normal(size=(count, width)) @ mixing + shift).astype(np.float32)


def direct(one: np.ndarray, other: np.ndarray) -> float:
    """The formula as written: the root of S1 S2 by its (complex) eigenvalues."""
    m1, m2 = one.mean(0, dtype=np.float64), other.mean(0, dtype=np.float64)
    s1, s2 = np.cov(one.astype(np.float64), rowvar=False), np.cov(other.astype(np.float64), rowvar=False)
    root = np.sqrt(np.linalg.eigvals(s1 @ s2).astype(complex)).sum().real
    return float(((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * root)


def test_frechet_distance_is_the_formula() -> None:
    one, other = features(500), features(400, shift=0.3, seed=1)
    found = frechet_distance(moments_of(one), moments_of(other))
    assert found == pytest.approx(direct(one, other), rel=1e-9)
    assert frechet_distance(moments_of(one), moments_of(one)) == pytest.approx(0, abs=1e-8)
    # Two normals of equal covariance: the squared distance of their means.
    assert frechet_distance(moments_of(one), moments_of(one + 2)) == pytest.approx(16 * 4, rel=1e-6)


def test_frechet_distance_is_that_of_a_matrix_root() -> None:
    linalg = pytest.importorskip("scipy.linalg", reason="scipy is not installed: compared with the direct formula only")
    one, other = features(300), features(300, shift=0.5, seed=2)
    mine, theirs = moments_of(one), moments_of(other)
    root = linalg.sqrtm(mine.covariance @ theirs.covariance).real
    gap = mine.mean - theirs.mean
    expected = gap @ gap + np.trace(mine.covariance + theirs.covariance - 2 * root)
    assert frechet_distance(mine, theirs) == pytest.approx(expected, rel=1e-6)


def test_five_shards_are_one_pass(tmp_path: Path) -> None:
    # A mean far from zero is where sums of squares lose their digits.
    whole = features(1000, shift=1000.0).astype(np.float64)
    parts = [moments_of(part) for part in np.split(whole, [10, 11, 400, 990])]
    merged = parts[0]
    for part in parts[1:]:
        merged = merge(merged, part)
    once = moments_of(whole)
    assert merged.count == once.count == 1000
    np.testing.assert_allclose(merged.mean, once.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, np.cov(whole, rowvar=False), rtol=1e-6, atol=1e-6)
    other = moments_of(features(500, shift=1000.2, seed=3))
    assert frechet_distance(merged, other) == pytest.approx(frechet_distance(once, other), abs=1e-6)
    save_moments(tmp_path / "m.safetensors", merged, {"size": 512})
    again, metadata = load_moments(tmp_path / "m.safetensors")
    assert metadata == {"size": 512}
    assert again.count == 1000
    assert np.array_equal(again.scatter, merged.scatter)


def test_kid_is_unbiased_and_finds_a_shift() -> None:
    one, other = features(60, 4), features(60, 4, seed=1)
    x, y = one.astype(np.float64), other.astype(np.float64)
    kernel = lambda a, b: (a @ b / 4 + 1) ** 3  # noqa: E731
    pairs = [(i, j) for i in range(60) for j in range(60)]
    expected = sum(kernel(x[i], x[j]) + kernel(y[i], y[j]) for i, j in pairs if i != j) / (60 * 59)
    expected -= 2 * sum(kernel(x[i], y[j]) for i, j in pairs) / 3600
    assert polynomial_mmd(one, other) == pytest.approx(expected, rel=1e-9)
    same = np.array([polynomial_mmd(features(60, 4, seed=2 * n), features(60, 4, seed=2 * n + 1)) for n in range(200)])
    assert abs(same.mean()) < 4 * same.std() / np.sqrt(200)  # unbiased: zero on average between equal distributions
    moved = features(60, 4, shift=3.0, seed=5)
    assert kid(one, moved, seed=0).mean() > 3 * abs(same).max() > 0
    assert np.array_equal(kid(one, moved, seed=0), kid(one, moved, seed=0))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the names and shapes of the published one, and random weights."""
    from lavit_evaluation.image_metrics.inception import Inception

    torch.manual_seed(0)
    network = Inception()
    for name, value in network.state_dict().items():
        if name.endswith("conv.weight"):
            torch.nn.init.kaiming_normal_(value)
        elif name.endswith(("running_var", "bn.weight")):
            value.uniform_(0.5, 1.5)
    state = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    state |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    file = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(state, file)
    return file


def test_the_network_has_the_published_shape(weights: Path) -> None:
    from lavit_evaluation.image_metrics.inception import Inception, load_inception
    from lavit_evaluation.image_metrics.preprocess import PREPROCESS

    assert (
        sum(value.numel() for value in Inception().parameters()) == 21_785_568
    )  # the paper's network without its classifier
    network = load_inception(weights, torch.device("cpu"))
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


def test_weights_that_are_not_the_published_are_refused(weights: Path, tmp_path: Path) -> None:
    from lavit_evaluation.image_metrics.inception import check_weights, load_inception

    with pytest.raises(VerificationError, match=r"expected 6726825d\.\.\. .* features of other weights give no FID"):
        check_weights(weights, any_weights=False)
    assert check_weights(weights, any_weights=True) == hashlib.sha256(weights.read_bytes()).hexdigest()
    with pytest.raises(InputError, match=r"download pt_inception-2015-12-05-6726825d.pth"):
        check_weights(tmp_path / "none.pth", any_weights=False)
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"--inception .*other.pth: weights \d+ missing"):
        load_inception(tmp_path / "other.pth", torch.device("cpu"))
    (tmp_path / "code.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match="not a weights file"):
        load_inception(tmp_path / "code.pth", torch.device("cpu"))


def draw(folder: Path, count: int, base: int, side: int = 20) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(base)
    for n in range(count):
        Image.fromarray(rng.integers(base, base + 60, (side, side, 3), dtype=np.uint8)).save(folder / f"{n:04d}.png")
    return folder


def simple(images: list[np.ndarray]) -> np.ndarray:
    """Eight cheap numbers an image in place of Inception's features."""
    return np.stack([one.reshape(-1)[:8].astype(np.float32) / 255 for one in images])


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    return draw(tmp_path / "drawn", 40, 10), draw(tmp_path / "real", 30, 60)


def test_fid_of_folders(sides: tuple[Path, Path], weights: Path, tmp_path: Path) -> None:
    drawn, real = sides
    config = FidConfig(any_inception=True, few=True, crop="none", size=None)
    result = evaluate_fid(drawn, tmp_path / "out", weights, config, real=real, compute=QUIET, featurize=simple)
    expected = direct(*(simple([np.asarray(Image.open(f)) for f in sorted(side.iterdir())]) for side in sides))
    assert result["figures"]["fd"]["value"] == pytest.approx(expected, rel=1e-6)
    assert result["figures"]["kd"]["value"] > 0
    assert result["protocol"]["name"] == "custom"
    assert "40 images" not in result["notes"]["rank_deficient"]
    assert result["notes"]["rank_deficient"].startswith("30 images")
    assert result["pictures"] == {"generated": 40, "real": 30}
    # Saved statistics give the same distance; single features are gone, so no KID.
    made = statistics(real, weights, tmp_path / "stats", config, compute=QUIET, featurize=simple)
    file = Path(made["statistics"])
    again = evaluate_fid(drawn, tmp_path / "out2", weights, config, reference=file, compute=QUIET, featurize=simple)
    assert again["figures"]["fd"]["value"] == pytest.approx(result["figures"]["fd"]["value"], abs=1e-9)
    assert "give --real" in again["skipped"]["kd"]
    other = FidConfig(any_inception=True, few=True, crop="center", size=64)
    with pytest.raises(InputError, match="made with size = None, now it is 64"):
        evaluate_fid(drawn, tmp_path / "o3", weights, other, reference=file, compute=QUIET, featurize=simple)
    np.savez(tmp_path / "ref.npz", mu=np.zeros(8), sigma=np.eye(8))
    known = evaluate_fid(
        drawn, tmp_path / "o4", weights, config, reference=tmp_path / "ref.npz", compute=QUIET, featurize=simple
    )
    assert known["pictures"]["real"] is None
    assert known["reference"]["preprocess"] == "not known"


def test_few_images_give_kid_and_a_reason(sides: tuple[Path, Path], weights: Path, tmp_path: Path) -> None:
    drawn, real = sides
    config = FidConfig(any_inception=True)
    result = evaluate_fid(drawn, tmp_path / "o", weights, config, real=real, compute=QUIET, featurize=simple)
    assert list(result["figures"]) == ["kd"]
    assert "30 images, fewer than 2,048 features" in result["skipped"]["fd"]


def test_a_killed_job_goes_on_with_the_next_shard(
    sides: tuple[Path, Path], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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

    whole = evaluate_fid(drawn, tmp_path / "whole", weights, config, real=real, compute=QUIET, featurize=simple)
    with pytest.raises(KeyboardInterrupt):
        evaluate_fid(drawn, tmp_path / "o", weights, config, real=real, compute=Compute(batch_size=3, quiet=True),
                     featurize=dying(21))  # fmt: skip
    assert len(list((tmp_path / "o" / "features").iterdir())) == 2
    rest = dying(70 - 16)
    compute = Compute(batch_size=5, quiet=True)
    result = evaluate_fid(drawn, tmp_path / "o", weights, config, real=real, compute=compute, featurize=rest)
    assert result["figures"] == whole["figures"]


def test_the_real_network_on_a_command_line(sides: tuple[Path, Path], weights: Path, tmp_path: Path) -> None:
    drawn = draw(tmp_path / "d", 3, 10, side=32)
    real = draw(tmp_path / "r", 3, 90, side=40)
    line = ["coco-fid", "--generated", str(drawn), "--inception", str(weights), "--size", "48", "--device", "cpu"]
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
    made = ["fid-stats", str(real), "--inception", str(weights), "--any-inception", "--out", str(tmp_path / "s")]
    assert "3 images" in CliRunner().invoke(evaluate, [*made, "--size", "48"], catch_exceptions=False).stdout


def test_clip_score_variants_by_hand() -> None:
    image = np.array([[1.0, 0.0], [1.0, 0.0]])
    prefixed = np.array([[0.6, 0.8], [-0.6, 0.8]])
    plain = np.array([[0.8, 0.6], [-0.8, 0.6]])
    scores = clip_scores(image, prefixed, plain)
    assert scores["clip_score"].tolist() == [1.5, 0.0]
    assert scores["clip_score.torchmetrics"].tolist() == [80.0, 0.0]
    assert scores["clip_score.cosine"].tolist() == [0.8, -0.8]


def test_clip_score_of_a_folder(tmp_path: Path) -> None:
    drawn = draw(tmp_path / "d", 3, 10)
    rows = [{"file_name": f"{n:04d}.png", "captions": [f"prompt {n}"]} for n in range(3)]
    (drawn / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    heard: list[str] = []

    def texts(said: Sequence[str]) -> np.ndarray:
        heard.extend(said)
        return np.array([[1.0, 0.0]] * len(said))

    clip = Clip(images=lambda images: np.array([[0.6, 0.8]] * len(images)), texts=texts, image_px=8, metadata={})
    result = evaluate_clip_score(drawn, tmp_path / "o", Path("none"), compute=QUIET, load=lambda: clip)
    assert result["figures"]["clip_score"]["value"] == pytest.approx(1.5)
    assert heard[:3] == [f"A photo depicts prompt {n}" for n in range(3)]
    assert heard[3:] == [f"prompt {n}" for n in range(3)]
    (drawn / "0009.png").write_bytes((drawn / "0000.png").read_bytes())
    with pytest.raises(InputError, match=r"1 images have no prompt, say 0009.png"):
        evaluate_clip_score(drawn, tmp_path / "o", Path("none"), compute=QUIET, load=lambda: clip)
    for name in ("0009.png", "0001.png"):
        (drawn / name).unlink()
    with pytest.raises(InputError, match=r"1 prompts have no image, say 0001.png"):
        evaluate_clip_score(drawn, tmp_path / "o", Path("none"), compute=QUIET, load=lambda: clip)


def test_clip_score_killed_and_resumed_scores_nothing_twice(tmp_path: Path) -> None:
    drawn = draw(tmp_path / "d", 10, 10)
    rows = [{"file_name": f"{n:04d}.png", "captions": [f"prompt {n}"]} for n in range(10)]
    (drawn / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen: list[int] = []

    def clip(most: int) -> Clip:
        def images(pixels: Sequence[np.ndarray]) -> np.ndarray:
            if len(seen) + len(pixels) > most:
                raise KeyboardInterrupt
            seen.extend(int(one.sum()) for one in pixels)
            angles = np.array([float(one.sum() % 7) for one in pixels])
            return np.stack([np.cos(angles), np.sin(angles)], axis=1)

        return Clip(images=images, texts=lambda said: np.array([[0.6, 0.8]] * len(said)), image_px=8, metadata={})

    compute = Compute(batch_size=3, quiet=True)
    whole = evaluate_clip_score(drawn, tmp_path / "whole", Path("none"), compute=compute, load=lambda: clip(10))
    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        evaluate_clip_score(drawn, tmp_path / "o", Path("none"), compute=compute, load=lambda: clip(7))
    assert len(seen) == 6
    result = evaluate_clip_score(drawn, tmp_path / "o", Path("none"), compute=compute, load=lambda: clip(10))
    assert len(seen) == 10
    assert result["figures"] == whole["figures"]
    items = [(tmp_path / name / "items.jsonl").read_bytes() for name in ("o", "whole")]
    assert items[0] == items[1]


def test_clip_from_a_local_directory_is_the_library_s(tiny_clip: Path, tmp_path: Path) -> None:
    """A tiny random CLIP: our cosine is that of the library's own forward pass."""
    transformers = pytest.importorskip("transformers")
    from lavit_evaluation.image_metrics.clip_score import load_clip

    model, fast = (
        transformers.CLIPModel.from_pretrained(tiny_clip),
        transformers.AutoTokenizer.from_pretrained(tiny_clip),
    )
    file = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 20, 3), dtype=np.uint8)).save(file)
    clip = load_clip(tiny_clip, "cpu")
    pixels = center_square(file, clip.image_px)
    assert pixels.shape == (16, 16, 3)
    cosine = float((clip.images([pixels]) * clip.texts(["a dog"])).sum())
    from lavit_core.images import CLIP_MEAN, CLIP_STD

    scaled = (torch.from_numpy(pixels.copy()).float() / 255 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    with torch.inference_mode():
        out = model(pixel_values=scaled.permute(2, 0, 1)[None], **fast(["a dog"], return_tensors="pt"))
        expected = float(out.logits_per_image[0, 0] / model.logit_scale.exp())
    assert cosine == pytest.approx(expected, abs=1e-5)
    # Weights that are stored in half precision are computed in fp32: only their own rounding shows.
    half = model.half()
    half.save_pretrained(tmp_path / "half")
    fast.save_pretrained(tmp_path / "half")
    stored = load_clip(tmp_path / "half", "cpu")
    with torch.inference_mode():
        out = half.float()(pixel_values=scaled.permute(2, 0, 1)[None], **fast(["a dog"], return_tensors="pt"))
        expected = float(out.logits_per_image[0, 0] / model.logit_scale.exp())
    assert float((stored.images([pixels]) * stored.texts(["a dog"])).sum()) == pytest.approx(expected, abs=1e-6)
    assert list(clip.metadata["clip_digests"]) == ["model.safetensors"]
    with pytest.raises(InputError, match=r"no config\.json here"):
        load_clip(tmp_path, "cpu")


def test_a_clip_without_some_weights_is_refused(tiny_clip: Path, tmp_path: Path) -> None:
    """transformers draws missing weights at random and goes on: a score by them would be noise."""
    from lavit_evaluation.image_metrics.clip_score import load_clip
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_clip, tmp_path / "clip")
    file = tmp_path / "clip" / "model.safetensors"
    tensors = load_file(file)
    kept = {name: value for name, value in tensors.items() if not name.startswith("text_projection")}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 weights of CLIP are missing \(first: text_projection\.weight\)"):
        load_clip(tmp_path / "clip", "cpu")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"--clip-model .*: not a loadable CLIP"):
        load_clip(tmp_path / "clip", "cpu")
