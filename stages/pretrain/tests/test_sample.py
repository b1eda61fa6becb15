"""Sampled codes as a token directory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from lavit_core.tokens import open_tokens
from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.sample import write_sampled


def test_sampled_tokens_are_a_token_directory(random_llm: Callable[..., LanguageModel], tmp_path: Path) -> None:
    write_sampled(random_llm("codes"), ["a", "b"], [np.array([1, 2, 3]), np.array([4])], tmp_path / "t")
    reader = open_tokens(tmp_path / "t", check_digests=True)
    codes, counts = reader.codes(np.array([1, 0]))
    assert codes.tolist() == [4, 1, 2, 3]
    assert counts.tolist() == [1, 3]
    assert reader.texts(np.array([0, 1])) == [("a",), ("b",)]
    assert not reader.keep_masks(np.array([0, 1])).any()
    assert reader.manifest.shards[0].source == "sampled"
    assert reader.manifest.tokenizer_digest == "0" * 64
