"""examples/published_rehearsal.py in miniature: what it writes imports, and every command it runs ends well."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import environment
from PIL import Image

from lavit_cli.import_checkpoint import import_checkpoint

EXAMPLE = Path(__file__).parents[1] / "examples" / "published_rehearsal.py"


@pytest.fixture(scope="module")
def checkpoint():
    """The module that writes the weights."""
    about = importlib.util.spec_from_file_location("published_checkpoint", EXAMPLE.with_name("published_checkpoint.py"))
    assert about is not None
    assert about.loader is not None
    module = importlib.util.module_from_spec(about)
    about.loader.exec_module(module)
    return module


def test_the_miniature_is_a_whole_release(checkpoint, tmp_path):
    sizes = checkpoint.MINIATURE
    for part in (*checkpoint.FILES, *checkpoint.FOLDERS):
        checkpoint.write_part(tmp_path / "released", part, sizes, "bfloat16")
    made = import_checkpoint(tmp_path / "released", tmp_path / "model", encoder_heads=4, heads=4, quiet=True)
    assert set(made["parts"]) == {"tokenizer", "llm", "detokenizer", "detokenizer-highres"}
    assert made["left_out"] == {}
    assert made["parts"]["llm"]["ids"] == {"text_vocab": 320, "codebook_size": 256}
    assert made["parts"]["llm"]["shards"] == 3
    assert made["parts"]["detokenizer"]["drawable"]
    assert made["parts"]["detokenizer-highres"]["drawable"]


def test_published_sizes_equal_those_of_the_released_files(checkpoint):
    def count(shapes):
        return sum(map(checkpoint.numel, shapes.values()))

    sizes = checkpoint.PUBLISHED
    counts = {part: count(checkpoint.visual_shapes(part, sizes)) for part in checkpoint.FILES}
    # Sizes of the files on the hub, see docs/released-weights.md.
    assert counts == {"encoder": 1_012_588_928, "tokenizer": 404_048_130, "decoder": 404_081_792,
                      "highres": 414_002_304, "visual": 404_038_656}  # fmt: skip


def test_no_two_rows_of_a_weight_are_equal(checkpoint):
    rows = checkpoint.fill((4096, 1024), 1.0, torch.bfloat16)
    assert torch.unique(rows, dim=0).shape[0] == 4096
    assert torch.equal(rows, checkpoint.fill((4096, 1024), 1.0, torch.bfloat16))
    assert float(rows.float().std()) == pytest.approx(1, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [[], ["--attention", "packed", "--parts", "encoder", "tokenizer", "decoder", "sd15"]])
def test_the_miniature_runs_through(parts, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.jpg")
    done = subprocess.run(
        [sys.executable, EXAMPLE, "--images", tmp_path / "photos", "--out", tmp_path / "out", "--miniature", *parts],
        capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    steps = ["wrote sd15", "lavit import-checkpoint", "lavit tokenize-images", "lavit tokens"]
    steps += ["lavit reconstruct"] if parts else ["wrote llm", "wrote sdxl", "lavit caption", "lavit generate"]
    for step in steps:
        assert f"{step}: " in done.stdout
    assert "every shard is whole" in done.stdout + done.stderr
    assert not (tmp_path / "out" / "checkpoint").exists()
    drawn = {"back-sd15.png"} if parts else {"generated-sd15.png", "generated-sdxl.png"}
    assert {file.name for file in (tmp_path / "out").glob("*.png")} == drawn
