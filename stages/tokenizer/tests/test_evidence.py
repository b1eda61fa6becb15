"""`evidence: own`: what a patch shows by itself, and phases in which a kept patch tells no more."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from lavit_core.data import open_data
from lavit_tokenizer.encoder_folder import load_encoder
from lavit_tokenizer.evidence import OwnRows, components
from lavit_tokenizer.features import fit_statistics
from lavit_tokenizer.objective import forward_phase
from lavit_tokenizer.phase import Phase
from lavit_tokenizer.train_tokenizer import new_tokenizer
from lavit_trainkit.pixels import Pixels

from .conftest import make_encoder, make_tokenizer, own_phases, phases, tokenizer_settings


def test_own_rows_of_the_small_vit_see_no_further_than_the_next_patch():
    encoder, pixels = make_encoder(), torch.randn(1, 3, 16, 16)
    changed = pixels.clone()
    changed[..., 8:, 8:] += 1  # the lower right four of 4 x 4 patches
    unmoved = (encoder.own_rows(pixels) == encoder.own_rows(changed)).all(dim=-1).view(4, 4)
    assert bool(unmoved[0].all())
    assert bool(unmoved[:, 0].all())
    assert not bool(unmoved[2:, 2:].any())
    assert not bool((encoder(pixels) == encoder(changed)).all(dim=-1).any()), "attention carries it everywhere"


@pytest.mark.parametrize("image_px", [16, 18])
def test_own_rows_of_another_encoder_are_the_pixels_of_its_patches(tmp_path, image_px):
    """18 px are 4 patches of 4 px and a rest, which the network's convolution does not see either."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.SiglipVisionConfig(**sizes, patch_size=4, image_size=image_px)
    network = transformers.SiglipVisionModel(config).eval()
    network.save_pretrained(tmp_path)
    encoder, pixels = load_encoder(tmp_path), torch.randn(2, 3, image_px, image_px)
    rows = encoder.own_rows(pixels)
    assert rows.shape == (2, 16, 48)
    # Its first convolution, which makes the patch rows, is a matrix on these very rows.
    embedding = getattr(network, "vision_model", network).embeddings.patch_embedding
    expected = embedding(pixels).flatten(2).transpose(1, 2)
    torch.testing.assert_close(rows @ embedding.weight.flatten(1).T + embedding.bias, expected)


@pytest.mark.parametrize("width", [3, 6, 10])
def test_components_are_half_whitened_and_fill_the_width(width):
    torch.manual_seed(0)
    rows = torch.randn(5000, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)
    rows = rows - rows.mean(dim=0)
    matrix = components(rows.T @ rows / len(rows), width)
    projected = rows @ matrix
    assert projected.shape == (5000, width)
    assert float(projected.square().mean()) == pytest.approx(1)
    covariance = projected.T @ projected / len(rows)
    torch.testing.assert_close(covariance, covariance.diagonal().diag(), atol=1e-9, rtol=0)
    values = torch.linalg.eigvalsh(rows.T @ rows / len(rows)).flip(0)[:width]
    found = covariance.diagonal()[: len(values)]
    torch.testing.assert_close(found / found.sum(), values.sqrt() / values.sqrt().sum())
    assert not covariance.diagonal()[6:].any()


def test_components_have_a_sign_of_their_own():
    matrix = components(torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64), 2)
    largest = matrix.gather(0, matrix.abs().argmax(dim=0, keepdim=True))
    assert bool((largest > 0).all())


def test_own_rows_are_centred_and_as_strong_as_whitened_features(data):
    tokenizer = new_tokenizer(tokenizer_settings(), make_encoder())
    paths = [record.image for record in open_data(data).records]
    pixels, every = Pixels(paths, 16), np.arange(len(paths))
    fit_statistics(tokenizer, pixels, every, "fp32")
    rows = OwnRows(tokenizer, pixels, every, "fp32").batch(every)
    assert rows.shape == (len(paths), 16, 16)
    torch.testing.assert_close(rows.mean(dim=(0, 1)), torch.zeros(16), atol=1e-4, rtol=0)
    assert float(rows.square().mean()) == pytest.approx(1, abs=1e-3)


def test_own_rows_in_bf16_are_those_in_fp32_but_for_rounding(data):
    tokenizer = new_tokenizer(tokenizer_settings(), make_encoder())
    pixels = Pixels([record.image for record in open_data(data).records], 16)
    every = np.arange(len(pixels))
    wide, narrow = (OwnRows(tokenizer, pixels, every, precision).batch(every) for precision in ("fp32", "bf16"))
    assert wide.dtype == narrow.dtype == torch.float32
    assert not torch.equal(wide, narrow)
    assert float((wide - narrow).norm() / wide.norm()) < 0.05


@pytest.mark.parametrize("index", [0, 1])
def test_a_kept_patch_tells_its_own_rows_and_the_selector_reads_features(index):
    tokenizer, phase = make_tokenizer(), own_phases(4)[index]
    x_BPD, own_BPD = torch.randn(3, 16, 16), torch.randn(3, 16, 16)
    output = forward_phase(tokenizer, x_BPD, phase, step=0, seed=0, own_BPD=own_BPD)
    torch.testing.assert_close(output.log_keep, tokenizer.selector(x_BPD))
    kept = output.mask > 0.5
    rows = tokenizer.merger.norm(tokenizer.merger.place(own_BPD))[kept]
    torch.testing.assert_close(output.z, tokenizer.project(rows))
    decoded = tokenizer.decoder(output.z, kept.sum(dim=1))
    torch.testing.assert_close(output.decoded, decoded, atol=1e-5, rtol=1e-4)
    features = forward_phase(tokenizer, x_BPD, phase, step=0, seed=0)
    assert not F.cosine_similarity(features.z, output.z, dim=-1).gt(0.99).all()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"merger": "on"}, "merger: on"),
        ({"merger": "mixed"}, "merger: mixed"),
        ({"merger": "off", "quantise": True}, "quantise: true"),
    ],
)
def test_own_evidence_beside_merger_or_codes_is_refused(change, found):
    values = phases(4)[0].model_dump() | change | {"evidence": "own"}
    with pytest.raises(ValueError, match=f"phase masks has evidence: own with {found}, .* expected merger: off and"):
        Phase.model_validate(values)
