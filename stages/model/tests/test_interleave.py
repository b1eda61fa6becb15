"""Texts and images by turns through the LaVIT object, against the language model and the detokenizer by themselves."""

from pathlib import Path

import numpy as np
from lavit import LaVIT
from lavit_core.seeds import derive_seed
from lavit_pretrain.api import InterleaveSettings, load_llm, write_interleaved
from PIL import Image

from .drawings import DRAWING

SETTINGS = InterleaveSettings(max_tokens=60, text_temperature=100.0)  # all words are about equally likely, [IMG] too


def test_parts_are_the_models_own_with_its_images_drawn(folders: dict[str, Path], images: np.ndarray) -> None:
    model, prompts = LaVIT.from_pretrained(folders["codes"]), ["a red", "blue", ["is", images[0]]] * 12
    found = model.interleave(prompts, seeds=100, settings=SETTINGS, drawing=DRAWING)
    codes = model.encode(images[0]).codes[0]
    read = [["a red"], ["blue"], ["is", codes]] * 12
    expected = write_interleaved(load_llm(folders["codes"]), read, seeds=range(100, 136), settings=SETTINGS)
    drawn = 0
    for seed, parts, others in zip(range(100, 136), found, expected, strict=True):
        assert len(parts) == len(others)
        for place, (part, other) in enumerate(zip(parts, others, strict=True)):
            if isinstance(other, str):
                assert part == other
                continue
            [image] = model.decode([other], [derive_seed(seed, "interleave", place)], DRAWING)
            assert isinstance(part, Image.Image)
            assert np.array_equal(np.asarray(part), np.asarray(image))
            drawn += 1
    assert drawn >= 2
