"""examples/published_rehearsal.py in miniature: every command it runs ends well."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commandline import environment
from PIL import Image

EXAMPLE = Path(__file__).parents[1] / "examples" / "published_rehearsal.py"


@pytest.mark.slow
@pytest.mark.parametrize("softmax", ["released", "exact"])
def test_the_miniature_runs_through(softmax, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.jpg")
    done = subprocess.run(
        [sys.executable, EXAMPLE, "--images", tmp_path / "photos", "--out", tmp_path / "out", "--miniature",
         "--softmax", softmax],
        capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for step in ("wrote visual_weight.bin", "lavit import-checkpoint", "lavit tokenize-images", "lavit tokens"):
        assert f"{step}: " in done.stdout
    assert "every shard is whole" in done.stdout + done.stderr
