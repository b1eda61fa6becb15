"""DINO features against the library's own, after the resize and crop of their preprocessing."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
from lavit_core.errors import InputError
from lavit_core.images import middle_square
from PIL import Image

torch = pytest.importorskip("torch")


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "shorter", "side", "between", "corner"),
    [((640, 427), 224, 224, (335, 224), (56, 0)), ((427, 640), 256, 224, (256, 383), (16, 80)),
     ((16, 16), 16, 16, (16, 16), (0, 0))],
)  # fmt: skip
def test_middle_square_has_the_arithmetic_of_resize_and_center_crop(
    size: tuple[int, int], shorter: int, side: int, between: tuple[int, int], corner: tuple[int, int]
) -> None:
    image = Image.fromarray(noise(0, size[1], size[0]))
    resized = image if size == between else image.resize(between, Image.Resampling.BICUBIC)
    left, top = corner
    expected = np.asarray(resized)[top : top + side, left : left + side]
    assert np.array_equal(middle_square(image, shorter, side), expected)


def test_dino_from_a_local_directory_is_the_library_s(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from lavit_evaluation.editing.dino import DEVIATION, MEAN, load_dino
    from safetensors.torch import load_file, save_file

    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, patch_size=56
    )
    model = transformers.ViTModel(config, add_pooling_layer=False).eval()
    model.save_pretrained(tmp_path / "dino")
    dino = load_dino(tmp_path / "dino", "cpu")
    pixels = noise(0, 224, 224)
    scaled = (torch.from_numpy(pixels).float() / 255 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    with torch.inference_mode():
        expected = model(pixel_values=scaled.permute(2, 0, 1)[None]).last_hidden_state[0, 0].numpy()
    assert dino.images([pixels])[0] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
    assert dino.metadata["dino_shape"] == "patch 56, width 16, 1 layers"
    assert list(dino.metadata["dino_digests"]) == ["model.safetensors"]
    # Weights that are stored in half precision are computed in fp32: only their own rounding shows.
    half = copy.deepcopy(model).half()
    half.save_pretrained(tmp_path / "half")
    with torch.inference_mode():
        expected = half.float()(pixel_values=scaled.permute(2, 0, 1)[None]).last_hidden_state[0, 0].numpy()
    found = load_dino(tmp_path / "half", "cpu").images([pixels])[0]
    assert found == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
    tensors = load_file(tmp_path / "dino" / "model.safetensors")
    shutil.copytree(tmp_path / "dino", tmp_path / "part")
    del tensors["layernorm.weight"]
    save_file(tensors, tmp_path / "part" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 weights of ViT are missing \(first: layernorm\.weight\)"):
        load_dino(tmp_path / "part", "cpu")
    with pytest.raises(InputError, match=r"no config\.json here"):
        load_dino(tmp_path, "cpu")
    transformers.Dinov2Config(hidden_size=16).save_pretrained(tmp_path / "v2")
    with pytest.raises(InputError, match=r"model_type is 'dinov2', expected 'vit'"):
        load_dino(tmp_path / "v2", "cpu")
