"""The benchmark on real, barely trained models: every part is reached through the other stages' public functions."""

import json
from pathlib import Path

import numpy as np
import pytest
from lavit_core.errors import InputError
from lavit_evaluation.cli import evaluate
from lavit_evaluation.config import ShapesConfig
from typer.testing import CliRunner


def test_the_command_scores_a_real_model(models: dict[str, Path], shapes_data: Path, tmp_path: Path) -> None:
    line = ["shapes", "--model", str(models["whole"]), "--blind", str(models["blind"]), "--out", str(tmp_path / "o")]
    line += ["--data", str(shapes_data / "heldout"), "--tokens", str(models["tokens"]), "--json"]
    line += ["--pictures", "8", "--questions", "20", "--device", "cpu", "--set", "token_pictures=12"]
    line += ["--set", "random_pictures=4", "--set", "decoder_steps=2"]
    done = CliRunner().invoke(evaluate, line, catch_exceptions=False)
    result = json.loads(done.stdout)
    figures = result["figures"]
    assert figures["questions.all"]["count"] == figures["blind.all"]["count"] == 20
    assert figures["captions.everything"]["count"] == 8
    assert figures["tokens.kept"]["count"] == 12
    assert figures["corpus.kept"]["count"] == 40
    assert 0 < figures["tokens.feature_error"]["value"] < 2
    assert 0 < figures["tokens.feature_error_mean_predictor"]["value"] < 1.2
    assert figures["generation.everything"]["count"] == figures["reconstruction.psnr_db"]["count"] == 8
    assert figures["random.count"]["count"] == 4
    assert 5 < figures["reconstruction.psnr_db"]["value"] < 40
    assert result["skipped"] == {}
    expected = {"model.tokenizer", "model.llm", "model.detokenizer", "blind.llm", "data", "scenes", "tokens"}
    assert set(result["inputs"]) >= expected


def test_codes_and_samples_have_the_shapes_the_scorers_expect(models: dict[str, Path], pictures: np.ndarray) -> None:
    from lavit_evaluation.shapes.load_subject import load_subject

    subject = load_subject(models["seeing"], models["blind"], ShapesConfig(), device="cpu")
    assert (subject.image_px, subject.grid, subject.codebook_size) == (64, (8, 8), 32)
    assert subject.encode is not None
    assert subject.sample is not None
    assert subject.answer_blind is not None
    encoded = subject.encode(pictures[:5])
    assert encoded.keep_masks.shape == encoded.errors.shape == (5, 64)
    assert [len(codes) for codes in encoded.codes] == encoded.keep_masks.sum(1).tolist()
    drawn = subject.sample(["a red circle in the top left", "a blue square"], [1, 2])
    assert all(len(codes) and codes.max() < 32 for codes in drawn)
    assert np.array_equal(drawn[1], subject.sample(["a blue square"], [2])[0])
    assert len(subject.answer_blind(["how many shapes are there?"])) == 1


def test_a_seeing_model_is_refused_as_the_blind_one(models: dict[str, Path]) -> None:
    from lavit_evaluation.shapes.load_subject import load_subject

    with pytest.raises(InputError, match="image input 'features', expected 'none'"):
        load_subject(models["seeing"], models["seeing"], ShapesConfig(), device="cpu")
