"""Every family of image encoders: which tokens are patches, which features, and whether they train and are stored."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from lavit_core.errors import InputError
from lavit_tokenizer.config import EncoderFeatures
from lavit_tokenizer.encoder_folder import encoder_on_meta_device, load_encoder, save_encoder
from lavit_tokenizer.tokenizer_folder import read_tokenizer, write_tokenizer
from lavit_tokenizer.train_tokenizer import new_tokenizer, train_tokenizer
from torch import nn

from .conftest import own_phases, tokenizer_settings
from .encoder_families import FAMILIES, PROCESSORS, REFUSED, WITHOUT_NORM, each_of, write_family


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("family", each_of(FAMILIES))
def test_features_are_the_last_blocks_without_the_tokens_before_the_patches(
    family: str, tmp_path: Path, pixels: torch.Tensor
) -> None:
    shape, prefix = FAMILIES[family]
    network = write_family(tmp_path, family, shape)
    encoder = load_encoder(tmp_path)
    assert (encoder.grid, encoder.feature_dim, encoder.num_prefix) == ((4, 4), 16, prefix)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    blocks = max((each for each in network.modules() if isinstance(each, nn.ModuleList)), key=len)
    seen: list[torch.Tensor] = []
    blocks[-1].register_forward_hook(lambda module, given, out: seen.append(out[0] if isinstance(out, tuple) else out))
    with torch.no_grad():
        if family.startswith("siglip2"):
            rows = torch.nn.functional.unfold(pixels, 4, stride=4).unflatten(1, (3, 16)).permute(0, 3, 2, 1).flatten(2)
            network(rows, None, torch.tensor([[4, 4], [4, 4]]))
        else:
            network(pixels)
    features = encoder(pixels)
    torch.testing.assert_close(features, seen[0][:, prefix : prefix + 16])
    absent = encoder_on_meta_device(tmp_path)
    assert (absent.grid, absent.feature_dim, absent.num_prefix) == ((4, 4), 16, prefix)
    tokenizer = new_tokenizer(tokenizer_settings(), encoder)
    (tmp_path / "tokenizer").mkdir()
    write_tokenizer(tokenizer, tmp_path / "tokenizer")
    again = read_tokenizer(tmp_path / "tokenizer")
    images = torch.randint(0, 256, (2, 16, 16, 3)).to(torch.uint8)
    assert torch.equal(tokenizer.eval().encode(images).codes, again.eval().encode(images).codes)
    assert again.encoder.preprocessing == encoder.preprocessing


@pytest.mark.parametrize("family", ["blip-2", "dinov2_with_registers", "siglip2"])
def test_patches_are_found_in_weights_of_low_precision(family: str, tmp_path: Path, pixels: torch.Tensor) -> None:
    shape, prefix = FAMILIES[family]
    write_family(tmp_path, family, shape).to(torch.bfloat16).save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path)
    assert next(encoder.parameters()).dtype == torch.bfloat16
    assert encoder.num_prefix == prefix
    assert encoder(pixels).dtype == torch.float32


def test_the_table_in_the_documentation_is_what_the_tests_run() -> None:
    page = Path(__file__).parents[3] / "docs" / "parts.md"
    section = page.read_text().split("## Encoders")[1].split("## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| `")]
    norms = {family: "no" if family in WITHOUT_NORM else "yes" for family in FAMILIES}
    equal = {family: f"yes, `{name}`" for family, (name, _) in PROCESSORS.items()}
    expected = [
        [
            f"`{family}`",
            "yes",
            str(prefix),
            norms[family],
            equal.get(family, "not compared: none without torchvision"),
            "",
        ]
        for family, (_, prefix) in FAMILIES.items()
    ]
    assert rows == expected + [[f"`{family}`", "no", "", "", "", reason] for family, (_, reason) in REFUSED.items()]


@pytest.mark.parametrize("family", sorted(REFUSED))
def test_a_network_without_patches_as_tokens_is_refused_with_the_reason(family: str, tmp_path: Path) -> None:
    shape, reason = REFUSED[family]
    write_family(tmp_path, family, shape)
    with pytest.raises(InputError) as caught:
        load_encoder(tmp_path)
    assert f"a {family} network can't be an encoder (" in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", each_of(FAMILIES))
def test_the_last_norm_is_taken_where_there_is_one(family: str, tmp_path: Path, pixels: torch.Tensor) -> None:
    write_family(tmp_path, family, FAMILIES[family][0])
    if family in WITHOUT_NORM:
        with pytest.raises(InputError, match=r"encoder.norm: true, but .* has no norm after its last block"):
            load_encoder(tmp_path, EncoderFeatures(norm=True))
        return
    plain, normed = load_encoder(tmp_path), load_encoder(tmp_path, EncoderFeatures(norm=True))
    assert not torch.allclose(plain(pixels), normed(pixels), atol=1e-3)
    if family == "dinov2":
        torch.testing.assert_close(normed(pixels), plain.network.layernorm(plain(pixels)))


def test_the_choice_of_features_is_stored_with_the_encoder(tmp_path: Path, pixels: torch.Tensor) -> None:
    network = write_family(tmp_path / "vit", "vit", FAMILIES["vit"][0])
    states = network(pixels, output_hidden_states=True).hidden_states
    for layer, place in ((-2, 2), (0, 1), (-1, 3)):
        chosen = load_encoder(tmp_path / "vit", EncoderFeatures(layer=layer))
        torch.testing.assert_close(chosen(pixels), states[place][:, 1:])
        save_encoder(chosen, tmp_path / str(layer))
        assert torch.equal(load_encoder(tmp_path / str(layer))(pixels), chosen(pixels))
        assert (tmp_path / str(layer) / "features.json").exists() == (layer != -1)
    with pytest.raises(InputError, match=r"encoder.layer: 3, but .*vit has 3 blocks"):
        load_encoder(tmp_path / "vit", EncoderFeatures(layer=3))
    (tmp_path / "0" / "features.json").write_text('{"layer": "x"}')
    with pytest.raises(InputError, match=r"features.json: not a choice of features"):
        load_encoder(tmp_path / "0")


def test_training_uses_and_keeps_the_choice(data: Path, tmp_path: Path) -> None:
    write_family(tmp_path / "encoder", "siglip2", FAMILIES["siglip2"][0])
    config = tokenizer_settings(phases=own_phases(2)).model_copy(update={"encoder": EncoderFeatures(norm=True)})
    train_tokenizer(data, tmp_path / "run", config, encoder=tmp_path / "encoder", quiet=True)
    stored = tmp_path / "run" / "model" / "tokenizer" / "encoder"
    assert json.loads((stored / "features.json").read_text()) == {"layer": -1, "norm": True}
    assert load_encoder(stored).reader.norm


@pytest.mark.parametrize("family", ["dinov2", "vit", "clip_vision_model", "siglip2_vision_model", "dinov3_vit"])
def test_the_side_of_the_processor_is_the_encoders(family: str, tmp_path: Path) -> None:
    """DINOv2's position table is for 518 pixels, and its processor gives 224."""
    write_family(tmp_path, family, FAMILIES[family][0])
    processor = {"size": {"shortest_edge": 28}, "do_center_crop": True, "crop_size": {"height": 24, "width": 24}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    encoder = load_encoder(tmp_path)
    assert (encoder.grid, encoder.preprocessing.image_px) == ((6, 6), 24)
    assert encoder(torch.zeros(1, 3, 24, 24)).shape == (1, 36, 16)


def test_a_network_that_joins_patches_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_family(tmp_path, "vit", FAMILIES["vit"][0])
    embeddings = transformers.models.vit.modeling_vit.ViTEmbeddings
    own = embeddings.forward
    monkeypatch.setattr(embeddings, "forward", lambda *args, **named: own(*args, **named).flip(1))
    with pytest.raises(InputError, match=r"change tokens \[15\], \[14\], \[11\], \[0\], expected one each, in raster"):
        load_encoder(tmp_path)
