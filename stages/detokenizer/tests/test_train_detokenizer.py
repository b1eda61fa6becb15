"""The trainer: exact resume, averaged weights, published shapes in small, refusals."""

import collections
import importlib.metadata
import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch
from lavit_core.errors import InputError, Interrupted, LavitError, UsageError
from lavit_core.follow import FollowOptions
from lavit_core.rundir import read_warnings
from lavit_detokenizer import train_detokenizer as module
from lavit_detokenizer.build import build_detokenizer
from lavit_detokenizer.config import DrawSettings
from lavit_detokenizer.draw import draw
from lavit_detokenizer.folder import load_detokenizer
from lavit_detokenizer.pairs import TrainingPairs
from lavit_tokenizer.api import load_tokenizer
from lavit_tokenizer.config import TokenizeConfig
from lavit_tokenizer.tokenize_images import tokenize_images
from lavit_trainkit.device import seed_init
from lavit_trainkit.testing import Killed, have_equal_weights, kill_at_step, metrics_of, stop_at_step
from safetensors.torch import load_file, save_file

from .conftest import (
    NUM_IMAGES,
    ONE_LEVEL,
    TWO_LEVELS,
    check_kill_changes_nothing,
    settings,
    train,
    write_images,
    write_model,
)


@pytest.mark.parametrize("refine_channels", [0, 4])
def test_killed_and_run_again_equals_uninterrupted(world, tmp_path, monkeypatch, refine_channels):
    config = settings(refine_channels=refine_channels)
    check_kill_changes_nothing(world, tmp_path, monkeypatch, config=config)
    assert len(metrics_of(tmp_path / "cut")) == 3
    assert (tmp_path / "cut" / "model" / "tokenizer").is_dir()
    summary = train(world, tmp_path / "cut", config=config)
    assert summary == json.loads((tmp_path / "cut" / "DONE").read_text())
    assert (summary["steps"], summary["images"]) == (8, NUM_IMAGES)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_moments_in_8_bits_survive_a_kill_to_the_bit(world, tmp_path, monkeypatch):
    # 3 x 3 x 32 x 32 and more numbers a convolution.
    config = settings(moment_bits=8, unet={**ONE_LEVEL, "block_out_channels": (32,)})
    train(world, tmp_path / "whole", config=config)
    with monkeypatch.context() as patch:
        kill_at_step(patch, 5)
        with pytest.raises(Killed):
            train(world, tmp_path / "cut", config=config)
    [kept] = (tmp_path / "cut" / "checkpoints").glob("step-*/adamw8.safetensors")
    assert len([name for name in load_file(kept) if name.endswith("absmax2")]) >= 4
    train(world, tmp_path / "cut", config=config)
    assert metrics_of(tmp_path / "cut") == metrics_of(tmp_path / "whole")
    assert have_equal_weights(tmp_path / "whole" / "model", tmp_path / "cut" / "model")


def test_images_of_weight_3_are_shown_three_times_as_often(world, tmp_path, monkeypatch):
    write_images(tmp_path / "few", 3)
    listed = tmp_path / "sources.yaml"
    listed.write_text(f"sources: [{{data: {world / 'data'}, name: a}}, {{data: few, weight: 3}}]")
    tokens = tmp_path / "tokens"
    tokenize_images(listed, world / "model", tokens, TokenizeConfig(workers=0), device="cpu", quiet=True)
    shown = collections.Counter()
    clean = TrainingPairs.clean

    def watched(self, indices, rows, **drawn):
        shown.update(indices[rows].tolist())
        return clean(self, indices, rows, **drawn)

    monkeypatch.setattr(TrainingPairs, "clean", watched)
    config = settings(num_steps=7, batch_size=3)
    options = {"model": world / "model", "images": listed, "out": tmp_path / "run", "device": "cpu", "quiet": True}
    module.train_detokenizer(tokens, config=config, **options)
    assert shown == {**dict.fromkeys(range(NUM_IMAGES), 1), **dict.fromkeys(range(NUM_IMAGES, NUM_IMAGES + 3), 3)}
    # Another weight is another input.
    listed.write_text(listed.read_text().replace("weight: 3", "weight: 2"))
    with pytest.raises(UsageError, match="images"):
        module.train_detokenizer(tokens, config=config, **options)


