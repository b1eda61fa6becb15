"""A detokenizer before training, and the files given with its settings."""

import pytest
import torch
from lavit_core.errors import InputError, UsageError
from lavit_detokenizer.build import build_detokenizer, check_files
from lavit_detokenizer.start_files import StartFiles
from safetensors.torch import save_file

from .conftest import TWO_LEVELS, random_detokenizer, settings

STORED = {"unet": TWO_LEVELS, "condition": {"cross_dims": (8,), "null_condition": "stored"}}


def test_files_and_settings_belong_together(vae_folder, tmp_path):
    check_files(settings(), StartFiles())
    check_files(settings(space="latent"), StartFiles(vae=vae_folder))
    with pytest.raises(UsageError, match="--vae: found none, expected a diffusers AutoencoderKL folder with space lat"):
        check_files(settings(space="latent"), StartFiles())
    with pytest.raises(UsageError, match=r"--vae: found .*vae, expected"):
        check_files(settings(), StartFiles(vae=vae_folder))
    with pytest.raises(UsageError, match="--null-embedding: found none"):
        check_files(settings(**STORED), StartFiles())
    with pytest.raises(UsageError, match=r"--null-embedding: found .*null, expected"):
        check_files(settings(), StartFiles(null_embedding=tmp_path / "null"))
    with pytest.raises(InputError, match=r"--null-embedding .*absent: file not found"):
        check_files(settings(**STORED), StartFiles(null_embedding=tmp_path / "absent"))


def test_the_null_embedding_is_stored_in_the_condition(tmp_path):
    file = tmp_path / "null.safetensors"
    for name, width, found in (("other", 8, "absent"), ("null_embedding", 7, r"\(2, 7\)")):
        save_file({name: torch.ones(2, width)}, file)
        with pytest.raises(UsageError, match=rf"null_embedding is {found}, expected \[rows, 8\]"):
            build_detokenizer(settings(**STORED), 16, (4, 4), null_embedding=file)
    null = torch.randn(7, 8)
    save_file({"null_embedding": null}, file)
    made = build_detokenizer(settings(**STORED), 16, (4, 4), null_embedding=file)
    assert torch.equal(made.denoiser.condition.null_embedding, null)


def test_a_given_unet_is_kept_and_must_fit(tmp_path):
    made = random_detokenizer(unet=TWO_LEVELS, condition={"cross_dims": (8,)})
    made.denoiser.unet.save_pretrained(tmp_path / "unet")
    config = settings(condition={"cross_dims": (8,)})
    again = build_detokenizer(config, 16, (4, 4), unet=tmp_path / "unet")
    for name, value in made.denoiser.unet.state_dict().items():
        assert torch.equal(again.denoiser.unet.state_dict()[name], value), name
    with pytest.raises(InputError, match="cross_attention_dim is 8, expected 9"):
        build_detokenizer(settings(condition={"cross_dims": (9,)}), 16, (4, 4), unet=tmp_path / "unet")
