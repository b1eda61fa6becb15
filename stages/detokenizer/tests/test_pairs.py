"""Training pairs against the tokenizer and the images themselves."""

import shutil

import numpy as np
import pytest
import torch
from lavit_core.data import open_data
from lavit_core.errors import InputError
from lavit_core.tokens import open_tokens
from lavit_detokenizer.network import to_sample, to_unit_range
from lavit_detokenizer.pairs import TrainingPairs, image_records
from lavit_detokenizer.vae import latent_moments, sample_latents
from lavit_tokenizer.api import load_tokenizer
from lavit_trainkit.device import generator
from lavit_trainkit.pixels import Pixels
from lavit_trainkit.testing import metrics_of

from .conftest import SDXL, random_detokenizer, settings, train


def opened(world, detokenizer, cache_bytes=1 << 20):
    """Return the pairs of a detokenizer, its tokenizer and its images."""
    reader, data = open_tokens(world / "tokens"), open_data(world / "data")
    tokenizer, paths = (
        load_tokenizer(world / "model", device="cpu"),
        [record.image for record in image_records(reader, data, world / "tokens")],
    )
    pairs = TrainingPairs(reader, paths, tokenizer, detokenizer, cache_bytes=cache_bytes, quiet=True)
    return pairs, reader, tokenizer, Pixels(paths, detokenizer.config.image_px)


def test_a_pair_is_the_decoded_features_and_the_image(world):
    pairs, reader, tokenizer, pixels = opened(world, random_detokenizer())
    indices = np.array([7, 0, 3])
    codes, counts = reader.codes(indices)
    decoded = tokenizer.decode_codes(torch.from_numpy(codes), torch.from_numpy(counts))
    # Kept in bfloat16: 8 bits, and a few fp32 bits of another batch size.
    torch.testing.assert_close(pairs.features(indices), decoded.float(), rtol=1 / 128, atol=1e-5)
    clean = pairs.clean(indices, slice(1, 3), seed=0, step=0)
    assert torch.equal(clean, to_sample(pixels.batch(indices[1:]), 4))


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_latents_are_drawn_from_the_posterior(world, vae_folder, cache_bytes):
    made = random_detokenizer(vae_folder, **SDXL)
    pairs, _, _, pixels = opened(world, made, cache_bytes)
    indices = np.array([7, 0, 3])
    noise = torch.randn((3, *made.sample_shape), generator=generator(5, "latents", 9))
    expected = sample_latents(made.vae, latent_moments(made.vae, to_unit_range(pixels.batch(indices))), noise)
    # fp32 convolutions of another batch size may add in another order.
    torch.testing.assert_close(pairs.clean(indices, slice(0, 3), seed=5, step=9), expected, rtol=1e-4, atol=1e-5)
    part = pairs.clean(indices, slice(1, 3), seed=5, step=9)
    torch.testing.assert_close(part, expected[1:], rtol=1e-4, atol=1e-5)


def test_uncached_features_train_the_same(world, tmp_path):
    train(world, tmp_path / "cached")
    train(world, tmp_path / "live", config=settings(cache_bytes=0))
    ours, theirs = ([row["loss"] for row in metrics_of(tmp_path / name)] for name in ("cached", "live"))
    # Decoding another batch size may move a value across a bfloat16 step: 1/256.
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_missing_images_are_named(world, tmp_path):
    shutil.copytree(world / "data", tmp_path / "data")
    lines = (tmp_path / "data" / "captions.jsonl").read_text().splitlines()
    (tmp_path / "data" / "captions.jsonl").write_text("\n".join(lines[2:]) + "\n")
    with pytest.raises(InputError, match=r"no image images/000\.png \(and 1 more\).*give --images the folder"):
        train(world, tmp_path / "run", images=tmp_path / "data")
