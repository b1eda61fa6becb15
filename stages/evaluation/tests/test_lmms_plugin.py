"""The entry point for lmms-eval, through lmms-eval's own registry and command line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from lavit_core.errors import UsageError
from PIL import Image

pytest.importorskip("lmms_eval", reason="lmms-eval is not installed (it brings torchvision: an environment of its own)")

TASK = """
dataset_path: parquet
dataset_kwargs: {{data_files: {{test: {file}}}}}
task: lavit_toy
test_split: test
output_type: generate_until
doc_to_visual: !function toy.visual
doc_to_text: !function toy.text
doc_to_target: answer
generation_kwargs: {{max_new_tokens: 4, temperature: 0, do_sample: false}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true, ignore_punctuation: true}}
"""
HELPERS = """
import io
from PIL import Image
def visual(doc): return [Image.open(io.BytesIO(doc["image"])).convert("RGB")]
def text(doc, *rest): return doc["question"]
"""


def test_replies_keep_their_order_whatever_the_settings(models: dict[str, Path]) -> None:
    from lavit_evaluation.lmms_plugin import LavitForLmmsEval

    plugin = LavitForLmmsEval(model=str(models["seeing"]), batch_size=2, device="cpu")
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)) for _ in range(5)]
    plugin.task_dict = {"toy": {"test": [{"picture": image} for image in images]}}

    def request(number: int, **settings: object) -> SimpleNamespace:
        args = (f"what is {number}?", settings, lambda doc: [doc["picture"]], number, "toy", "test")
        return SimpleNamespace(args=args)

    requests = [request(n, max_new_tokens=3 + n % 2) for n in range(5)]
    together = plugin.generate_until(requests)
    assert together == [plugin.generate_until([one])[0] for one in requests]
    assert plugin.generate_until([request(0, max_new_tokens=6, until=[together[0][:1] or "x"])]) != together[:1]
    with pytest.raises(UsageError, match="does not sample text"):
        plugin.generate_until([request(0, temperature=0.7)])
    with pytest.raises(UsageError, match="unknown pretrained"):
        LavitForLmmsEval(pretrained="x")


@pytest.mark.slow
def test_its_command_line_finds_and_runs_the_model(models: dict[str, Path], tmp_path: Path) -> None:
    import io

    import pandas

    rows = []
    for n in range(4):
        buffer = io.BytesIO()
        Image.new("RGB", (20, 20), (60 * n, 0, 0)).save(buffer, format="PNG")
        rows.append({"image": buffer.getvalue(), "question": f"how red is {n}?", "answer": "never said"})
    pandas.DataFrame(rows).to_parquet(tmp_path / "toy.parquet")
    (tmp_path / "toy.yaml").write_text(TASK.format(file=tmp_path / "toy.parquet"))
    (tmp_path / "toy.py").write_text(HELPERS)
    command = [sys.executable, "-m", "lmms_eval", "--model", "lavit", "--tasks", "lavit_toy", "--batch_size", "2"]
    command += ["--include_path", str(tmp_path), "--model_args", f"model={models['seeing']},device=cpu"]
    command += ["--output_path", str(tmp_path / "out"), "--log_samples"]
    offline = os.environ | {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    done = subprocess.run(command, capture_output=True, text=True, env=offline, cwd=tmp_path, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]
    (results,) = (tmp_path / "out").rglob("*_results.json")
    assert json.loads(results.read_text())["results"]["lavit_toy"]["exact_match,none"] == 0.0
