"""The benchmark on real, barely trained models: every part is reached through the other stages' public functions."""

import json
from pathlib import Path

import numpy as np
import pytest
from lavit_core.errors import InputError
from lavit_evaluation.cli import evaluate
from lavit_evaluation.compute import Compute
from lavit_evaluation.config import ShapesConfig
from lavit_evaluation.model import open_model
from lavit_evaluation.shapes.benchmark import eval_shapes, open_blind
from lavit_evaluation.shapes.tokens_report import encode
from typer.testing import CliRunner


def test_the_command_scores_a_real_model(models: dict[str, Path], shapes_data: Path, tmp_path: Path) -> None:
    line = [
        "shapes",
        "--model",
        str(models["whole"]),
        "--no-images-model",
        str(models["blind"]),
        "--out",
        str(tmp_path / "o"),
    ]
    line += ["--data", str(shapes_data / "heldout"), "--tokens", str(models["tokens"]), "--json"]
    line += ["--images", "8", "--questions", "20", "--device", "cpu", "--set", "token_pictures=12"]
    line += ["--set", "random_pictures=4", "--set", "decoder_steps=2"]
    done = CliRunner().invoke(evaluate, line, catch_exceptions=False)
    result = json.loads(done.stdout)
    metrics = result["figures"]
    assert metrics["questions.all"]["count"] == metrics["blind.all"]["count"] == 20
    assert metrics["captions.everything"]["count"] == 8
    assert metrics["tokens.kept"]["count"] == 12
    assert metrics["corpus.kept"]["count"] == 40
    assert 0 < metrics["tokens.feature_error"]["value"] < 2
    assert 0 < metrics["tokens.feature_error_mean_predictor"]["value"] < 1.2
    assert metrics["generation.everything"]["count"] == metrics["reconstruction.psnr_db"]["count"] == 8
    assert metrics["random.count"]["count"] == 4
    assert 5 < metrics["reconstruction.psnr_db"]["value"] < 40
    assert result["skipped"] == {}
    expected = {"model.tokenizer", "model.llm", "model.detokenizer", "blind.llm", "data", "scenes", "tokens"}
    assert set(result["inputs"]) >= expected


def test_the_tokenizer_s_errors_are_those_of_every_patch(models: dict[str, Path], images: np.ndarray) -> None:
    lavit = open_model(models["seeing"], None, Compute(device="cpu"))
    encoded = encode(lavit, images[:5])
    assert [image.keep_mask.shape for image in encoded] == [image.errors.shape for image in encoded] == [(64,)] * 5
    assert [len(image.codes) for image in encoded] == [image.keep_mask.sum() for image in encoded]
    alone = encode(lavit, images[3:4])[0]
    assert np.array_equal(alone.codes, encoded[3].codes)
    assert np.allclose(alone.errors, encoded[3].errors, atol=1e-5)


def test_tokens_of_another_tokenizer_are_refused_of_an_open_model_too(
    oracle, models: dict[str, Path], shapes_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="made with another tokenizer than the open model's"):
        eval_shapes(oracle, shapes_data / "heldout", tmp_path / "o", ShapesConfig(), tokens=models["tokens"])
    assert not (tmp_path / "o").exists()


def test_a_seeing_model_is_refused_as_the_one_without_images(models: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="image input 'features', expected 'none'"):
        open_blind(models["seeing"], Compute(device="cpu"))
