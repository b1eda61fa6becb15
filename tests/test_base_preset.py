"""The base preset: its parts fit together, it says that it was not measured, and twenty steps of each stage run."""

import json
from pathlib import Path

import pytest
import yaml
from lavit_core.errors import UsageError
from lavit_core.rundir import read_metrics

from lavit_cli.quickstart import plan
from lavit_cli.quickstart.settings import drawing_style, settle

ROOT = Path(__file__).parents[1]
FILES = sorted([*ROOT.glob("stages/*/src/*/presets/*.base.yaml"), *ROOT.glob("src/*/presets/*.base.yaml")])

SHORT = {
    "images": 48,
    "heldout_images": 16,
    "encoder": {"num_steps": 20, "batch_size": 8, "warmup_steps": 4, "num_validation": 4},
    "tokens": {"workers": 0, "batch_size": 16},
    "pretrain": {"num_steps": 20, "tokens_per_step": 512, "warmup_steps": 4},
    "blind": {"num_steps": 2, "tokens_per_step": 512},
    "detokenizer": {"num_steps": 20, "batch_size": 4, "warmup_steps": 4},
    "evaluation": {"pictures": 2, "questions": 4, "token_pictures": 4, "random_pictures": 1, "samples": 1,
                   "batch_size": 4, "decoder_steps": 1},
    "tokenizer_evaluation": {"images": 4, "reconstructions": 2, "decoder_steps": 1},
}  # fmt: skip


def test_every_base_preset_states_that_it_was_not_measured() -> None:
    assert len(FILES) == 10
    for file in FILES:
        head = "".join(line for line in file.read_text().splitlines(keepends=True) if line.startswith("#"))
        assert "not measured" in head, file


def test_sizes_of_the_base_presets_fit_together() -> None:
    config = plan(preset="base")
    settings, style = settle(config), drawing_style(config)
    side = settings.encoder.vision.preprocessing.image_px
    assert side == style.image_px == settings.detokenizer.image_px == 128
    assert settings.encoder.vision.width % settings.tokenizer.model.heads == 0
    # What the trainers keep in memory: images in 1 GiB, bfloat16 features in two caches.
    patches = settings.encoder.vision.grid[0] ** 2
    assert config.images * side * side * 3 <= 1 << 30
    assert 2 * config.images * patches * settings.encoder.vision.width <= settings.tokenizer.cache_bytes
    assert 2 * config.images * patches * settings.encoder.vision.width <= settings.detokenizer.cache_bytes
    assert patches + 64 < settings.pretrain.llm.max_positions
    assert settings.blind.llm == settings.pretrain.llm


def test_tokenizer_departs_from_the_paper_as_the_tiny_one_does() -> None:
    tiny, base = (settle(plan(preset=name)).tokenizer for name in ("tiny", "base"))
    for setting in ("optimizer", "keep_weight", "keep_term", "calibrate_threshold", "nmse_weight", "energy_power",
                    "patch_energy", "position_init", "commitment_weight"):  # fmt: skip
        assert getattr(base, setting) == getattr(tiny, setting), setting
    assert (base.model.merger_positions, base.model.whiten_power) == (
        tiny.model.merger_positions,
        tiny.model.whiten_power,
    )
    ways = [[(phase.name, phase.selection, phase.merger, phase.evidence, phase.quantise, phase.train, phase.cos_weight,
              phase.tau) for phase in config.phases] for config in (tiny, base)]  # fmt: skip
    assert ways[0] == ways[1]


def test_wrong_drawing_settings_are_named() -> None:
    with pytest.raises(UsageError, match="drawing: unknown setting colours; known settings: image_px, more_shapes"):
        settle(plan(preset="tiny", sets=["drawing.colours=3"]))
    with pytest.raises(UsageError, match="drawing: textures is 1, expected bool"):
        settle(plan(preset="tiny", sets=["drawing.textures=1"]))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_steps_of_each_stage(here, tmp_path: Path) -> None:
    phases = yaml.safe_load(
        (ROOT / "stages/tokenizer/src/lavit_tokenizer/presets/train-tokenizer.base.yaml").read_text()
    )
    short = [{**phase, "num_steps": 5, "batch_size": 4, "warmup_steps": 1} for phase in phases["phases"]]
    # An untrained selector keeps each patch with a probability near keep_ratio: about half of them at this threshold.
    tokenizer = {
        "model": {"keep_threshold": 0.25},
        "phases": short,
        "kmeans_samples": 2048,
        "kmeans_iterations": 2,
        "num_validation": 4,
    }
    file = tmp_path / "short.yaml"
    file.write_text(yaml.safe_dump({**SHORT, "tokenizer": tokenizer}))
    done = here("quickstart", "--preset", "base", "--config", file, "--out", tmp_path / "run", "--json")
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    assert set(summary["model"]["parts"]) == {"encoder", "tokenizer", "llm", "detokenizer"}
    for stage in ("encoder", "tokenizer", "pretrain", "detokenizer"):
        assert read_metrics(tmp_path / "run" / stage)[-1]["step"] == 20
    scenes = (tmp_path / "run" / "data" / "heldout" / "scenes.jsonl").read_text()
    assert "texture" in scenes
