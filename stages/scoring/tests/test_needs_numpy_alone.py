"""The package imports, scores and fails with its own errors where nothing but numpy is installed."""

import json
import subprocess
import sys
from pathlib import Path

BLOCKED = ("lavit_core", "lavit_evaluation", "torch", "PIL", "pydantic", "typer", "rich", "yaml", "safetensors")

PROGRAM = f"""
import importlib, json, pkgutil, sys
from pathlib import Path
for name in {BLOCKED!r}:
    sys.modules[name] = None  # import of it raises ImportError
import lavit_scoring
for module in pkgutil.walk_packages(lavit_scoring.__path__, "lavit_scoring."):
    importlib.import_module(module.name)
from lavit_scoring import find_benchmark
from lavit_scoring.errors import UsageError
from lavit_scoring import score_file
from lavit_scoring import ScoringTask
folder = Path(sys.argv[1])
task = ScoringTask(results=folder / "results.json", annotations=folder / "annotations.json")
score = score_file(find_benchmark("okvqa"), task, folder / "score")
assert score["figures"]["accuracy"]["value"] == 100.0, score
assert json.loads((folder / "score" / "score.json").read_text())["complete"]
try:
    find_benchmark("none")
except UsageError as error:
    assert error.exit_code == 2
"""


def test_every_module_imports_and_scores_without_the_rest_of_lavit(tmp_path: Path) -> None:
    answers = [{"answer": "dog", "answer_id": number} for number in range(10)]
    annotations = {"annotations": [{"question_id": 1, "image_id": 1, "answers": answers}]}
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    (tmp_path / "results.json").write_text(json.dumps([{"question_id": 1, "answer": "dog"}]))
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
