"""Beam search against exhaustive search and against greedy writing."""

from typing import Any

import numpy as np
import pytest
import torch
from lavit_core.tokens import TokenReader
from lavit_pretrain.beam_search import Beams, write_with_beams
from lavit_pretrain.captioning import caption, write_greedily
from lavit_pretrain.config import LlmShape, Mix, PretrainConfig
from lavit_pretrain.image_input import stored_images
from lavit_pretrain.language_model import load_llm
from lavit_pretrain.sequence import reading_prompts
from lavit_pretrain.train_language_model import train_language_model


@pytest.fixture(scope="module")
def llm(world, tmp_path_factory):
    shape = LlmShape(hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, max_positions=64,
                     text_vocab_size=262)  # fmt: skip
    mix = Mix(text_to_image=0.3, image_to_text=0.7, questions=0.0, text=0.0)
    config = PretrainConfig(image_input="codes", llm=shape, mix=mix, num_steps=30, tokens_per_step=256,
                            warmup_steps=1, precision="fp32")  # fmt: skip
    out = tmp_path_factory.mktemp("beams") / "run"
    train_language_model([world.tokens], world.model, out, config, quiet=True)
    return load_llm(out / "model", device="cpu")


@pytest.fixture
def prompts(llm, reader):
    images = stored_images(llm, reader, np.arange(4))
    assert len(set(images.counts.tolist())) > 1, "the prompts must differ in length, so that padding is tested"
    return [llm.embed_prompt(prompt) for prompt in reading_prompts(llm.vocabulary, images, [np.empty(0, np.int64)] * 4)]


def test_one_beam_is_greedy(llm: Any, prompts: Any) -> None:
    assert write_with_beams(llm, prompts, 6, Beams(num_beams=1)) == write_greedily(llm, prompts, 6)


@torch.inference_mode()
def best_of_all_pairs(llm, prompt) -> str:
    """The likeliest two text tokens after a prompt, none of them the end: every pair is tried.

    Visual ids may not be written, so their probability is set aside before both steps, as the search does.
    """
    vocab = llm.vocabulary.text_vocab
    tokens = [token for token in range(vocab) if token != llm.codec.eos]

    def log_p(rows):
        hidden = llm.decoder(inputs_embeds=rows).last_hidden_state[:, -1]
        return (hidden @ llm.head_VD.T).log_softmax(-1)[:, :vocab]

    first = log_p(prompt[None])[0]
    after = torch.stack([torch.cat([prompt, llm.embed(torch.tensor([token]))]) for token in tokens])
    second = log_p(after)
    total = first[tokens][:, None] + second[:, tokens]
    one, two = divmod(int(total.argmax()), len(tokens))
    return llm.codec.decode([tokens[one], tokens[two]])


def test_as_many_beams_as_words_search_everything(llm: Any, prompts: Any) -> None:
    # With every first token kept, two steps of beam search see every pair.
    beams = Beams(num_beams=llm.vocabulary.text_vocab, min_tokens=2, length_penalty=0.0)
    for prompt in prompts[:2]:
        assert write_with_beams(llm, [prompt], 2, beams) == [best_of_all_pairs(llm, prompt)]


def test_rows_do_not_depend_on_their_neighbours(llm: Any, prompts: Any) -> None:
    beams = Beams(num_beams=3, min_tokens=2, length_penalty=0.0, early_stopping=True)
    together = write_with_beams(llm, prompts, 8, beams)
    assert together == [write_with_beams(llm, [prompt], 8, beams)[0] for prompt in prompts]


def test_captions_take_beams(llm: Any, reader: TokenReader) -> None:
    images = stored_images(llm, reader, np.arange(3))
    long = caption(llm, images, max_tokens=12, beams=Beams(num_beams=2, min_tokens=8))
    assert len(long) == 3
    assert all(len(llm.codec.encode(text)) >= 6 for text in long)  # 8 tokens, blanks at the ends cut
