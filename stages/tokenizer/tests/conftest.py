"""Tiny images, encoders and tokenizers that the tests share."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lavit_core.images import Preprocessing
from lavit_core.modeldir import export_part
from lavit_tokenizer.config import (
    ModelSettings,
    SmallVitConfig,
    TokenizerConfig,
    TrainEncoderConfig,
    TrainTokenizerConfig,
)
from lavit_tokenizer.encoder import Encoder
from lavit_tokenizer.encoder_folder import save_encoder
from lavit_tokenizer.objective import random_mask
from lavit_tokenizer.phase import Phase
from lavit_tokenizer.small_vit import SmallVit
from lavit_tokenizer.tokenizer import VisualTokenizer
from lavit_tokenizer.tokenizer_folder import write_tokenizer
from PIL import Image

VISION = SmallVitConfig(preprocessing=Preprocessing(image_px=16), patch_px=4, width=16, layers=1, heads=2, mlp_dim=32)
MODEL = ModelSettings(
    keep_ratio=0.4,
    merger_layers=2,
    heads=2,
    mlp_dim=32,
    merger_positions=True,
    codebook_size=32,
    code_dim=8,
    decoder_layers=2,
    whiten_power=0.25,
)


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny tensors: threads only wait for each other."""
    torch.set_num_threads(1)


def write_images(folder: Path, count: int, *, px: int = 16, seed: int = 0) -> Path:
    """Write `count` captioned images, a bright block on a dark field, in the data layout."""
    draw = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    with open(folder / "captions.jsonl", "w") as handle:
        for index in range(count):
            pixels = draw.integers(0, 40, (px, px, 3), dtype=np.uint8)
            row, column, colour = draw.integers(0, px // 2), draw.integers(0, px // 2), int(draw.integers(0, 3))
            pixels[row : row + px // 3, column : column + px // 3, colour] = 220
            Image.fromarray(pixels).save(folder / "images" / f"{index:03d}.png")
            captions = [f"a {('red', 'green', 'blue')[colour]} block", f"block {colour}"]
            handle.write(json.dumps({"file_name": f"images/{index:03d}.png", "captions": captions}) + "\n")
    return folder


@pytest.fixture
def data(tmp_path):
    """A data folder of 40 images."""
    return write_images(tmp_path / "data", 40)


def make_encoder(seed: int = 0) -> Encoder:
    """Return a random small encoder: 16 px, 4 x 4 patches, width 16."""
    torch.manual_seed(seed)
    network = SmallVit(VISION)
    with torch.no_grad():  # the library's start is too flat to tell patches apart without training
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    encoder = Encoder(network, preprocessing=VISION.preprocessing, grid=VISION.grid, feature_dim=16, num_prefix=0)
    return encoder.eval().requires_grad_(False)


def make_tokenizer(seed: int = 0, **changes: object) -> VisualTokenizer:
    """Return a random tokenizer whose selector keeps about half of the patches, depending on content."""
    encoder = make_encoder(seed)
    config = TokenizerConfig(
        preprocessing=encoder.preprocessing, grid=encoder.grid, feature_dim=16, **{**MODEL.model_dump(), **changes}
    )
    tokenizer = VisualTokenizer(config, encoder)
    with torch.no_grad():
        for name, parameter in tokenizer.named_parameters():
            if not name.startswith("encoder.") and parameter.ndim >= 2:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return tokenizer.eval().requires_grad_(False)


@pytest.fixture
def model(tmp_path):
    """A model directory with encoder/ and tokenizer/."""
    folder = tmp_path / "model"
    with export_part(folder, "encoder") as part:
        save_encoder(make_encoder(), part)
    with export_part(folder, "tokenizer") as part:
        write_tokenizer(make_tokenizer(), part)
    return folder


def encoder_settings(**changes: object) -> TrainEncoderConfig:
    """Settings of a train-encoder run of seconds."""
    small = {"text_width": 16, "text_layers": 1, "text_heads": 2, "vocabulary_size": 64, "embed_dim": 16}
    pace = {"num_steps": 8, "batch_size": 8, "warmup_steps": 2, "log_every": 2, "checkpoint_every": 3}
    return TrainEncoderConfig.model_validate({"vision": VISION, **small, **pace, "num_validation": 4, **changes})


def phases(steps: int) -> tuple[Phase, ...]:
    """The tiny preset's order of phases, `steps` each."""
    both = ("merger", "decoder")
    return (
        Phase(name="masks", num_steps=steps, batch_size=8, selection="random", merger="mixed", train=both, lr=1e-3),
        Phase(name="selector", num_steps=steps, batch_size=8, selection="gumbel", merger="off",
              train=("selector", *both), lr=1e-3, selector_lr=3e-3, tau=(1.0, 0.5)),
        Phase(name="merger", num_steps=steps, batch_size=8, selection="fixed", train=both, lr=1e-3),
        Phase(name="codes", num_steps=steps, batch_size=8, selection="fixed", quantise=True, train=both, lr=1e-3),
    )  # fmt: skip


def own_phases(steps: int) -> tuple[Phase, ...]:
    """The tiny preset's phases: the first two read own rows, without the merger."""
    first, second, *others = phases(steps)
    own = {"merger": "off", "evidence": "own"}
    return first.model_copy(update=own), second.model_copy(update=own), *others


def tokenizer_settings(**changes: object) -> TrainTokenizerConfig:
    """Settings of a train-tokenizer run of seconds."""
    pace = {"log_every": 2, "checkpoint_every": 3, "window_steps": 2, "num_validation": 4, "kmeans_samples": 256}
    recipe = {"keep_term": "batch", "nmse_weight": 1.0, "position_init": "sincos", "commitment_weight": 0.25}
    values = {"model": MODEL, "phases": phases(4), **pace, **recipe, **changes}
    return TrainTokenizerConfig.model_validate(values)


def images(count: int, seed: int = 0) -> torch.Tensor:
    """Return random images uint8 [B, 16, 16, 3]."""
    return torch.randint(0, 256, (count, 16, 16, 3), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def keep_masks(*, extremes: bool = False) -> torch.Tensor:
    """Return keep masks bool [6, 16] of random rates; with `extremes` one keeps all patches and one a single patch."""
    keep = random_mask((6, 16), (0.1, 0.9), torch.Generator().manual_seed(1))
    if extremes:
        keep[0], keep[1] = True, False
        keep[1, 5] = True
    return keep
