"""Preprocessing read from a folder against the folder's own image processor."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from lavit_core.errors import InputError
from lavit_core.images import CLIP_MEAN, CLIP_STD, Preprocessing, resize_to_square
from lavit_tokenizer.encoder import Encoder
from lavit_tokenizer.encoder_folder import load_encoder
from lavit_tokenizer.encoder_preprocessing import read_preprocessing, resizing_difference, stored_side
from lavit_tokenizer.selector import select_patches
from lavit_tokenizer.train_tokenizer import new_tokenizer
from lavit_trainkit.pixels import normalise
from PIL import Image
from torch import nn

from .conftest import tokenizer_settings
from .encoder_families import FAMILIES, PROCESSORS, each_of, write_family

BICUBIC = 3


def own_features(encoder: Encoder, processor: Any, images: list[Image.Image]) -> torch.Tensor:
    """Features of images by the family's processor and network alone, without this package's calls."""
    network: Any = encoder.network
    blocks = max((each for each in network.modules() if isinstance(each, nn.ModuleList)), key=len)
    seen: list[torch.Tensor] = []
    handle = blocks[-1].register_forward_hook(
        lambda module, given, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        network(**processor(images, return_tensors="pt"))
    handle.remove()
    return seen[0][:, encoder.num_prefix : encoder.num_prefix + 16]


@pytest.mark.parametrize("family", each_of(PROCESSORS))
@pytest.mark.parametrize(("side", "changes"), [(16, {}), (40, {"resample": BICUBIC})], ids=["as is", "resized"])
def test_codes_are_equal_through_both_preprocessings(
    family: str, side: int, changes: dict[str, Any], tmp_path: Path
) -> None:
    name, settings = PROCESSORS[family]
    write_family(tmp_path, family, FAMILIES[family][0])
    processor = getattr(transformers, name)(**settings, **changes)
    processor.save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path)
    assert (encoder.preprocessing.mean, encoder.preprocessing.std) == (
        pytest.approx(processor.image_mean), pytest.approx(processor.image_std)
    )  # fmt: skip
    draw = np.random.default_rng(0)
    images = [Image.fromarray(draw.integers(0, 256, (side, side, 3), np.uint8)) for _ in range(8)]
    pixels = torch.from_numpy(np.stack([resize_to_square(image, 16) for image in images]))
    theirs = own_features(encoder, processor, images)
    torch.testing.assert_close(encoder(normalise(pixels, encoder.preprocessing)), theirs, rtol=1e-4, atol=1e-4)
    tokenizer = new_tokenizer(tokenizer_settings(), encoder).eval()
    tokenizer.fit_whitening(theirs.flatten(0, 1))
    ours = tokenizer.encode(pixels, selection="topk", tokens=6)
    features = tokenizer.whiten(theirs)
    kept = select_patches(tokenizer.selector(features), "topk", tokenizer.config, tokens=6)
    assert len(set(ours.codes.tolist())) > 4, "codes that tell images apart"
    assert torch.equal(ours.codes, tokenizer.encode_kept(features, kept).codes)
    assert torch.equal(ours.keep_mask, kept)


@pytest.mark.parametrize(
    ("stored", "mean", "std"),
    [
        ({}, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ({"image_mean": [0.1, 0.2, 0.3], "image_std": 0.25}, (0.1, 0.2, 0.3), (0.25, 0.25, 0.25)),
        ({"do_normalize": False}, (0, 0, 0), (1, 1, 1)),
        ({"rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": 1.0}, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ({"do_rescale": False, "image_mean": 51.0, "image_std": 127.5}, (0.2, 0.2, 0.2), (0.5, 0.5, 0.5)),
        ({"image_processor": {"image_mean": [0, 0, 0]}}, (0, 0, 0), (0.5, 0.5, 0.5)),
    ],
)
def test_mean_and_deviation_are_those_of_the_processor(tmp_path: Path, stored: Any, mean: Any, std: Any) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stored))
    found = read_preprocessing(tmp_path, "vit", 32)
    assert (found.mean, found.std, found.image_px) == (pytest.approx(mean), pytest.approx(std), 32)


def test_families_without_a_processor_have_their_published_normalisation(tmp_path: Path) -> None:
    assert read_preprocessing(tmp_path, "clip_vision_model", 8) == Preprocessing(
        image_px=8, mean=CLIP_MEAN, std=CLIP_STD
    )
    assert read_preprocessing(tmp_path, "dinov3_vit", 8).mean == (0.485, 0.456, 0.406)
    assert read_preprocessing(tmp_path, "siglip2_vision_model", 8).std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"image_mean": [0.5]}, r"preprocessor_config.json: image_mean is \[0.5\], expected three numbers"),
        ({"image_std": "x"}, r"image_std is 'x', expected three numbers"),
        ({"do_flip_channel_order": True}, r"do_flip_channel_order is true, and images are given as RGB"),
        ([], r"not the settings of an image processor"),
    ],
)
def test_what_normalisation_cannot_do_is_refused(tmp_path: Path, stored: Any, message: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match=message):
        read_preprocessing(tmp_path, "vit", 32)


@pytest.mark.parametrize(
    ("stored", "side", "said"),
    [
        ({}, None, None),
        ({"size": 24}, 24, None),
        ({"size": {"height": 24, "width": 24}, "resample": 3}, 24, None),
        ({"size": {"height": 24, "width": 24}, "resample": 2}, 24, "its own processor resamples in another way"),
        ({"size": {"shortest_edge": 24}, "do_center_crop": True, "crop_size": 24}, 24, None),
        (
            {"size": {"shortest_edge": 28}, "do_center_crop": True, "crop_size": {"height": 24, "width": 24}},
            24,
            "its own processor crops the middle of 28 pixels",
        ),
        ({"size": {"longest_edge": 24}}, None, None),
    ],
)
def test_the_side_and_what_is_done_otherwise(tmp_path: Path, stored: Any, side: int | None, said: str | None) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stored))
    assert stored_side(tmp_path) == side
    assert resizing_difference(tmp_path, 24) == said
