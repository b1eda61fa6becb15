"""Findings on logged rows."""

from collections.abc import Callable

import numpy as np
from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.diagnose import diagnose_pretrain


def test_each_gain_has_its_warning_and_only_late(tiny_config: Callable[..., PretrainConfig]) -> None:
    def said(steps, **metrics):
        config = tiny_config(num_steps=1000, warmup_steps=10)
        rows = [{"step": step, "loss": 5 * np.exp(-step / 300), **metrics} for step in range(100, steps + 1, 100)]
        return [found.kind for found in diagnose_pretrain(rows, config)]

    low = {"answer_gain": 0.01, "caption_gain": -0.2, "prompt_gain": 0.01}
    assert said(400, **low) == []
    assert said(500, **low) == ["blind answers", "blind captions", "prompts not used"]
    assert said(1000, answer_gain=1.3, caption_gain=2.0, prompt_gain=0.5) == []
    assert said(1000) == []
