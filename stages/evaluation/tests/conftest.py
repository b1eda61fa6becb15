"""A small drawn data set, and models whose metrics are known: one that knows the scenes, one that guesses."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lavit_evaluation.shapes.claims import parse
from lavit_shapes.make_shapes import make_shapes
from lavit_shapes.scenes import Scene, SceneObject
from PIL import Image

GRID = (8, 8)
CODEBOOK = 300


class Calls:
    """Counts calls of functions, and interrupts the one after `limit` of them."""

    def __init__(self) -> None:
        self.made = 0
        self.limit: int | None = None

    def counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that counts its calls."""

        def call(*arguments: Any, **options: Any) -> Any:
            if self.made == self.limit:
                raise KeyboardInterrupt
            self.made += 1
            return real(*arguments, **options)

        return call


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture(scope="session")
def shapes_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shapes") / "data"
    make_shapes(out, 40, 7, num_heldout=200, workers=1, quiet=True)
    return out


@pytest.fixture(scope="session")
def scene_rows(shapes_data: Path) -> list[dict]:
    return [json.loads(line) for line in (shapes_data / "heldout" / "scenes.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def images(shapes_data: Path, scene_rows: list[dict]) -> np.ndarray:
    files = [shapes_data / "heldout" / row["file_name"] for row in scene_rows]
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])


@dataclass
class ImageTokens:
    """What `LaVIT.encode` returns: written anew, for the tests of this stage run without lavit-model too."""

    codes: list[np.ndarray]
    counts: np.ndarray
    keep_mask: np.ndarray
    features: np.ndarray


@pytest.fixture(scope="session")
def two_objects() -> Scene:
    """A scene with a relation, seen in training."""
    return Scene(
        key="a",
        combination="seen",
        prompt="a red circle to the left of a blue square",
        objects=(
            SceneObject(shape="circle", colour="red", size="small", x=16.0, y=32.0, radius=10.0),
            SceneObject(shape="square", colour="blue", size="large", x=48.0, y=30.0, radius=15.0),
        ),
    )


class OracleTokenizer:
    """Decodes the features of every image without an error; the features of each patch are a unit vector."""

    def __init__(self, number: dict[bytes, int]) -> None:
        self.number = number

    def features(self, pixels: Any) -> Any:
        return self._of(self.number[image.numpy().tobytes()] for image in pixels)

    def decode_codes(self, codes: Any, counts: Any) -> Any:
        firsts = np.cumsum([0, *counts[:-1]])
        return self._of(int(codes[first]) for first in firsts)

    def _of(self, numbers: Iterable[int]) -> Any:
        import torch

        return torch.stack([torch.eye(64)[np.random.default_rng(number).integers(0, 64, 64)] for number in numbers])


