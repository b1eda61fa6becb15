"""Tokenizers side by side: files of anyone measured as a model is, metric networks, scores that can't be compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lavit_core.data import open_data
from lavit_core.errors import InputError, UsageError
from lavit_evaluation.cli import evaluate
from lavit_evaluation.compute import Compute
from lavit_evaluation.config import EvalTokenizerConfig
from lavit_evaluation.options import ReconstructionWeights
from lavit_evaluation.tokenizing.eval_foreign import eval_foreign
from lavit_evaluation.tokenizing.foreign import find_reconstructions
from lavit_evaluation.tokenizing.reference import choose_reference
from lavit_scoring.compare import compare
from lavit_scoring.errors import InputError as ScoringInputError
from lavit_scoring.metrics.pixels import psnr
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("torch")
QUIET = Compute(quiet=True, device="cpu")
SIDE = 40


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five noisy images, two of them in a folder of their own."""
    folder = tmp_path / "data"
    rng = np.random.default_rng(0)
    for name in ("a/1.png", "a/2.png", "3.png", "4.png", "5.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def drawn(tmp_path: Path, data: Path) -> Path:
    """Another tokenizer's reconstructions: each image a little darker, in other files."""
    folder = tmp_path / "drawn"
    folder.mkdir()
    for file in data.rglob("*.png"):
        pixels = np.asarray(Image.open(file)).astype(int) - 10
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{file.stem}.webp", lossless=True)
    return folder


def metrics(result: dict[str, Any]) -> dict[str, float]:
    return {name: metric["value"] for name, metric in result["figures"].items()}


def run(data: Path, out: Path | None = None, settings: dict[str, Any] | None = None, **files: Any) -> dict[str, Any]:
    config = EvalTokenizerConfig.model_validate(settings or {})
    return eval_foreign(data, out, config, compute=QUIET, **files)


def test_reconstructions_are_found_by_name_and_measured(data: Path, drawn: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "o", drawn=drawn)
    keys = ["3.png", "4.png", "5.png", "a/1.png", "a/2.png"]
    pairs = [
        [np.asarray(Image.open(file)) for file in (drawn / f"{Path(key).stem}.webp", data / key)] for key in keys
    ]  # fmt: skip
    expected = psnr(*(np.stack(side) for side in zip(*pairs, strict=True)))
    assert metrics(result)["reconstruction.psnr_db"] == pytest.approx(expected.mean())
    assert 0.9 < metrics(result)["reconstruction.ssim"] < 1
    items = [json.loads(line) for line in (tmp_path / "o" / "items.jsonl").read_text().splitlines()]
    assert [row["id"] for row in items] == keys
    assert [row["psnr_db"] for row in items] == pytest.approx(expected.tolist())
    assert result["reference"] == result["reference"] | {"images": 5, "reconstructions": 5, "image_px": SIDE}
    assert result["skipped"]["tokens"] == "no codes given (--codes FILE --codebook-size K)"
    assert run(data, tmp_path / "o", drawn=drawn) == result
    assert metrics(run(data, settings={"compare_px": 20}, drawn=drawn)) != metrics(result)


def test_images_drawn_again_are_another_run(data: Path, tmp_path: Path) -> None:
    """Files of equal names and sizes, as every BMP of one shape is."""
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    for name in "12345":
        Image.new("RGB", (SIDE, SIDE), (int(name), 0, 0)).save(drawn / f"{name}.bmp")
    run(data, tmp_path / "o", drawn=drawn)
    Image.new("RGB", (SIDE, SIDE), (200, 0, 0)).save(drawn / "1.bmp")
    with pytest.raises(UsageError, match="reconstructions"):
        run(data, tmp_path / "o", drawn=drawn)


def test_a_stem_of_two_images_finds_no_reconstruction(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "b" / "1.png")
    every = ["a/1.png", "b/1.png"]
    assert find_reconstructions(tmp_path, ["b/1.png"], every) == [tmp_path / "b" / "1.png"]
    with pytest.raises(InputError, match=r"1 of 1 images have no reconstruction .a/1.png."):
        find_reconstructions(tmp_path, ["a/1.png"], every)
    assert find_reconstructions(tmp_path, ["a/1.png"], ["a/1.png", "c/2.png"]) == [tmp_path / "b" / "1.png"]


def test_codes_give_bits_usage_and_perplexity(data: Path, tmp_path: Path) -> None:
    lines = tmp_path / "codes.jsonl"
    codes = {"3.png": [0, 1, 2], "4.png": [0], "5.png": [0, 0], "a/1.png": [3], "a/2.png": [1, 2, 3]}
    lines.write_text("".join(json.dumps({"file_name": key, "codes": own}) + "\n" for key, own in codes.items()))
    found = metrics(run(data, codes=lines, codebook_size=8))
    counts = np.array([4, 2, 2, 2]) / 10  # of the codes 0 to 3
    assert found == {
        "tokens.kept": 2.0, "tokens.kept_min": 1, "tokens.kept_max": 3, "tokens.bits": 6.0,
        "tokens.kept_sd": pytest.approx(np.std([3, 1, 2, 1, 3])), "tokens.code_usage": 0.5,
        "tokens.perplexity": pytest.approx(float(np.exp(-(counts * np.log(counts)).sum()))),
    }  # fmt: skip
    np.save(tmp_path / "codes.npy", np.arange(20).reshape(5, 4))
    assert metrics(run(data, codes=tmp_path / "codes.npy", codebook_size=32))["tokens.bits"] == 20.0
    for size, words in ((16, "codes from 16 to 19, expected 0 to 15"), (19, "expected 0 to 18")):
        with pytest.raises(InputError, match=words):
            run(data, codes=tmp_path / "codes.npy", codebook_size=size)
    np.save(tmp_path / "codes.npy", np.zeros((4, 4)))
    with pytest.raises(InputError, match=r"float64 \[4, 4\], expected integers \[5, tokens\], a row an image"):
        run(data, codes=tmp_path / "codes.npy", codebook_size=32)
    lines.write_text('{"file_name": "3.png", "codes": [1]}\n')
    with pytest.raises(InputError, match=r"4 of 5 images have no codes .4.png, 5.png, a/1.png, a/2.png."):
        run(data, codes=lines, codebook_size=8)


def test_what_is_missing_or_ambiguous_is_named(data: Path, drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to evaluate: give --model DIR, or another tokenizer's --drawn"):
        run(data)
    with pytest.raises(UsageError, match="--codebook-size K go together"):
        run(data, codes=tmp_path / "c.npy")
    (drawn / "1.png").write_bytes((drawn / "1.webp").read_bytes())
    with pytest.raises(InputError, match=r"1 images may have several reconstructions .a/1.png."):
        run(data, drawn=drawn)
    (drawn / "1.png").unlink()
    Image.new("RGB", (30, 20)).save(drawn / "4.webp")
    with pytest.raises(InputError, match=r"4.webp: 30x20 pixels, expected squares of one size; --set compare_px=256"):
        run(data, drawn=drawn)
    (drawn / "4.webp").unlink()
    with pytest.raises(InputError, match=r"1 of 5 images have no reconstruction .4.png."):
        run(data, drawn=drawn)
    assert not (tmp_path / "o").exists()


def test_metric_networks(data: Path, drawn: Path, tmp_path: Path, inception: Path) -> None:
    from stages.evaluation.tests.test_lpips import random_weights

    trunk, heads = random_weights(tmp_path / "lpips", "alex")
    weights = ReconstructionWeights(inception=inception, lpips_trunk=trunk, lpips_heads=heads)
    settings = {"any_inception": True, "any_lpips": True}
    with pytest.raises(UsageError, match="LPIPS needs two files"):
        run(data, drawn=drawn, weights=ReconstructionWeights(lpips_trunk=trunk))
    few = run(data, settings=settings, drawn=drawn, weights=weights)
    assert few["skipped"]["reconstruction.rfd"].startswith("5 images, fewer than 2,048 features")
    assert few["skipped"]["reconstruction.rfd"].endswith("--set few=true computes it")
    mine = metrics(few)["reconstruction.lpips_other"]
    assert mine > 0
    assert set(few["networks"]) == {"rfid_inception", "lpips_trunk", "lpips_heads"}
    same = run(data, settings=settings, drawn=data, weights=weights)
    assert metrics(same)["reconstruction.lpips_other"] == 0


def test_rfid_is_the_distance_of_both_sides_at_their_own_size(
    data: Path, drawn: Path, inception: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the eigenvalues of 2,048 features, which test_moments.py has: only what they are taken of."""
    from lavit_evaluation.image_metrics.fid import FidConfig, load_network
    from lavit_evaluation.tokenizing import networks

    sides: list[Any] = []
    monkeypatch.setattr(networks, "frechet_distance", lambda *moments: sides.extend(moments) or 7.0)
    any_weights = {"few": True, "any_inception": True}
    settings = {**any_weights, "images": 2, "reconstructions": 2}
    found = run(data, settings=settings, drawn=drawn, weights=ReconstructionWeights(inception=inception))
    assert metrics(found)["reconstruction.rfd"] == 7.0
    assert found["notes"]["rank_deficient"] == "2 images for 2,048 features"
    network = load_network(inception, FidConfig(size=None, crop="none", **any_weights), "cpu")
    keys = choose_reference(open_data(data), EvalTokenizerConfig.model_validate(settings), 0).drawn
    theirs = [drawn / f"{Path(key).stem}.webp" for key in keys]
    for moments, files in zip(sides, (theirs, [data / key for key in keys]), strict=True):
        features = network([np.asarray(Image.open(file).convert("RGB")) for file in files])
        assert moments.count == 2
        assert moments.mean == pytest.approx(features.mean(0), abs=1e-4)


def test_a_model_and_a_foreign_tokenizer_side_by_side(
    models: dict[str, Path], shapes_data: Path, tmp_path: Path
) -> None:
    heldout, ours = shapes_data / "heldout", tmp_path / "ours"
    line = ["tokenizer", "--model", str(models["whole"]), "--data", str(heldout), "--out", str(ours), "--images", "6"]
    line += ["--reconstructions", "4", "--set", "decoder_steps=1", "--set", "selection=topk", "--device", "cpu"]
    CliRunner().invoke(evaluate, [*line, "--json"], catch_exceptions=False)
    theirs = tmp_path / "theirs"
    line = ["tokenizer", "--data", str(heldout), "--drawn", str(heldout), "--images", "6", "--reconstructions", "4"]
    CliRunner().invoke(evaluate, [*line, "--out", str(theirs), "--json"], catch_exceptions=False)
    found = compare([ours, theirs])
    assert found["not_comparable"] == []
    one, other = found["figures"]["reconstruction.psnr_db"]
    assert (one["count"], other["value"]) == (4, 99.0)
    assert found["figures"]["tokens.bits"][1] is None
    [gap] = found["paired"]["psnr_db"]
    assert gap["value"] == pytest.approx(99.0 - one["value"])
    shown = CliRunner().invoke(evaluate, ["compare", str(ours), str(theirs)], catch_exceptions=False).stdout
    assert "item by item, psnr_db: +" in shown
    fewer = [*line[:-1], "3", "--out", str(tmp_path / "fewer"), "--json"]
    CliRunner().invoke(evaluate, fewer, catch_exceptions=False)
    with pytest.raises(ScoringInputError, match=r"fewer: measured on other images than .*6 .3 drawn. and 6 .4 drawn."):
        compare([ours, tmp_path / "fewer"])
    done = CliRunner().invoke(evaluate, ["tokenizer", "--model", "M", *line[1:]])
    assert "--drawn, --codes, --codebook-size: another tokenizer's output" in str(done.exception)
