"""Encoders: the small ViT, and every family of transformers from a local folder."""

import json

import pytest
import torch
import transformers
from lavit_core.errors import InputError
from lavit_core.images import CLIP_MEAN
from lavit_tokenizer.encoder_folder import load_encoder, save_encoder
from lavit_tokenizer.tokenizer_folder import read_tokenizer, write_tokenizer
from lavit_tokenizer.train_tokenizer import new_tokenizer

from .conftest import make_encoder, tokenizer_settings

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 4}
FAMILIES = {
    "Blip2VisionModel": (transformers.Blip2VisionConfig(**SMALL, image_size=16), 1),
    "CLIPVisionModel": (transformers.CLIPVisionConfig(**SMALL, image_size=16), 1),
    "SiglipVisionModel": (transformers.SiglipVisionConfig(**SMALL, image_size=16), 0),
    "Dinov2Model": (transformers.Dinov2Config(**SMALL, mlp_ratio=2, image_size=16), 1),
}


def family_folder(tmp_path, name):
    torch.manual_seed(0)
    config, prefix = FAMILIES[name]
    network = getattr(transformers, name)(config).eval()
    network.save_pretrained(tmp_path / name)
    return network, prefix, tmp_path / name


@pytest.mark.parametrize("name", FAMILIES)
def test_family_gives_the_hidden_state_before_the_last_norm(tmp_path, name):
    network, prefix, folder = family_folder(tmp_path, name)
    encoder = load_encoder(folder)
    assert (encoder.grid, encoder.feature_dim, encoder.preprocessing.image_px) == ((4, 4), 16, 16)
    pixels = torch.randn(2, 3, 16, 16)
    last_block = {}
    inner = getattr(network, "vision_model", network).encoder
    layers = inner.layer if name == "Dinov2Model" else inner.layers
    layers[-1].register_forward_hook(
        lambda module, args, out: last_block.update(x=out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        network(pixel_values=pixels)
        features = encoder(pixels)
    assert features.shape == (2, 16, 16)
    torch.testing.assert_close(features, last_block["x"][:, prefix:])
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_family_survives_storing_inside_a_tokenizer(tmp_path, name):
    _, _, folder = family_folder(tmp_path, name)
    encoder = load_encoder(folder)
    tokenizer = new_tokenizer(tokenizer_settings(), encoder)
    (tmp_path / "tokenizer").mkdir()
    write_tokenizer(tokenizer, tmp_path / "tokenizer")
    again = read_tokenizer(tmp_path / "tokenizer")
    pixels = torch.randint(0, 256, (2, 16, 16, 3)).to(torch.uint8)
    assert torch.equal(tokenizer.eval().encode(pixels).codes, again.eval().encode(pixels).codes)
    assert again.encoder.preprocessing == encoder.preprocessing


def test_preprocessing_comes_from_the_folder(tmp_path):
    _, _, folder = family_folder(tmp_path, "SiglipVisionModel")
    assert load_encoder(folder).preprocessing.mean == (0.5, 0.5, 0.5)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": CLIP_MEAN, "image_std": [0.2, 0.3, 0.4]})
    )
    found = load_encoder(folder).preprocessing
    assert (found.mean, found.std) == (CLIP_MEAN, (0.2, 0.3, 0.4))


def test_unusable_folders(tmp_path):
    with pytest.raises(InputError, match=r"no encoder folder here; `lavit train-encoder` makes one"):
        load_encoder(tmp_path / "missing")
    bert = tmp_path / "bert"
    bert.mkdir()
    with pytest.raises(InputError, match=r"config.json: file not found"):
        load_encoder(bert)
    (bert / "config.json").write_text('{"model_type": "bert", "auto_map": {"AutoModel": "evil.Model"}}')
    with pytest.raises(InputError, match=r"model_type is 'bert', which reads no images; expected a vision transformer"):
        load_encoder(bert)
    _, _, folder = family_folder(tmp_path, "CLIPVisionModel")
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors.pop(sorted(tensors)[3])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 weights of CLIPVisionModel are missing"):
        load_encoder(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"CLIPVisionModel: no weights here, expected model.safetensors"):
        load_encoder(folder)


def test_small_vit_stores_and_loads(tmp_path):
    encoder, pixels = make_encoder(), torch.randn(2, 3, 16, 16)
    save_encoder(encoder, tmp_path)
    assert torch.equal(encoder(pixels), load_encoder(tmp_path)(pixels))
