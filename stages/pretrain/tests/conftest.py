"""A token directory whose codes and features encode the answer, and the model directory it belongs to."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from lavit_core.modeldir import export_part, part_digest
from lavit_core.tokens import Manifest, TokenSample, open_tokens, write_manifest, write_shard
from lavit_pretrain.config import LlmShape, Mix, PretrainConfig
from lavit_pretrain.language_model import LanguageModel, VisualConfig, build_llm

COLOURS, SHAPES = ("red", "green", "blue", "yellow"), ("circle", "square", "triangle")
CODEBOOK, FEATURE_DIM, GRID = 24, 8, (4, 4)


@dataclass
class World:
    tokens: Path
    model: Path
    questions: Path
    text: Path
    colours: np.ndarray
    shapes: np.ndarray


def build_world(root: Path, num_images: int = 48, *, seed: int = 0, features: bool = True) -> World:
    rng = np.random.default_rng(seed)
    model, tokens = root / "model", root / "tokens"
    tokens.mkdir(parents=True)
    with export_part(model, "tokenizer") as folder:
        (folder / "config.json").write_text(json.dumps({"seed": seed}))
    colours, shapes = rng.integers(0, len(COLOURS), num_images), rng.integers(0, len(SHAPES), num_images)
    table = np.random.default_rng(7).normal(size=(CODEBOOK, FEATURE_DIM)).astype(np.float32)
    samples, asked = [], []
    for i in range(num_images):
        tail = rng.integers(8, CODEBOOK, rng.integers(1, 5))
        codes = np.concatenate([[colours[i]], [4 + shapes[i]], tail])
        keep = np.zeros(16, dtype=bool)
        keep[rng.choice(16, len(codes), replace=False)] = True
        colour, shape = COLOURS[colours[i]], SHAPES[shapes[i]]
        texts = (f"a {colour} {shape}", f"there is a {colour} {shape}")
        key = f"images/{i:04d}.png"
        shown = table[codes] if features else None
        samples.append(TokenSample(key=key, codes=codes, keep_mask=keep, texts=texts, features=shown))
        for question, answer in (("What colour is it?", colour), ("What shape is it?", shape)):
            asked.append({"question_id": len(asked), "file_name": key, "question": question, "answer": answer})
    half = num_images // 2
    shards = tuple(
        write_shard(tokens, f"shard-{n:06d}.safetensors", part, codebook_size=CODEBOOK, grid=GRID)
        for n, part in enumerate((samples[:half], samples[half:]))
    )
    manifest = Manifest(
        tokenizer_digest=part_digest(model / "tokenizer"),
        codebook_size=CODEBOOK,
        grid=GRID,
        selection={"policy": "topk", "tokens": 3},
        feature_dim=FEATURE_DIM if features else None,
        shards=shards,
    )
    write_manifest(tokens, manifest)
    (root / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    (root / "text.txt").write_text("the sky is blue\nthe grass is green\n")
    return World(tokens, model, root / "questions.jsonl", root / "text.txt", colours, shapes)


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def reader(world):
    return open_tokens(world.tokens)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _tiny_config(**changes) -> PretrainConfig:
    shape = LlmShape(
        hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, max_positions=128, text_vocab_size=400
    )
    values = {
        "image_input": "features",
        "llm": shape,
        "mix": Mix(text_to_image=0.375, image_to_text=0.125, questions=0.5, text=0.0),
        "num_steps": 12,
        "tokens_per_step": 400,
        "llm_lr": 5e-3,
        "visual_lr": 5e-3,
        "warmup_steps": 2,
        "t2i_text_loss": False,
        "log_every": 2,
        "checkpoint_every": 5,
        "precision": "fp32",
    }
    return PretrainConfig(**{**values, **changes})


@pytest.fixture(scope="session")
def tiny_config():
    """A function that gives small settings with changes."""
    return _tiny_config


@pytest.fixture(scope="session")
def make_world():
    """A function that makes another world in a folder."""
    return build_world


def _random_llm(image_input: str, texts: Sequence[str] = ("a red circle",) * 3) -> LanguageModel:
    torch.manual_seed(1)
    network, text, vocabulary = build_llm(_tiny_config().llm, None, texts, CODEBOOK)
    metadata = VisualConfig(
        image_input=image_input,
        text_vocab=vocabulary.text_vocab,
        codebook_size=CODEBOOK,
        feature_dim=FEATURE_DIM,
        grid=GRID,
        preprocessing={},
        tokenizer_digest="0" * 64,
        code_range=(3, 9),
    )
    return LanguageModel(network, text, metadata)


@pytest.fixture(scope="session")
def random_llm() -> Callable[..., LanguageModel]:
    """A function that makes an untrained language model of an `image_input`, its text vocabulary from some texts."""
    return _random_llm
