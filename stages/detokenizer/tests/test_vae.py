"""Autoencoders of latent space: those of SD 3 and Flux (shift), Playground 2.5 (mean and deviation), Sana (DC-AE)."""

import json

import pytest
import torch
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny
from lavit_core.errors import InputError
from lavit_detokenizer.config import DrawSettings
from lavit_detokenizer.draw import draw
from lavit_detokenizer.folder import load_detokenizer, load_vae
from lavit_detokenizer.vae import decode_latents, downsampling, latent_moments, sample_latents

from .conftest import FLOW, settings, train

SMALL = {
    "block_out_channels": (8, 8), "down_block_types": ("DownEncoderBlock2D",) * 2, "norm_num_groups": 4,
    "up_block_types": ("UpDecoderBlock2D",) * 2, "layers_per_block": 1,
}  # fmt: skip
SD3 = {"latent_channels": 16, "scaling_factor": 1.5305, "shift_factor": 0.0609, "use_quant_conv": False,
       "use_post_quant_conv": False}  # fmt: skip
PLAYGROUND = {"latent_channels": 2, "scaling_factor": 0.5, "latents_mean": (0.3, -0.2), "latents_std": (2.0, 4.0)}


def dc_ae() -> AutoencoderDC:
    return AutoencoderDC(
        latent_channels=6, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()), attention_head_dim=4, encoder_out_shortcut=False, decoder_in_shortcut=False,
        scaling_factor=0.41407,
    )  # fmt: skip


def stored(vae, folder):
    vae.save_pretrained(folder)
    return load_vae(folder)


def test_a_shift_is_taken_off_before_the_scale_and_put_back(tmp_path):
    vae = stored(AutoencoderKL(**SMALL, **SD3), tmp_path / "vae")
    pixels, noise = torch.rand(2, 3, 16, 16) * 2 - 1, torch.randn(2, 16, 8, 8)
    posterior = vae.encode(pixels).latent_dist
    plain = posterior.mean + posterior.std * noise
    scaled = sample_latents(vae, latent_moments(vae, pixels), noise)
    # As StableDiffusion3Pipeline and FluxPipeline have it.
    torch.testing.assert_close(scaled, (plain - 0.0609) * 1.5305)
    torch.testing.assert_close(decode_latents(vae, scaled), vae.decode(plain).sample, rtol=1e-4, atol=1e-4)


def test_mean_and_deviation_of_latents_are_used(tmp_path):
    vae = stored(AutoencoderKL(**SMALL, **PLAYGROUND), tmp_path / "vae")
    pixels, noise = torch.rand(1, 3, 16, 16) * 2 - 1, torch.zeros(1, 2, 8, 8)
    plain = vae.encode(pixels).latent_dist.mean
    mean, deviation = torch.tensor([0.3, -0.2]).view(1, 2, 1, 1), torch.tensor([2.0, 4.0]).view(1, 2, 1, 1)
    scaled = sample_latents(vae, latent_moments(vae, pixels), noise)
    # As StableDiffusionXLPipeline decodes: latents * deviation / scaling_factor + mean.
    torch.testing.assert_close(scaled * deviation / 0.5 + mean, plain)
    torch.testing.assert_close(decode_latents(vae, scaled), vae.decode(plain).sample, rtol=1e-4, atol=1e-4)


def test_a_dc_ae_has_one_latent_an_image(tmp_path):
    torch.manual_seed(0)
    vae = stored(dc_ae(), tmp_path / "vae")
    assert isinstance(vae, AutoencoderDC)
    assert downsampling(vae) == 2
    pixels = torch.rand(2, 3, 16, 16) * 2 - 1
    plain = vae.encode(pixels).latent
    scaled = sample_latents(vae, latent_moments(vae, pixels), torch.randn(2, 6, 8, 8))
    torch.testing.assert_close(scaled, plain * 0.41407)
    torch.testing.assert_close(decode_latents(vae, scaled), vae.decode(plain).sample, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["sd3", "dc_ae"])
def test_a_transformer_trains_on_their_latents_and_draws(world, tmp_path, kind):
    torch.manual_seed(0)
    vae = dc_ae() if kind == "dc_ae" else AutoencoderKL(**SMALL, **SD3)
    vae.save_pretrained(tmp_path / "vae")
    config = settings(**FLOW, space="latent", num_steps=2, condition={"cross_dims": (8,)})
    train(world, tmp_path / "run", config=config, vae=tmp_path / "vae")
    folder = tmp_path / "run" / "model" / "detokenizer"
    index = json.loads((folder / "model_index.json").read_text())
    assert index["vae"] == ["diffusers", type(vae).__name__]
    assert index["transformer"] == ["diffusers", "PixArtTransformer2DModel"]
    assert index["scheduler"] == ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    made = load_detokenizer(tmp_path / "run" / "model", device="cpu")
    assert made.sample_shape == (vae.config.latent_channels, 8, 8)
    assert draw(made, torch.randn(2, 16, 16), seeds=[1, 2], settings=DrawSettings(num_steps=4)).shape == (2, 16, 16, 3)


def test_another_autoencoder_is_refused(tmp_path):
    AutoencoderTiny(encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
                    num_decoder_blocks=(1, 1), latent_channels=2).save_pretrained(tmp_path / "vae")  # fmt: skip
    with pytest.raises(InputError, match="_class_name is AutoencoderTiny, expected AutoencoderKL or AutoencoderDC"):
        load_vae(tmp_path / "vae")
