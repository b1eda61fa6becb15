"""Training with AdamW's moments in 8 bits: kills, adapters, and what a plan counts."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lavit_core.errors import InputError
from lavit_pretrain.config import LlmShape, PretrainConfig
from lavit_pretrain.plan import plan
from lavit_pretrain.train_language_model import train_language_model
from lavit_trainkit.testing import Killed, have_equal_weights, kill_at_step, metrics_of
from safetensors.torch import load_file

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)
WIDE = LlmShape(hidden_size=64, num_layers=2, num_heads=2, intermediate_size=96, max_positions=128, text_vocab_size=400)
"""Matrices large enough for 8 bits."""


@needs_bitsandbytes
@pytest.mark.parametrize("lora", [{}, {"rank": 64}])
def test_a_killed_run_ends_like_an_uninterrupted_one(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    lora: dict[str, Any],
) -> None:  # fmt: skip
    start = tiny_config(num_steps=2, llm=WIDE)
    train_language_model([world.tokens], world.model, tmp_path / "base", start, questions=[world.questions], quiet=True)
    llm = tmp_path / "base" / "model" / "llm"
    config = tiny_config(lora=lora, moment_bits=8)

    def run(out: Path, config: PretrainConfig = config) -> dict[str, Any]:
        return train_language_model(
            [world.tokens], world.model, out, config, questions=[world.questions], llm=llm, quiet=True
        )

    run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_at_step(patch, 9)  # after the checkpoint of step 5
        with pytest.raises(Killed):
            run(tmp_path / "cut")
    kept = load_file(next((tmp_path / "cut" / "checkpoints").glob("step-*5")) / "adamw8.safetensors")
    assert len([name for name in kept if name.endswith("absmax1")]) >= 8
    run(tmp_path / "cut")
    assert metrics_of(tmp_path / "cut") == metrics_of(tmp_path / "whole")
    assert have_equal_weights(tmp_path / "whole" / "model" / "llm", tmp_path / "cut" / "model" / "llm")
    # It learns as with 32 bits.
    run(tmp_path / "full", tiny_config(lora=lora))
    eight, full = (metrics_of(tmp_path / name)[-1]["loss"] for name in ("whole", "full"))
    assert eight != full
    assert eight == pytest.approx(full, rel=0.02)


def test_without_bitsandbytes_it_is_refused_before_anything_is_read(
    world: Any, tiny_config: Callable[..., PretrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    config = tiny_config(moment_bits=8)
    with pytest.raises(InputError, match="moment_bits: 8 needs bitsandbytes"):
        train_language_model([world.tokens], world.model, tmp_path / "run", config, quiet=True)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="moment_bits: 8 needs bitsandbytes"):
        plan(config, None)


@needs_bitsandbytes
def test_a_plan_counts_them(tiny_config: Callable[..., PretrainConfig]) -> None:
    held = {
        bits: plan(tiny_config(llm=WIDE, image_input="codes", moment_bits=bits), None)["cost"]["steps"]["pretrain"]
        for bits in (8, 32)
    }
    few, full = (held[bits]["memory_bytes"]["1"]["optimizer"] for bits in (8, 32))
    # The table keeps 32 bits, head and layers do not.
    table = 64 * (400 + 2 + 16384)
    assert 8 * table < few < 0.65 * full
