"""The benchmark on real, barely trained models: every part is reached through the other stages' public functions."""

import json
from pathlib import Path

import numpy as np
import pytest
from lavit_core.config import load_preset, resolve
from lavit_core.errors import InputError
from lavit_evaluation.cli import evaluate
from lavit_evaluation.config import ShapesConfig
from typer.testing import CliRunner

tokenizer_api = pytest.importorskip("lavit_tokenizer.api")
pretrain_api = pytest.importorskip("lavit_pretrain.api")
detokenizer_api = pytest.importorskip("lavit_detokenizer.api")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, shapes_data: Path) -> dict[str, Path]:
    """Train every part, and a blind model, for a handful of steps."""
    from lavit_tokenizer.config import ModelSettings, Phase, SmallVitConfig

    root, train = tmp_path_factory.mktemp("models"), shapes_data / "train"
    vision = SmallVitConfig(width=32, layers=1, heads=2, mlp_dim=64)
    config = tokenizer_api.TrainEncoderConfig(
        vision=vision, text_width=32, text_layers=1, text_heads=2, num_steps=3, batch_size=8, num_validation=4
    )
    tokenizer_api.train_encoder(train, root / "encoder", config, quiet=True)
    shape = ModelSettings(merger_layers=1, heads=2, mlp_dim=64, codebook_size=32, code_dim=8, decoder_layers=1)
    phase = Phase(
        name="codes", num_steps=3, batch_size=8, selection="fixed", quantise=True, train=("merger", "decoder")
    )
    config = tokenizer_api.TrainTokenizerConfig(model=shape, phases=(phase,))
    tokenizer_api.train_tokenizer(train, root / "tokenizer", config, model=root / "encoder" / "model", quiet=True)
    base, tokens = root / "tokenizer" / "model", root / "tokens"
    config = tokenizer_api.TokenizeConfig(features=True, workers=1)
    tokenizer_api.tokenize_images(train, base, tokens, config, quiet=True)
    llm = pretrain_api.LlmShape(
        hidden_size=32, num_layers=1, num_heads=2, intermediate_size=64, max_positions=256, text_vocab_size=300
    )
    mix = pretrain_api.Mix(text_to_image=0.4, image_to_text=0.2, questions=0.4, text=0.0)
    for name, image_input in (("seeing", "features"), ("blind", "none")):
        config = pretrain_api.PretrainConfig(
            image_input=image_input,
            llm=llm,
            mix=mix,
            num_steps=3,
            tokens_per_step=512,
            warmup_steps=1,
            precision="fp32",
        )
        pretrain_api.pretrain([tokens], base, root / name, config, questions=[train / "questions.jsonl"], quiet=True)
    shipped = load_preset("lavit_detokenizer", "train-detokenizer", "tiny")
    steps = {"num_steps": 2, "batch_size": 4, "warmup_steps": 1, "unet": {"block_out_channels": [32]}}
    config = resolve(detokenizer_api.TrainDetokenizerConfig, preset=shipped, flags=steps)
    seeing = root / "seeing" / "model"
    detokenizer_api.train_detokenizer(tokens, train, seeing, root / "whole", config, quiet=True)
    return {
        "whole": root / "whole" / "model",
        "seeing": seeing,
        "blind": root / "blind" / "model",
        "tokens": tokens,
    }


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
    from lavit_evaluation.load_subject import load_subject

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
    from lavit_evaluation.load_subject import load_subject

    with pytest.raises(InputError, match="image input 'features', expected 'none'"):
        load_subject(models["seeing"], models["seeing"], ShapesConfig(), device="cpu")
