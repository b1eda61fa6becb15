"""Generating with imported weights, in miniature: prompts with images, sizes, and what guidance subtracts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lavit_detokenizer.api import DrawSettings, draw_codes, load_detokenizer
from lavit_tokenizer.api import load_tokenizer
from PIL import Image
from released_folder import Geometry, write_images, write_language_model, write_pixels, write_visual

from lavit_cli.import_checkpoint import import_checkpoint

SHORT = ["--device", "cpu", "--num-steps", "1", "--json"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny tensors: threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A released folder of the default miniature, the model imported from it, and images."""
    root, g = tmp_path_factory.mktemp("released"), Geometry()
    for write in (write_visual, write_language_model, write_pixels):
        write(root / "released", g)
    write_images(root / "images", g)
    import_checkpoint(root / "released", root / "model", encoder_heads=g.encoder_heads, heads=g.heads, quiet=True)
    return root


def drawn_with(model: Path, part: str) -> list[dict[str, torch.Tensor]]:
    """Return what the UNet was given while two images were drawn with guidance."""
    tokenizer, detokenizer = load_tokenizer(model, device="cpu"), load_detokenizer(model, part=part, device="cpu")
    given: list[dict[str, torch.Tensor]] = []
    detokenizer.denoiser.unet.register_forward_pre_hook(
        lambda module, inputs, named: given.append(named), with_kwargs=True
    )
    codes = [np.array([1, 2, 3]), np.array([4])]
    draw_codes(detokenizer, tokenizer, codes, seeds=[0, 1], settings=DrawSettings(num_steps=2))
    return given


def test_sd15_is_guided_away_from_the_null_text(place):
    null = torch.load(place / "released" / "pixel_decoding" / "uncond_embeddings.bin", weights_only=True)[0]
    given = drawn_with(place / "model", "detokenizer")
    assert len(given) == 2
    for named in given:
        sequence, mask = named["encoder_hidden_states"], named["encoder_attention_mask"]
        assert sequence.shape == (4, 9, 12)
        # Rows 2 and 3 are the unguided branch: the stored null text, zeros behind a closed mask up to the 9 patches.
        for row in (2, 3):
            torch.testing.assert_close(sequence[row, :4], null)
            assert not sequence[row, 4:].any()
            assert mask[row].tolist() == [True] * 4 + [False] * 5
        assert mask[:2].all()
        assert sequence[:2].abs().sum(-1).all()


def test_sdxl_is_guided_away_from_zeros(place):
    for named in drawn_with(place / "model", "detokenizer-highres"):
        sequence, added = named["encoder_hidden_states"], named["added_cond_kwargs"]
        assert sequence.shape == (4, 9, 32)
        assert named["encoder_attention_mask"] is None
        assert not sequence[2:].any()
        assert not added["text_embeds"][2:].any()
        assert sequence[:2].abs().sum(-1).all()
        assert added["text_embeds"][:2].any()
        # Size ids are no part of the condition: both branches are told the same.
        assert added["time_ids"].tolist() == 4 * [[16, 16, 0, 0, 16, 16]]


def test_shapes_on_the_command_line(place, here, tmp_path: Path):
    line = ["generate", "a red circle", "--model", place / "model", "--out", tmp_path / "a.png", *SHORT]
    line += ["--preset", "tiny"]
    done = here(*line, "--highres", "--aspect-ratio", "4:3")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert made["size_px"] == [14, 18]
    assert made["draw"]["aspect_ratio"] == "4:3"
    assert Image.open(tmp_path / "a.png").size == (18, 14)
    refused = here(*line, "--aspect-ratio", "4:3")
    assert refused.code == 2
    assert "--aspect-ratio 4:3: this detokenizer draws 16 x 16 px only" in refused.last_error
    assert "(imported weights: --highres)" in refused.last_error
    refused = here(*line, "--highres", "--aspect-ratio", "5:4")
    assert refused.code == 2
    assert (
        "setting draw.aspect_ratio: Input should be '1:1', '4:3', '3:2', '16:9', '2:3' or '3:4'" in refused.last_error
    )


@pytest.mark.parametrize("how", ["codes", "bare", "continuous"])
def test_images_in_the_prompt_of_an_imported_model(place, here, tmp_path: Path, how: str):
    images = sorted((place / "images").iterdir())
    line = ["generate", "<image> a red circle <image>", "--image", images[0], "--image", images[1], "--highres"]
    line += ["--model", place / "model", "--out", tmp_path / "a.png", "--image-prompt-format", how, *SHORT]
    line += ["--preset", "tiny"]
    done = here(*line)
    assert done.code == 0, done.err
    assert json.loads(done.out)["sample"]["prompt_images"] == how


def test_detokenize_draws_the_same_shapes(place, here, tmp_path: Path):
    line = ["--model", place / "model", "--device", "cpu", "--quiet"]
    tokens = tmp_path / "tokens"
    done = here("tokenize-images", place / "images", *line, "--out", tokens, "--set", "workers=0")
    assert done.code == 0, done.err
    draw = ["detokenize", tokens, *line, "--num-steps", "1", "--aspect-ratio", "3:4"]
    done = here(*draw, "--out", tmp_path / "high", "--highres")
    assert done.code == 0, done.err
    assert {Image.open(file).size for file in (tmp_path / "high" / "images").iterdir()} == {(14, 18)}
    refused = here(*draw, "--out", tmp_path / "low")
    assert refused.code == 2
    assert "--aspect-ratio 3:4: this detokenizer draws 16 x 16 px only" in refused.last_error
    assert not (tmp_path / "low").exists()


@pytest.fixture(scope="module")
def fine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An imported model of 225 patches: room for the 20 to 200 codes of the released settings."""
    root, g = tmp_path_factory.mktemp("fine"), Geometry(side=15, patch=2)
    for write in (write_visual, write_language_model, write_pixels):
        write(root / "released", g)
    write_images(root / "images", g, count=1)
    import_checkpoint(root / "released", root / "model", encoder_heads=g.encoder_heads, heads=g.heads, quiet=True)
    return root


@pytest.mark.parametrize(
    ("preset", "part", "guidance"),
    [("released-v2-readme", "-highres", (4, 5, 7)), ("released-fid", "", (1.5, None, 1.5))],
)
def test_the_released_presets_draw(fine, here, tmp_path: Path, preset: str, part: str, guidance: tuple):
    line = ["generate", "<image> a red circle", "--image", fine / "images" / "000.png", "--preset", preset]
    done = here(*line, "--model", fine / "model", "--out", tmp_path / "a.png", "--best-of", "1", *SHORT)
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert f"detokenizer{part}" in made["model"]
    assert 20 <= made["num_codes"][0] <= 200
    scales = made["sample"]["guidance_scale"], made["sample"]["image_guidance_scale"], made["draw"]["guidance_scale"]
    assert scales == guidance


def test_imported_weights_are_drawn_by_the_released_settings_if_no_preset_is_named(fine, here, tmp_path: Path):
    image = fine / "images" / "000.png"
    for line in (["generate", "a red circle"], ["sample", "a red circle"], ["reconstruct", image]):
        plans = []
        for named in ([], ["--preset", "released-v2-readme"]):
            done = here(*line, "--model", fine / "model", "--out", tmp_path / "a.png", "--dry-run", "--json", *named)
            assert done.code == 0, done.err
            plans.append(json.loads(done.out))
        assert plans[0] == plans[1]
