"""The transformer as denoiser: shapes, conditions, weights of others, training that can be killed, refusals."""

import json

import pytest
import torch
from diffusers import PixArtTransformer2DModel, SD3Transformer2DModel
from lavit_core.errors import InputError, UsageError
from lavit_detokenizer.build import build_detokenizer, check_files
from lavit_detokenizer.config import DrawSettings, TrainDetokenizerConfig, TransformerShape
from lavit_detokenizer.draw import draw
from lavit_detokenizer.folder import load_detokenizer, save_detokenizer
from lavit_detokenizer.released import export_detokenizer
from lavit_detokenizer.start_files import StartFiles
from lavit_detokenizer.transformer import transformer_arguments
from lavit_trainkit.testing import have_equal_weights, metrics_of

from .conftest import FLOW, SMALL_TRANSFORMER, check_kill_changes_nothing, random_detokenizer, settings, shake, train

CROSS = {"kind": "cross", "cross_dims": (8,), "standardise": True}
CONCAT = {"kind": "concat", "map_channels": 4}
BOTH = {"kind": "both", "cross_dims": (8,), "map_channels": 4}


@pytest.mark.parametrize("condition", [CROSS, CONCAT, BOTH])
def test_features_are_seen_unless_the_condition_is_dropped(condition):
    made = random_detokenizer(**FLOW, condition=condition)
    sample, times, dropped = torch.randn(2, 48, 4, 4), torch.tensor([500.0, 20.0]), torch.tensor([True, False])
    assert not made.denoiser(sample, times, torch.randn(2, 16, 16), dropped).any()  # untrained, it predicts 0
    shake(made.denoiser)
    one, other = (made.denoiser(sample, times, torch.randn(2, 16, 16), dropped) for _ in range(2))
    assert one.shape == sample.shape
    torch.testing.assert_close(one[0], other[0])
    assert not torch.allclose(one[1], other[1])
    later = made.denoiser(sample, times + 300, torch.zeros(2, 16, 16), dropped)
    assert not torch.allclose(later[0], one[0])


def test_positions_of_another_shape_are_the_squares_stretched():
    made = random_detokenizer(**FLOW, condition=CROSS)
    embed = made.denoiser.network.pos_embed
    embed.proj.weight.data.zero_()
    embed.proj.bias.data.zero_()
    square = embed(torch.zeros(1, 48, 4, 4)).view(4, 4, -1)
    wide = embed(torch.zeros(1, 48, 2, 8)).view(2, 8, -1)
    # Row 1 of 2 and column 6 of 8 lie where row 2 and column 3 of the 4 x 4 square do.
    torch.testing.assert_close(wide[:, ::2], square[::2])
    assert not torch.allclose(wide[:, 1::2], square[::2], atol=1e-2)


def test_features_behind_a_mask_are_not_attended_to():
    made = random_detokenizer(**FLOW, condition=CROSS)
    shake(made.denoiser)
    sample, times = torch.randn(1, 48, 4, 4), torch.tensor([500.0])
    rows, mask = torch.randn(1, 9, 8), torch.tensor([[True] * 6 + [False] * 3])
    masked, short = (
        made.denoiser.network(sample, encoder_hidden_states=given, timestep=times, encoder_attention_mask=keep).sample
        for given, keep in ((rows, mask), (rows[:, :6], None))
    )
    torch.testing.assert_close(masked, short)


def test_killed_and_run_again_equals_uninterrupted(world, tmp_path, monkeypatch):
    check_kill_changes_nothing(world, tmp_path, monkeypatch, config=settings(**FLOW, condition=CROSS))
    exported = tmp_path / "cut" / "model" / "detokenizer"
    made = load_detokenizer(tmp_path / "cut" / "model", device="cpu")
    assert type(made.denoiser.network) is PixArtTransformer2DModel
    save_detokenizer(made, tmp_path / "again")
    assert have_equal_weights(tmp_path / "again", exported)
    for name in ("config.json", "model_index.json", "scheduler/scheduler_config.json", "transformer/config.json"):
        found, expected = (json.loads((folder / name).read_text()) for folder in (tmp_path / "again", exported))
        assert {**found, "_name_or_path": None} == {**expected, "_name_or_path": None}
    again, features = load_detokenizer(tmp_path / "whole" / "model", device="cpu"), torch.randn(2, 16, 16)
    pace = DrawSettings(num_steps=4, guidance_scale=1.5)
    assert (
        draw(again, features, seeds=[3, 4], settings=pace) == draw(made, features, seeds=[3, 4], settings=pace)
    ).all()
    with pytest.raises(InputError, match="network is transformer, expected unet: the released code has no place"):
        export_detokenizer(exported, "detokenizer", {}, tmp_path / "released")


@pytest.mark.parametrize("flow", [{}, {"prediction_type": "sample", "timestep_sampling": "uniform"}])
def test_training_learns(world, tmp_path, flow):
    # Wider than a token's 48 numbers: a velocity has the noise of each.
    shape = {**SMALL_TRANSFORMER, "num_layers": 1, "attention_head_dim": 32}
    config = settings(transformer=shape, flow=flow, num_steps=60, batch_size=8, lr=5e-3, log_every=20)
    train(world, tmp_path / "run", config=config)
    losses = [row["loss"] for row in metrics_of(tmp_path / "run")]
    assert losses[-1] < 0.75 * losses[0]


