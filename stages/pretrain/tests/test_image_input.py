"""From image files: token files of a real (random) tokenizer, live input, captions and answers."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lavit_core.follow import FollowOptions
from lavit_core.images import Preprocessing
from lavit_core.modeldir import export_part
from lavit_core.tokens import open_tokens
from lavit_pretrain.captioning import answer, caption
from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.image_input import encode_images, stored_images
from lavit_pretrain.language_model import load_llm
from lavit_pretrain.train_language_model import train_language_model
from lavit_tokenizer.api import VisualTokenizer, load_tokenizer, tokenize_images
from lavit_tokenizer.config import SmallVitConfig, TokenizeConfig, TokenizerConfig
from lavit_tokenizer.encoder import Encoder
from lavit_tokenizer.small_vit import SmallVit
from lavit_tokenizer.tokenizer_folder import write_tokenizer
from lavit_trainkit.testing import have_equal_weights, metrics_of
from PIL import Image
from safetensors.torch import load_file

VISION = SmallVitConfig(preprocessing=Preprocessing(image_px=16), patch_px=4, width=16, layers=1, heads=2, mlp_dim=32)
SHAPE = {"merger_layers": 1, "heads": 2, "mlp_dim": 32, "codebook_size": 24, "code_dim": 8, "decoder_layers": 1}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Images of one colour each, a random tokenizer and its token files."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    (root / "data" / "images").mkdir(parents=True)
    rows, asked = [], []
    for number in range(24):
        colour, pixels = number % 3, rng.integers(0, 60, (16, 16, 3), dtype=np.uint8)
        pixels[4:12, 4:12, colour] = 230
        name, word = f"images/{number:02d}.png", ("red", "green", "blue")[colour]
        Image.fromarray(pixels).save(root / "data" / name)
        rows.append({"file_name": name, "captions": [f"a {word} block"]})
        asked.append({"question_id": number, "file_name": name, "question": "What colour?", "answer": word})
    for name, content in (("captions", rows), ("questions", asked)):
        (root / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    torch.manual_seed(0)
    network = SmallVit(VISION)
    encoder = Encoder(network, preprocessing=VISION.preprocessing, grid=VISION.grid, feature_dim=16, num_prefix=0)
    config = TokenizerConfig(preprocessing=VISION.preprocessing, grid=VISION.grid, feature_dim=16, **SHAPE)
    tokenizer = VisualTokenizer(config, encoder)
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    with export_part(root / "model", "tokenizer") as folder:
        write_tokenizer(tokenizer, folder)
    tokenize_images(
        root / "data", root / "model", root / "tokens", TokenizeConfig(workers=0, features=True), quiet=True
    )
    return root


def pixels_of(places, numbers):
    return np.stack([np.asarray(Image.open(places / "data" / "images" / f"{number:02d}.png")) for number in numbers])


@pytest.mark.parametrize("image_input", ["live", "features"])
def test_images_are_described_after_training(
    places: Path, tiny_config: Callable[..., PretrainConfig], tmp_path: Path, image_input: str
) -> None:
    config = tiny_config(image_input=image_input, num_steps=150, precision="bf16", questions_per_document=1)
    questions = [places / "data" / "questions.jsonl"]
    live = {"data": places / "data"} if image_input == "live" else {}
    train_language_model(
        [places / "tokens"], places / "model", tmp_path, config, questions=questions, quiet=True, **live
    )
    model = tmp_path / "model"
    images = encode_images(load_llm(model), load_tokenizer(model), pixels_of(places, range(6)))
    assert caption(load_llm(model), images)[:3] == ["a red block", "a green block", "a blue block"]
    assert answer(load_llm(model), images.take([2, 2]), ["What colour?", "What colour is it?"])[0] == "blue"
    saved = load_file(model / "llm" / "visual.safetensors")
    if image_input == "live":
        before = load_tokenizer(model).merger.state_dict()
        changed = [name for name in before if not torch.equal(before[name], saved[f"merger.{name}"])]
        assert len(changed) > len(before) // 2


def test_stored_images_equal_encoded_ones(
    places: Path, tiny_config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    train_language_model([places / "tokens"], places / "model", tmp_path, tiny_config(num_steps=1), quiet=True)
    llm, tokenizer = load_llm(tmp_path / "model"), load_tokenizer(places / "model")
    seen = encode_images(llm, tokenizer, pixels_of(places, range(24)))
    stored = stored_images(llm, open_tokens(places / "tokens"), np.arange(24))
    assert np.array_equal(seen.counts, stored.counts)
    # Stored as bfloat16: 8 bits.
    np.testing.assert_allclose(stored.features, seen.features, rtol=8e-3, atol=1e-3)


@pytest.mark.parametrize("image_input", ["live", "codes"])
def test_samples_change_no_weight_no_metric_and_no_random_stream(
    places: Path, tiny_config: Callable[..., PretrainConfig], tmp_path: Path, image_input: str
) -> None:
    config, streams = tiny_config(image_input=image_input, num_steps=6, precision="bf16"), {}
    for name, follow in (("unseen", FollowOptions()), ("seen", FollowOptions(sample_every=4))):
        train_language_model(
            [places / "tokens"], places / "model", tmp_path / name, config, data=places / "data", follow=follow,
            quiet=True,
        )  # fmt: skip
        streams[name] = torch.get_rng_state()
    for part in ("model", "checkpoints"):
        assert have_equal_weights(tmp_path / "unseen" / part, tmp_path / "seen" / part)
    assert metrics_of(tmp_path / "unseen") == metrics_of(tmp_path / "seen")
    assert torch.equal(streams["unseen"], streams["seen"])
    shown = tmp_path / "seen" / "samples"
    sheets = [f"{done:08d}-{name}.png" for done in (4, 6) for name in ("code-usage", "drawings")]
    assert sorted(file.name for file in shown.iterdir()) == [*sheets, "prompts.txt"]
    assert set((shown / "prompts.txt").read_text().splitlines()) <= {"a red block", "a green block", "a blue block"}
    with Image.open(shown / "00000006-drawings.png") as sheet:
        # Eight pairs, four panels a row; a 4 x 4 grid of features is enlarged to 128 px.
        assert sheet.size == (4 * 128 + 3 * 8, 4 * 128 + 3 * 8)