class Oracle:
    """Has the methods of `LaVIT`, and knows every held-out image by its bytes; the first code of an image is its
    number."""

    image_px, grid, codebook_size = 64, GRID, CODEBOOK

    def __init__(self, data: Path, rows: Sequence[dict], images: np.ndarray) -> None:
        self.rows, self.images = rows, images
        self.number = {image.tobytes(): index for index, image in enumerate(images)}
        self.by_prompt = {row["prompt"]: index for index, row in enumerate(rows)}
        questions = [json.loads(line) for line in (data / "questions.jsonl").read_text().splitlines()]
        self.answers = {(row["file_name"], row["question"]): row["answer"] for row in questions}
        self.tokenizer = OracleTokenizer(self.number)
        self.metadata = {"model": dict.fromkeys(("tokenizer", "llm", "detokenizer"), "")}

    def row_of(self, image: np.ndarray) -> dict:
        return self.rows[self.number[image.tobytes()]]

    def encode(self, images: np.ndarray) -> ImageTokens:
        numbers = [self.number[image.tobytes()] for image in images]
        keep = np.zeros((len(images), 64), dtype=bool)
        for mask, number in zip(keep, numbers, strict=True):
            for thing in self.rows[number]["objects"]:
                mask[int(thing["y"]) // 8 * 8 + int(thing["x"]) // 8] = True
        counts = keep.sum(1)
        codes = [np.array([number, *[299] * (count - 1)]) for number, count in zip(numbers, counts, strict=True)]
        return ImageTokens(codes=codes, counts=counts, keep_mask=keep, features=np.zeros((counts.sum(), 4)))

    def answer(self, images: Sequence[np.ndarray], questions: Sequence[str], **decoding: Any) -> list[str]:
        keys = [self.row_of(image)["file_name"] for image in images]
        return [f" {self.answers[key, question].upper()}." for key, question in zip(keys, questions, strict=True)]

    def caption(self, images: Sequence[np.ndarray], max_tokens: int) -> list[str]:
        return [self.row_of(image)["prompt"] for image in images]

    def sample(self, prompts: Sequence[str], seeds: Sequence[int], settings: Any, batch_size: int) -> list[np.ndarray]:
        return [np.array([self.by_prompt[prompt]]) for prompt in prompts]

    def decode(self, codes: Sequence[np.ndarray], seeds: Sequence[int], settings: Any) -> list[Image.Image]:
        return [Image.fromarray(self.images[int(some[0]) % len(self.images)]) for some in codes]


@pytest.fixture(scope="session")
def oracle(shapes_data: Path, scene_rows: list[dict], images: np.ndarray) -> Oracle:
    return Oracle(shapes_data / "heldout", scene_rows, images)


class Guesser(Oracle):
    """Answers, describes and draws what would be right for another image, drawn at random."""

    def __init__(self, *known: Any) -> None:
        super().__init__(*known)
        self.rng = np.random.default_rng(0)
        self.two = [index for index, row in enumerate(self.rows) if len(parse(row["prompt"]).objects) == 2]

    def answer(self, images: Sequence[np.ndarray], questions: Sequence[str], **decoding: Any) -> list[str]:
        return list(self.rng.choice(sorted(set(self.answers.values())), len(questions)))

    def caption(self, images: Sequence[np.ndarray], max_tokens: int) -> list[str]:
        return list(self.rng.choice([row["prompt"] for row in self.rows], len(images)))

    def sample(self, prompts: Sequence[str], seeds: Sequence[int], settings: Any, batch_size: int) -> list[np.ndarray]:
        return [np.array([self.rng.choice(self.two)]) for _ in prompts]


@pytest.fixture
def guesser(shapes_data: Path, scene_rows: list[dict], images: np.ndarray) -> Guesser:
    return Guesser(shapes_data / "heldout", scene_rows, images)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers directory of a tiny random CLIP, its tokenizer along."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from tokenizers.processors import TemplateProcessing

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**small, "vocab_size": 20, "max_position_embeddings": 12, "eos_token_id": 1, "bos_token_id": 2},
        vision_config={**small, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    transformers.CLIPModel(config).eval().save_pretrained(folder)
    known = ["<pad>", "<eos>", "<bos>", "<unk>", "a", "dog", "A", "photo", "depicts"]
    plain = Tokenizer(models.WordLevel({word: n for n, word in enumerate(known)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = TemplateProcessing(single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 1)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, shapes_data: Path) -> dict[str, Path]:
    """Train every part, and a blind model, for a handful of steps."""
    tokenizer_api = pytest.importorskip("lavit_tokenizer.api")
    pretrain_api = pytest.importorskip("lavit_pretrain.api")
    detokenizer_api = pytest.importorskip("lavit_detokenizer.api")
    from lavit_core.config import load_preset, resolve
    from lavit_tokenizer import config as tokenizer_config
    from lavit_tokenizer.config import ModelSettings, SmallVitConfig
    from lavit_tokenizer.phase import Phase

    root, train = tmp_path_factory.mktemp("models"), shapes_data / "train"
    vision = SmallVitConfig(width=32, layers=1, heads=2, mlp_dim=64)
    config = tokenizer_config.TrainEncoderConfig(
        vision=vision, text_width=32, text_layers=1, text_heads=2, num_steps=3, batch_size=8, num_validation=4
    )
    tokenizer_api.train_encoder(train, root / "encoder", config, quiet=True)
    shape = ModelSettings(merger_layers=1, heads=2, mlp_dim=64, codebook_size=32, code_dim=8, decoder_layers=1)
    phase = Phase(
        name="codes", num_steps=3, batch_size=8, selection="fixed", quantise=True, train=("merger", "decoder")
    )
    config = tokenizer_config.TrainTokenizerConfig(model=shape, phases=(phase,))
    tokenizer_api.train_tokenizer(train, root / "tokenizer", config, model=root / "encoder" / "model", quiet=True)
    base, tokens = root / "tokenizer" / "model", root / "tokens"
    config = tokenizer_config.TokenizeConfig(features=True, workers=1)
    tokenizer_api.tokenize_images(train, base, tokens, config, quiet=True)
    llm = pretrain_api.LlmShape(
        hidden_size=32, num_layers=1, num_heads=2, intermediate_size=64, max_positions=256, text_vocab_size=300
    )
    mix = pretrain_api.Mix(text_to_image=0.4, image_to_text=0.2, questions=0.4, text=0.0)
    for name, image_input in (("seeing", "features"), ("blind", "none")):
        config = pretrain_api.PretrainConfig(
            image_input=image_input,
            llm=llm,
            mix=mix,
            num_steps=3,
            tokens_per_step=512,
            warmup_steps=1,
            precision="fp32",
        )
        pretrain_api.train_language_model(
            [tokens], base, root / name, config, questions=[train / "questions.jsonl"], quiet=True
        )
    shipped = load_preset("lavit_detokenizer", "train-detokenizer", "tiny")
    steps = {"num_steps": 2, "batch_size": 4, "warmup_steps": 1, "unet": {"block_out_channels": [32]}}
    config = resolve(detokenizer_api.TrainDetokenizerConfig, preset=shipped, flags=steps)
    seeing = root / "seeing" / "model"
    detokenizer_api.train_detokenizer(tokens, train, seeing, root / "whole", config, quiet=True)
    return {
        "whole": root / "whole" / "model",
        "seeing": seeing,
        "blind": root / "blind" / "model",
        "tokens": tokens,
    }


@pytest.fixture(scope="session")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the names and shapes of the published one, and random weights."""
    torch = pytest.importorskip("torch")
    from lavit_evaluation.image_metrics.inception import Inception

    torch.manual_seed(0)
    network = Inception()
    for name, value in network.state_dict().items():
        if name.endswith("conv.weight"):
            torch.nn.init.kaiming_normal_(value)
        elif name.endswith(("running_var", "bn.weight")):
            value.uniform_(0.5, 1.5)
    state = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    state |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    file = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(state, file)
    return file


@pytest.fixture(scope="session")
def draw() -> Callable[..., Path]:
    """Return a function that makes a folder of noisy images and returns it."""

    def images(folder: Path, count: int, base: int, side: int = 20) -> Path:
        folder.mkdir()
        rng = np.random.default_rng(base)
        for n in range(count):
            pixels = rng.integers(base, base + 60, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{n:04d}.png")
        return folder

    return images
