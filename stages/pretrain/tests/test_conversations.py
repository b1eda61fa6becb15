"""Conversations about an image, two turns each: the second answer needs the first turn and the image."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lavit_core.tokens import open_tokens
from lavit_pretrain.captioning import answer
from lavit_pretrain.config import Mix, PretrainConfig
from lavit_pretrain.image_input import stored_images
from lavit_pretrain.language_model import load_llm
from lavit_pretrain.train_language_model import train_language_model
from PIL import Image

COLOURS, SHAPES = ("red", "green", "blue", "yellow"), ("circle", "square", "triangle")
ASKED = {"colour": "what colour?", "shape": "what shape?"}
OTHER = "and the other?"


def conversation(key: str, first: str, answers: dict[str, str]) -> dict[str, object]:
    """Return a LLaVA conversation that asks for one of two things, then for the other without naming it."""
    second = next(kind for kind in ASKED if kind != first)
    said = [ASKED[first], answers[first], OTHER, answers[second]]
    turns = [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(said)]
    turns[0]["value"] = f"<image>\n{said[0]}"
    return {"id": f"{key}-{first}", "image": key, "conversations": turns}


@pytest.mark.slow
def test_the_second_turn_is_answered_with_the_first_in_context(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    reader = open_tokens(world.tokens)
    keys = reader.keys(np.arange(len(reader)))
    truth = [
        {"colour": COLOURS[colour], "shape": SHAPES[shape]}
        for colour, shape in zip(world.colours, world.shapes, strict=True)
    ]
    talks = [conversation(key, first, own) for key, own in zip(keys, truth, strict=True) for first in ASKED]
    (tmp_path / "images").mkdir()
    for key in keys:
        Image.new("RGB", (4, 4)).save(tmp_path / key)
    (tmp_path / "talks.json").write_text(json.dumps(talks))
    config = tiny_config(
        mix=Mix(text_to_image=0.0, image_to_text=0.0, questions=1.0, text=0.0), num_steps=150, checkpoint_every=1000
    )
    train_language_model(
        [world.tokens], world.model, tmp_path / "run", config, questions=[tmp_path / "talks.json"], quiet=True
    )
    llm = load_llm(tmp_path / "run" / "model")
    images = stored_images(llm, reader, np.arange(len(reader)))

    def right(earlier: Sequence[Sequence[tuple[str, str]]] | None, kind: str) -> float:
        answers = answer(llm, images, [OTHER] * len(reader), earlier=earlier)
        return float(np.mean([text == own[kind] for text, own in zip(answers, truth, strict=True)]))

    for first, second in (("colour", "shape"), ("shape", "colour")):
        assert right([[(ASKED[first], own[first])] for own in truth], second) > 0.9
    # Alone the question has no answer: what it is about stands in the turn before.
    assert right(None, "colour") + right(None, "shape") <= 1.0
