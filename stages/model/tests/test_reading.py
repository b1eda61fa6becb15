"""Images and prompts with images, against the tokenizer and the language model alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lavit import LaVIT, SampleSettings
from lavit.parts import Parts
from lavit.prompts import prompt_list
from lavit.reading import read_prompts
from lavit_pretrain.api import LanguageModel, encode_images, load_llm, sample_codes
from lavit_pretrain.sequence import tokenize_prompt
from lavit_tokenizer.api import load_tokenizer
from lavit_trainkit.device import generator
from PIL import Image


def parts_of(model: Path) -> Parts:
    return Parts(model, allowed=None, device="cpu", precision="auto", low_memory=False, selection=None, highres=False)


def test_images_in_prompts_become_the_tokenizers_codes(
    folders: dict[str, Path], images: np.ndarray, tmp_path: Path
) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(images[0]).save(file)
    large = Image.fromarray(images[1]).resize((40, 24), Image.Resampling.NEAREST)
    squashed = np.asarray(large.resize((16, 16), Image.Resampling.BICUBIC))
    tokenizer = load_tokenizer(folders["codes"])
    expected = [tokenizer.encode(torch.from_numpy(one[None].copy())).codes.tolist() for one in (images[0], squashed)]
    prompts = [["x"], [file, "y", np.asarray(large)], [np.array([3]), images[0]]]
    read = read_prompts(parts_of(folders["codes"]), prompts, "codes")
    assert read[0] == ["x"]
    assert [part if isinstance(part, str) else part.tolist() for part in read[1]] == [expected[0], "y", expected[1]]
    assert [part.tolist() for part in read[2]] == [[3], expected[0]]


@pytest.mark.parametrize("image_input", ["features", "live"])
def test_continuous_rows_come_from_the_merger_that_reads_images(
    folders: dict[str, Path], images: np.ndarray, image_input: str
) -> None:
    model = folders[image_input]
    read = read_prompts(parts_of(model), [["x", images[0]], [images[1]]], "continuous")
    expected = encode_images(load_llm(model), load_tokenizer(model), images[:2]).features
    np.testing.assert_array_equal(np.concatenate([read[0][1], read[1][0]]), expected)


def test_prompts_without_images_need_no_tokenizer(folders: dict[str, Path]) -> None:
    assert read_prompts(parts_of(folders["none"]), [["text alone"]], "continuous") == [["text alone"]]


def draw_plainly(llm: LanguageModel, embeddings: torch.Tensor, seed: int, scale: float, num_codes: int) -> list[int]:
    """One prompt at a time, whole sequences without cache or padding, the likeliest nine codes."""
    vocabulary = llm.vocabulary
    ids: list[int] = []
    uniform = torch.rand(num_codes, generator=generator(seed, "codes"), dtype=torch.float64)
    start = llm.embed(torch.tensor([vocabulary.img]))
    for step in range(num_codes):
        after = llm.embed(torch.tensor(ids, dtype=torch.int64))
        both = [
            llm.llm(inputs_embeds=torch.cat([rows, after])[None]).logits[0, -1].log_softmax(-1)
            for rows in (embeddings, start)
        ]
        scores = (scale * (both[0] - both[1]) + both[1])[vocabulary.first_code :]
        kept = scores.topk(9)
        probs = torch.zeros_like(scores).double().scatter(0, kept.indices, kept.values.double().softmax(-1))
        ids.append(vocabulary.first_code + int(torch.searchsorted(probs.cumsum(0), uniform[step], right=True)))
    return [one - vocabulary.first_code for one in ids]


@pytest.mark.parametrize(
    ("image_input", "how"), [("codes", "codes"), ("codes", "bare"), ("features", "continuous"), ("live", "continuous")]
)
def test_prompts_with_images_against_a_plain_loop_and_alone(
    folders: dict[str, Path], images: np.ndarray, image_input: str, how: Any
) -> None:
    llm, model = load_llm(folders[image_input]), LaVIT.from_pretrained(folders[image_input])
    prompts = [
        [images[0], "a red circle"],
        "a red circle",
        ["red", images[1], "circle"],
        [images[2], images[3]],
        [images[4]],
        [images[0], "red"],
    ]
    settings = SampleSettings(
        guidance_scale=2.0, image_guidance_scale=3.0, prompt_images=how, top_k=9, min_codes=6, max_codes=6
    )
    seeds = list(range(6))
    together = model.sample(prompts, seeds=seeds, settings=settings)
    for prompt, seed, codes in zip(prompts, seeds, together, strict=True):
        read = read_prompts(parts_of(folders[image_input]), prompt_list([prompt]), how)
        alone = sample_codes(llm, read, seeds=[seed], settings=settings, batch_size=2)[0]
        assert alone.tolist() == codes.tolist()
        embeddings = llm.embed_prompt(
            tokenize_prompt(read[0], llm.vocabulary, llm.codec.encode, brackets=how != "bare")
        )
        scale = 2.0 if isinstance(prompt, str) else 3.0
        assert draw_plainly(llm, embeddings, seed, scale, 6) == codes.tolist()
    assert len({tuple(codes.tolist()) for codes in together}) == 6


def test_every_part_of_a_prompt_changes_the_codes(folders: dict[str, Path], images: np.ndarray) -> None:
    model, settings = LaVIT.from_pretrained(folders["codes"]), SampleSettings(guidance_scale=1, min_codes=9)
    prompts = [["red", images[0]], [images[0], "red"], [images[1], "red"], [images[0], "blue"], [images[0]]]
    drawn = model.sample(prompts, seeds=[0] * 5, settings=settings)
    bare = model.sample(prompts, seeds=[0] * 5, settings=settings.model_copy(update={"prompt_images": "bare"}))
    assert len({tuple(codes.tolist()) for codes in [*drawn, *bare]}) == 10
