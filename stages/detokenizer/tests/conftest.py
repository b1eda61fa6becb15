"""Tiny tokenizers, images, tokens and detokenizer settings that the tests share."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from lavit_core.images import Preprocessing
from lavit_core.modeldir import export_part, part_digest
from lavit_detokenizer.build import build_detokenizer
from lavit_detokenizer.config import TrainDetokenizerConfig
from lavit_detokenizer.folder import load_vae
from lavit_detokenizer.network import Detokenizer
from lavit_detokenizer.start_files import StartFiles
from lavit_detokenizer.train_detokenizer import train_detokenizer
from lavit_tokenizer.config import SmallVitConfig, TokenizeConfig, TokenizerConfig
from lavit_tokenizer.encoder import Encoder
from lavit_tokenizer.small_vit import SmallVit
from lavit_tokenizer.tokenize_images import tokenize_images
from lavit_tokenizer.tokenizer import VisualTokenizer
from lavit_tokenizer.tokenizer_folder import write_tokenizer
from lavit_trainkit.testing import Killed, kill_at_step, metrics_of
from PIL import Image

NUM_IMAGES = 12


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny tensors: threads only wait for each other."""
    torch.set_num_threads(1)


def write_images(folder: Path, count: int) -> Path:
    """Write `count` captioned images of 16 px, a bright block on a dark field."""
    draw = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    with open(folder / "captions.jsonl", "w") as handle:
        for index in range(count):
            pixels = draw.integers(0, 40, (16, 16, 3), dtype=np.uint8)
            row, column = draw.integers(0, 8, 2)
            pixels[row : row + 6, column : column + 6, index % 3] = 220
            Image.fromarray(pixels).save(folder / "images" / f"{index:03d}.png")
            row_ = {"file_name": f"images/{index:03d}.png", "captions": [f"block {index}", "a block"]}
            handle.write(json.dumps(row_) + "\n")
    return folder


def write_model(folder: Path, seed: int = 0) -> Path:
    """Write a model directory with a random tokenizer: 16 px, 4 x 4 patches, width 16."""
    torch.manual_seed(seed)
    vision = SmallVitConfig(
        preprocessing=Preprocessing(image_px=16), patch_px=4, width=16, layers=1, heads=2, mlp_dim=32
    )
    encoder = Encoder(
        SmallVit(vision), preprocessing=vision.preprocessing, grid=vision.grid, feature_dim=16, num_prefix=0
    )
    config = TokenizerConfig(
        preprocessing=vision.preprocessing, grid=vision.grid, feature_dim=16, merger_layers=1, heads=2, mlp_dim=32,
        codebook_size=32, code_dim=8, decoder_layers=1, merger_positions=True,
    )  # fmt: skip
    tokenizer = VisualTokenizer(config, encoder)
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    with export_part(folder, "tokenizer") as part:
        write_tokenizer(tokenizer, part)
    return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A folder with data/ (images), model/ (a tokenizer) and tokens/."""
    root = tmp_path_factory.mktemp("world")
    write_images(root / "data", NUM_IMAGES)
    write_model(root / "model")
    config = TokenizeConfig(workers=0, shard_samples=5)
    tokenize_images(root / "data", root / "model", root / "tokens", config, device="cpu", quiet=True)
    return root


@pytest.fixture(scope="session")
def vae_folder(tmp_path_factory):
    """A random VAE that halves the sides: 16 px to 2 x 8 x 8."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=2, norm_num_groups=4, layers_per_block=1, scaling_factor=0.5,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("vae") / "vae"
    vae.save_pretrained(folder)
    return folder


ONE_LEVEL = {
    "block_out_channels": (16,),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D",),
    "mid_block_type": None,
    "up_block_types": ("UpBlock2D",),
    "norm_num_groups": 8,
}
"""The tiny preset's UNet, narrower."""

TWO_LEVELS = {
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}
"""Stable Diffusion's UNet, in small: attention on the upper level and in the middle."""


SMALL_TRANSFORMER = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8, "patch_size": 1}
"""PixArt's transformer, in small."""

FLOW: dict[str, Any] = {"transformer": SMALL_TRANSFORMER, "flow": {}}
"""A transformer that learns flow matching, in place of UNet and diffusion."""


def settings(**changes: object) -> TrainDetokenizerConfig:
    """Settings of a pixel-space run of seconds."""
    pace = {"num_steps": 8, "batch_size": 4, "warmup_steps": 2, "lr": 1e-3, "log_every": 3, "checkpoint_every": 3}
    values = {
        "space": "pixel", "image_px": 16, "unshuffle": 4, "unet": ONE_LEVEL,
        "condition": {"kind": "concat", "map_channels": 8, "standardise": True},
        "noise": {"prediction_type": "sample", "beta_schedule": "squaredcos_cap_v2", "clip_sample": True,
                  "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    }  # fmt: skip
    return TrainDetokenizerConfig.model_validate({**values, **pace, **changes})


SDXL = {
    "space": "latent", "image_px": 32, "unet": TWO_LEVELS, "noise": {},
    "condition": {"cross_dims": (8, 16), "pooled_dim": 16, "pooled_heads": 2},
}  # fmt: skip
"""The released SDXL detokenizer's condition and space, in small."""


def random_detokenizer(vae: Path | None = None, **changes: object) -> Detokenizer:
    """Build a frozen detokenizer for the test tokenizer's features, [16, 16] an image."""
    torch.manual_seed(0)
    made = build_detokenizer(settings(**changes), 16, (4, 4), vae=None if vae is None else load_vae(vae))
    made.denoiser.eval().requires_grad_(False)
    return made


@torch.no_grad()
def shake(module: torch.nn.Module) -> None:
    """Move every weight: an untrained transformer predicts 0 whatever it is given."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))


def train(world: Path, out: Path, **arguments: Any) -> dict[str, Any]:
    """Train on `world`, with other arguments where they are given, and return the summary."""
    given = {"images": world / "data", "model": world / "model", "config": settings(), "device": "cpu", "quiet": True}
    names = [field.name for field in dataclasses.fields(StartFiles)]
    start = StartFiles(**{name: arguments.pop(name) for name in names if name in arguments})
    return train_detokenizer(world / "tokens", out=out, start=start, **{**given, **arguments})


def check_kill_changes_nothing(world: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> None:
    """Train into folder/whole, and into folder/cut with a kill after the checkpoint of step 3: both are to be equal."""
    train(world, folder / "whole", **arguments)
    with monkeypatch.context() as patch:
        kill_at_step(patch, 5)
        with pytest.raises(Killed):
            train(world, folder / "cut", **arguments)
    train(world, folder / "cut", **arguments)
    assert metrics_of(folder / "cut") == metrics_of(folder / "whole")
    parts = [folder / name / "model" / "detokenizer" for name in ("whole", "cut")]
    assert part_digest(parts[0]) == part_digest(parts[1])


@pytest.fixture(scope="session")
def trained(world, tmp_path_factory):
    """The model directory of a finished run; tests that change it take a copy."""
    out = tmp_path_factory.mktemp("trained") / "run"
    train(world, out)
    return out / "model"


@pytest.fixture
def model(trained, tmp_path):
    """A copy of the trained model directory."""
    return Path(shutil.copytree(trained, tmp_path / "model"))