def test_a_run_stopped_after_its_last_step_reports_its_loss(world, tmp_path, monkeypatch):
    whole = train(world, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at_step(patch, 8)
        with pytest.raises(Interrupted, match="at step 8 of 8, state saved"):
            train(world, tmp_path / "cut")
    assert train(world, tmp_path / "cut")["loss"] == whole["loss"] > 0


def test_a_step_in_several_passes_is_the_same_step(world, tmp_path):
    config = settings(precision="fp32", log_every=1)
    train(world, tmp_path / "whole", config=config)
    passes = config.model_copy(update={"accumulate_steps": 3, "gradient_checkpointing": True})
    train(world, tmp_path / "cut", config=passes)
    for whole, cut in zip(metrics_of(tmp_path / "whole"), metrics_of(tmp_path / "cut"), strict=True):
        assert [cut[name] for name in ("loss", "grad_norm")] == pytest.approx(
            [whole[name] for name in ("loss", "grad_norm")], rel=1e-5
        )


def test_exported_weights_are_the_average(world, tmp_path):
    train(world, tmp_path / "none", config=settings(ema_decay=0.0, num_steps=3))
    last = load_file(tmp_path / "none" / "model" / "detokenizer" / "condition.safetensors")
    train(world, tmp_path / "some", config=settings(ema_decay=0.9, num_steps=3))
    averaged = load_file(tmp_path / "some" / "model" / "detokenizer" / "condition.safetensors")
    # Reference: replay the optimiser's weights, saved after each step, through the rising decay by hand.
    replay = []
    train(world, tmp_path / "s1", config=settings(ema_decay=0.0, num_steps=3, checkpoint_every=1))
    for steps in (1, 2):
        folder = tmp_path / "s1" / "checkpoints" / f"step-{steps:08d}"
        replay.append(load_file(folder / "denoiser.safetensors")["condition.map_proj.weight"])
    replay.append(last["map_proj.weight"])
    shadow = initial_weight(world)
    for step, weight in enumerate(replay):
        decay = min(0.9, (1 + step) / (10 + step))
        shadow = decay * shadow + (1 - decay) * weight
    torch.testing.assert_close(averaged["map_proj.weight"], shadow, rtol=1e-5, atol=1e-6)


def initial_weight(world):
    config = load_tokenizer(world / "model", device="cpu").config
    seed_init(0, "detokenizer")
    made = build_detokenizer(settings(), config.decoder_width, config.grid)
    return made.denoiser.condition.map_proj.weight.detach().clone()


SD15 = {"unet": TWO_LEVELS, "condition": {"cross_dims": (8,), "null_condition": "stored"}, "noise": {}, "image_px": 16}
SDXL = {
    "unet": {**TWO_LEVELS, "use_linear_projection": True, "transformer_layers_per_block": (1, 2)},
    "condition": {"cross_dims": (8, 16), "pooled_dim": 16, "pooled_heads": 2},
    "noise": {},
}


@pytest.mark.parametrize(("name", "changes"), [("sd15", SD15), ("sdxl", SDXL)])
def test_published_shapes_in_small_train_and_draw(world, vae_folder, tmp_path, name, changes):
    null = None
    if name == "sd15":
        null = tmp_path / "null.safetensors"
        save_file({"null_embedding": torch.randn(7, 8)}, null)
    config = settings(**changes, space="latent", num_steps=2)
    train(world, tmp_path / "run", config=config, vae=vae_folder, null_embedding=null)
    folder = tmp_path / "run" / "model" / "detokenizer"
    index = json.loads((folder / "model_index.json").read_text())
    assert index["vae"] == ["diffusers", "AutoencoderKL"]
    assert {"unet", "scheduler", "vae"} <= {child.name for child in folder.iterdir()}
    made = load_detokenizer(tmp_path / "run" / "model", device="cpu")
    assert made.scheduler.config.prediction_type == "epsilon"
    assert made.scheduler.config.beta_schedule == "scaled_linear"
    assert made.sample_shape == (2, 8, 8)
    pixels = draw(made, torch.randn(2, 16, 16), seeds=[1, 2], settings=DrawSettings(num_steps=2))
    assert pixels.shape == (2, 16, 16, 3)
    # The exported UNet is where another run starts from.
    train(world, tmp_path / "next", config=config, vae=vae_folder, null_embedding=null, unet=folder / "unet")
    with pytest.raises(InputError, match="in_channels is 2, expected 48"):
        train(world, tmp_path / "wrong", config=settings(condition=changes["condition"] | {"null_condition": "zeros"}),
              unet=folder / "unet")  # fmt: skip


def test_training_learns(world, tmp_path):
    train(world, tmp_path / "run", config=settings(num_steps=150, batch_size=8, lr=3e-3, log_every=25, ema_decay=0.9))
    losses = [row["loss"] for row in metrics_of(tmp_path / "run")]
    assert losses[-1] < 0.5 * losses[0]


def test_tokens_of_another_tokenizer_are_refused(world, tmp_path):
    other = write_model(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match=r"made with tokenizer .* holds tokenizer"):
        train(world, tmp_path / "run", model=other)


def test_bad_arguments_say_what_is_expected(world, vae_folder, tmp_path):
    with pytest.raises(UsageError, match="--vae: found none, expected a diffusers AutoencoderKL folder with space lat"):
        train(world, tmp_path / "a", config=settings(space="latent"))
    with pytest.raises(UsageError, match=r"--vae: found .*vae, expected"):
        train(world, tmp_path / "b", vae=vae_folder)
    with pytest.raises(UsageError, match="--null-embedding: found none"):
        train(world, tmp_path / "c", config=settings(condition={"cross_dims": (8,), "null_condition": "stored"}))
    with pytest.raises(InputError, match="no such folder, expected a diffusers UNet2DConditionModel"):
        train(world, tmp_path / "d", unet=tmp_path / "nowhere")
    with pytest.raises(InputError, match="not a diffusers UNet2DConditionModel"):
        train(world, tmp_path / "e", unet=world / "data")
    with pytest.raises(UsageError, match="setting unet: "):
        train(world, tmp_path / "f", config=settings(unet={"block_out_channels": (16, 16)}))


def test_a_run_goes_on_with_its_own_settings_and_input_only(world, tmp_path):
    train(world, tmp_path / "g")
    with pytest.raises(UsageError, match=r"started with config.lr = 0.001, now it is 1.0"):
        train(world, tmp_path / "g", config=settings(lr=1.0))
    shutil.copytree(world / "data", tmp_path / "data")
    with open(tmp_path / "data" / "captions.jsonl", "a") as rows:
        rows.write(json.dumps({"file_name": "images/more.png", "captions": ["one more"]}) + "\n")
    shutil.copy(next((world / "data" / "images").iterdir()), tmp_path / "data" / "images" / "more.png")
    with pytest.raises(UsageError, match="images"):
        train(world, tmp_path / "g", images=tmp_path / "data")


def test_a_non_finite_loss_stops_the_run(world, tmp_path, monkeypatch):
    real = module.noisy_and_target

    def broken(*inputs):
        noisy, target = real(*inputs)
        return noisy, target * float("nan") if checkpoints(tmp_path) else target

    def checkpoints(folder):
        return sorted(folder.glob("run/checkpoints/step-*"))

    monkeypatch.setattr(module, "noisy_and_target", broken)
    with pytest.raises(LavitError, match="loss is nan at step 3, expected a finite number"):
        train(world, tmp_path / "run")
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step-00000003"]


def test_a_constant_loss_is_reported_once(world, tmp_path, capsys):
    train(world, tmp_path / "run", config=settings(num_steps=24, log_every=1, lr=1e-12))
    assert [row["kind"] for row in read_warnings(tmp_path / "run")] == ["not falling"]
    assert "nothing is being learned; raise lr, or look whether the data fits together" in capsys.readouterr().err


def test_samples_change_no_weight_no_metric_and_no_random_stream(world, tmp_path):
    streams = {}
    for name, follow in (("unseen", FollowOptions()), ("seen", FollowOptions(sample_every=4))):
        train(world, tmp_path / name, follow=follow)
        streams[name] = torch.get_rng_state()
    for part in ("model", "checkpoints"):
        assert have_equal_weights(tmp_path / "unseen" / part, tmp_path / "seen" / part)
    assert metrics_of(tmp_path / "unseen") == metrics_of(tmp_path / "seen")
    assert torch.equal(streams["unseen"], streams["seen"])
    sheets = sorted(file.name for file in (tmp_path / "seen" / "samples").iterdir())
    assert sheets == ["00000004-reconstructions.png", "00000008-reconstructions.png"]


def test_another_stage_finds_what_draws_codes_through_its_entry_point(world, tmp_path):
    train(world, tmp_path)
    [found] = importlib.metadata.entry_points(group="lavit.codes_to_images")
    drawn = found.load()(tmp_path / "model", "cpu")([np.array([1, 2, 3]), np.array([4])])
    side = settings().image_px
    assert drawn.shape == (2, side, side, 3)
    assert drawn.dtype == np.uint8