def test_a_unet_learns_flow_matching_and_a_transformer_diffusion(world, tmp_path):
    train(world, tmp_path / "unet", config=settings(flow={}, num_steps=2))
    made = load_detokenizer(tmp_path / "unet" / "model", device="cpu")
    assert (made.denoiser.kind, made.config.flow.prediction_type) == ("unet", "velocity")
    train(world, tmp_path / "transformer", config=settings(transformer=SMALL_TRANSFORMER, num_steps=2))
    other = load_detokenizer(tmp_path / "transformer" / "model", device="cpu")
    assert (other.denoiser.kind, other.config.flow) == ("transformer", None)
    for one in (made, other):
        images = draw(one, torch.randn(1, 16, 16), seeds=[0], settings=DrawSettings(num_steps=2))
        assert images.shape == (1, 16, 16, 3)


def test_weights_in_pixarts_layout_are_trained_on(world, tmp_path):
    torch.manual_seed(0)
    # A projection of captions, a variance beside the prediction, and the size told, as in PixArt's checkpoints.
    pixart = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=48, out_channels=96, num_layers=1,
        cross_attention_dim=24, sample_size=4, patch_size=2, use_additional_conditions=True, caption_channels=10,
    )  # fmt: skip
    shake(pixart)
    pixart.save_pretrained(tmp_path / "pixart")
    config = settings(flow={}, condition={"cross_dims": (4, 6)}, num_steps=2)
    train(world, tmp_path / "run", config=config, transformer=tmp_path / "pixart")
    made = load_detokenizer(tmp_path / "run" / "model", device="cpu")
    name = "transformer_blocks.0.attn2.to_k.weight"
    # Two steps of 1e-3 at most from where they began.
    torch.testing.assert_close(made.denoiser.network.state_dict()[name], pixart.state_dict()[name], rtol=0, atol=3e-3)
    told = []
    made.denoiser.network.register_forward_pre_hook(
        lambda module, inputs, named: told.append(named["added_cond_kwargs"]), with_kwargs=True
    )
    assert draw(made, torch.randn(1, 16, 16), seeds=[0], settings=DrawSettings(num_steps=1)).shape == (1, 16, 16, 3)
    assert (told[0]["resolution"].tolist(), told[0]["aspect_ratio"].tolist()) == (2 * [[16, 16]], 2 * [[1]])
    # PixArt's repositories name the class it had before.
    file = tmp_path / "pixart" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "_class_name": "Transformer2DModel"}))
    build_detokenizer(config, 16, (4, 4), transformer=tmp_path / "pixart")
    with pytest.raises(InputError, match="caption_channels is 10, expected 8 for this condition and space"):
        build_detokenizer(settings(condition={"cross_dims": (8,)}), 16, (4, 4), transformer=tmp_path / "pixart")
    with pytest.raises(InputError, match="in_channels is 48, expected 56"):
        build_detokenizer(settings(), 16, (4, 4), transformer=tmp_path / "pixart")
    SD3Transformer2DModel(
        sample_size=4, patch_size=1, in_channels=48, num_layers=1, attention_head_dim=4, num_attention_heads=2,
        joint_attention_dim=8, caption_projection_dim=8, pooled_projection_dim=8, pos_embed_max_size=4,
    ).save_pretrained(tmp_path / "sd3")  # fmt: skip
    with pytest.raises(InputError, match="_class_name is SD3Transformer2DModel, expected PixArtTransformer2DModel"):
        build_detokenizer(config, 16, (4, 4), transformer=tmp_path / "sd3")


def test_wrong_combinations_are_refused(tmp_path):
    folder = tmp_path / "x"
    with pytest.raises(UsageError, match=r"--unet .*x and --transformer .*x: expected one of the two"):
        check_files(settings(), StartFiles(unet=folder, transformer=folder))
    with pytest.raises(UsageError, match=r"--unet .*x with setting transformer: expected one of the two"):
        check_files(settings(**FLOW), StartFiles(unet=folder))
    with pytest.raises(ValueError, match=r"condition.pooled_dim 8 with a transformer: only SDXL's UNet"):
        settings(**FLOW, condition={"cross_dims": (8,), "pooled_dim": 8})
    pooled = settings(space="latent", condition={"cross_dims": (8,), "pooled_dim": 8})
    with pytest.raises(UsageError, match=r"--transformer .*x with setting condition.pooled_dim 8: expected none"):
        check_files(pooled, StartFiles(vae=folder, transformer=folder))
    with pytest.raises(ValueError, match="refine_channels 4 with space pixel and prediction_type velocity"):
        settings(**FLOW, refine_channels=4)
    with pytest.raises(UsageError, match=r"transformer.patch_size: 3 does not divide the 4 x 4 grid"):
        random_detokenizer(flow={}, transformer={**SMALL_TRANSFORMER, "patch_size": 3})
    with pytest.raises(UsageError, match="num_attention_heads 3 x attention_head_dim 6 is 18, expected a multiple of"):
        random_detokenizer(flow={}, transformer={"num_attention_heads": 3, "attention_head_dim": 6, "patch_size": 1})


def test_the_default_shape_has_the_known_size():
    shape = TransformerShape()
    config = TrainDetokenizerConfig.model_validate({"condition": {"cross_dims": (1152,)}}).detokenizer(1408, (16, 16))
    with torch.device("meta"):
        transformer = PixArtTransformer2DModel(**transformer_arguments(config, shape, (4, 64, 64)))
    # PixArt-alpha, which attends to 1152 numbers a token: 0.6 B (arXiv 2310.00426).
    assert sum(parameter.numel() for parameter in transformer.parameters()) / 1e6 == pytest.approx(600, rel=0.02)
