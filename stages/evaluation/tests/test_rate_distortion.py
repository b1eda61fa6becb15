"""`lavit eval rate-distortion` on a model of a few steps: equal numbers of tokens, paired differences, kills."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lavit_core.errors import UsageError
from lavit_evaluation.cli import evaluate
from lavit_evaluation.compute import Compute
from lavit_evaluation.config import RateDistortionConfig
from lavit_evaluation.tokenizing import job, rate_distortion
from lavit_evaluation.tokenizing.rate_distortion import eval_rate_distortion
from PIL import Image
from typer.testing import CliRunner

QUIET = Compute(quiet=True)
CONFIG = RateDistortionConfig(tokens=(20, 3), images=12, reconstructions=4, batch_size=8, decoder_steps=2)
METHODS = ("learned", "topk", "random")


@pytest.fixture(scope="session")
def heldout(shapes_data: Path) -> Path:
    return shapes_data / "heldout"


@pytest.fixture(scope="session")
def whole(models: dict[str, Path], heldout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("rates") / "score"
    return out, eval_rate_distortion(models["whole"], heldout, out, CONFIG, compute=QUIET)


def test_selections_have_equal_numbers_of_tokens_and_paired_differences(whole: tuple[Path, dict]) -> None:
    metrics = whole[1]["figures"]
    for rate in (3, 20):
        for method in METHODS:
            assert metrics[f"{method}.{rate}.tokens"]["value"] == rate
            assert metrics[f"{method}.{rate}.bits"]["value"] == rate * np.log2(whole[1]["notes"]["codebook_size"])
            assert metrics[f"{method}.{rate}.feature_error"]["count"] == 12
            assert metrics[f"{method}.{rate}.psnr_db"]["count"] == metrics[f"{method}.{rate}.ssim"]["count"] == 4
        for other in METHODS[1:]:
            for name in ("feature_error", "psnr_db", "ssim"):
                learned, against = (metrics[f"{method}.{rate}.{name}"]["value"] for method in ("learned", other))
                difference = metrics[f"learned_minus_{other}.{rate}.{name}"]
                assert difference["value"] == pytest.approx(learned - against)
                assert difference["low"] <= difference["value"] <= difference["high"]
    assert metrics["learned.3.psnr_db"] != metrics["topk.3.psnr_db"] != metrics["random.3.psnr_db"]


def test_topk_and_own_counts_are_those_of_the_model(
    whole: tuple[Path, dict], models: dict[str, Path], heldout: Path
) -> None:
    from lavit import LaVIT

    files = sorted((heldout / "images").iterdir())[:6]
    config = CONFIG.model_copy(update={"tokens": (7,), "images": 6, "reconstructions": 6})
    folder = heldout.parent / "six"
    folder.mkdir()
    for file in files:
        (folder / file.name).symlink_to(file)
    metrics = eval_rate_distortion(models["whole"], folder, None, config, compute=QUIET)["figures"]
    model = LaVIT.from_pretrained(models["whole"])
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    for name, tokens in (
        ("topk.7", model.encode(pixels, selection="topk", tokens=7)),
        ("learned.own", model.encode(pixels, selection="threshold")),
    ):
        assert metrics[f"{name}.tokens"]["value"] == tokens.counts.mean()
        seeds = rate_distortion_seeds(files)
        drawn = np.stack(model.decode(tokens, seeds, model.draw_settings(num_steps=2)))
        assert metrics[f"{name}.psnr_db"]["value"] == pytest.approx(rate_distortion.psnr(drawn, pixels).mean())
    own = max(1, round(metrics["learned.own.tokens"]["value"]))
    assert metrics["topk.own.tokens"]["value"] == metrics["random.own.tokens"]["value"] == own


def rate_distortion_seeds(files: list[Path]) -> list[int]:
    from lavit_evaluation.shapes.heldout import image_seeds

    return image_seeds([file.name for file in files], "reconstruct", 0)


@pytest.mark.parametrize("limit", [1, 3, 9])
def test_killed_and_resumed_is_the_same_and_computes_nothing_twice(
    whole: tuple[Path, dict], models: dict[str, Path], heldout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    calls: Any, limit: int,
) -> None:  # fmt: skip
    from lavit import LaVIT

    monkeypatch.setattr(job, "tokenize", calls.counted(job.tokenize))
    monkeypatch.setattr(rate_distortion, "tokenize_kept", calls.counted(rate_distortion.tokenize_kept))
    monkeypatch.setattr(LaVIT, "decode", calls.counted(LaVIT.decode))
    calls.limit = limit
    with pytest.raises(KeyboardInterrupt):
        eval_rate_distortion(models["whole"], heldout, tmp_path / "o", CONFIG, compute=QUIET)
    calls.limit = 2 + 2 + 9
    result = eval_rate_distortion(models["whole"], heldout, tmp_path / "o", CONFIG, compute=QUIET)
    assert calls.made == calls.limit
    assert result["figures"] == whole[1]["figures"]
    assert not (tmp_path / "o" / "unfinished").exists()
    assert eval_rate_distortion(models["whole"], heldout, tmp_path / "o", CONFIG, compute=QUIET) == result


def test_images_of_any_size_and_a_model_that_can_not_draw(models: dict[str, Path], tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for index, size in enumerate([(40, 90, 3), (200, 120, 3), (64, 64, 3)]):
        Image.fromarray(draw.integers(0, 256, size, dtype=np.uint8)).save(tmp_path / f"{index}.png")
    result = eval_rate_distortion(models["seeing"], tmp_path, None, RateDistortionConfig(tokens=(64,)), compute=QUIET)
    assert result["skipped"]["reconstruction"] == "no detokenizer"
    assert result["figures"]["random.64.tokens"]["value"] == 64
    assert result["figures"]["learned_minus_random.64.feature_error"]["value"] == 0  # all patches, whoever chooses
    assert "random.64.psnr_db" not in result["figures"]


def test_the_command(models: dict[str, Path], heldout: Path, tmp_path: Path) -> None:
    line = ["rate-distortion", "--model", str(models["whole"]), "--data", str(heldout), "--images", "4"]
    line += ["--reconstructions", "2", "--set", "decoder_steps=1", "--tokens", "4,2,4"]
    shown = json.loads(CliRunner().invoke(evaluate, [*line, "--dry-run", "--json"]).stdout)
    assert (shown["config"]["images"], shown["config"]["tokens"]) == (4, [4, 2])
    shown = CliRunner().invoke(evaluate, [*line, "--out", str(tmp_path / "o")]).stdout
    table = [row.rstrip() for row in shown.splitlines()]
    for title in ("PSNR in dB", "SSIM", "1 - cos of decoded features"):
        place = table.index(title)
        assert table[place + 1].split() == ["tokens", "bits", *METHODS, "-", "topk", "-", "random"]
        assert [row.split()[0] for row in table[place + 2 : place + 5]] == ["2", "4", "own:"]
    assert "learned: threshold moved so that the mean is so many tokens" in table
    assert json.loads((tmp_path / "o" / "score.json").read_text())["settings"]["tokens"] == [4, 2]
    for wrong, message in (
        ("99", "found 99 tokens an image, expected 1 to 64, its patches"),
        ("0", "found 0 tokens an image, expected 1 to 64"),
        ("1.5", "--tokens 1.5: expected whole numbers"),
    ):
        done = CliRunner().invoke(evaluate, [*line[:-1], wrong, "--out", str(tmp_path / "w")])
        assert isinstance(done.exception, UsageError)
        assert message in str(done.exception)
    assert not (tmp_path / "w").exists()
