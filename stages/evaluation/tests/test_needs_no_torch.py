"""Result files and edited images are scored, and COCO's captions are planned, where no other stage is installed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

PROGRAM = """
import sys
for name in ("torch", "transformers", "lavit", "lavit_trainkit", "lavit_tokenizer", "lavit_pretrain"):
    sys.modules[name] = None  # import of it raises ImportError
from lavit_evaluation.cli import evaluate
evaluate(sys.argv[1:])
"""


def run(*line: str | Path) -> dict:
    words = [sys.executable, "-c", PROGRAM, *map(str, line), "--json"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def put(file: Path, content: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def save(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20)).save(file)


def test_a_result_file_is_scored(tmp_path: Path) -> None:
    answers = [{"answer": "dog", "answer_id": number} for number in range(10)]
    truth = put(tmp_path / "a.json", {"annotations": [{"question_id": 1, "image_id": 1, "answers": answers}]})
    results = put(tmp_path / "r.json", [{"question_id": 1, "answer": "dog"}])
    score = run("score", "okvqa", "--results", results, "--annotations", truth)
    assert score["figures"]["accuracy"]["value"] == 100.0


def test_edited_images_are_scored(tmp_path: Path) -> None:
    images = tmp_path / "images" / "7"
    save(images / "7-input.png", images / "7-output1.png", tmp_path / "edited" / "7" / "7_1.png")
    turn = {"input": "7-input.png", "output": "7-output1.png", "instruction": "lighter"}
    sessions = put(tmp_path / "edit_sessions.json", {"7": [turn]})
    score = run("score", "magicbrush", "--results", tmp_path / "edited", "--annotations", sessions)
    assert score["figures"]["all_turn.l1"]["value"] == pytest.approx(0)


def test_a_plan_of_coco_fid_is_shown(tmp_path: Path) -> None:
    name = "COCO_val2014_000000000001.jpg"
    save(tmp_path / "val2014" / name)
    rows = [{"id": 1, "image_id": 1, "caption": "a dog"}]
    put(tmp_path / "captions_val2014.json", {"images": [{"id": 1, "file_name": name}], "annotations": rows})
    put(tmp_path / "model" / "lavit.json", {"parts": {}})
    for part in ("tokenizer", "llm", "detokenizer"):
        put(tmp_path / "model" / part / "config.json", {})
    out = tmp_path / "out"
    plan = run("coco-fid", "--model", tmp_path / "model", "--data", tmp_path, "--out", out, "--dry-run")
    assert plan["first"] == "a dog"
    assert set(plan["skipped"]) == {"fid", "kid", "clip_score"}
    assert not out.exists()
