"""Edited images in the official layouts: metrics by hand, what is missing or belongs nowhere, what is skipped."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lavit_core.errors import InputError, UsageError
from lavit_evaluation.cli import evaluate
from lavit_evaluation.editing.config import EditScoreConfig
from lavit_evaluation.editing.dino import Dino
from lavit_evaluation.editing.edits import read_edits
from lavit_evaluation.editing.judges import Judges, load_judges
from lavit_evaluation.editing.score_edits import EditScoring, score_edits
from lavit_evaluation.image_metrics.clip_score import Clip
from lavit_evaluation.options import Weights
from lavit_scoring import ScoringTask, find_benchmark, write_score
from PIL import Image
from typer.testing import CliRunner

SESSIONS = {"30": 1, "139": 3, "7": 2}
"""Session -> turns."""


def save(file: Path, shade: int, size: tuple[int, int] = (24, 20)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(file)


@pytest.fixture
def magicbrush(tmp_path: Path) -> Path:
    """The zip's folders: inputs 100, targets 100 + 10 k of turn k."""
    root, sessions, texts = tmp_path / "test", {}, {}
    for name, turns in SESSIONS.items():
        save(root / "images" / name / f"{name}-input.png", 100)
        rows = []
        for k in range(1, turns + 1):
            save(root / "images" / name / f"{name}-output{k}.png", 100 + 10 * k)
            save(root / "images" / name / f"{name}-mask{k}.png", 0)
            source = f"{name}-input.png" if k == 1 else f"{name}-output{k - 1}.png"
            rows.append({"input": source, "mask": f"{name}-mask{k}.png", "output": f"{name}-output{k}.png",
                         "instruction": f"lighter, turn {k} of {name}"})  # fmt: skip
        sessions[name] = rows
        texts[name] = {f"{name}-output{k}.png": f"shade {k}" for k in range(1, turns + 1)}
    (root / "edit_sessions.json").write_text(json.dumps(sessions))
    (root / "local_descriptions.json").write_text(json.dumps(texts))
    return root


@pytest.fixture
def edited(tmp_path: Path, magicbrush: Path) -> Path:
    """Single-turn images 5 shades off, multi-turn ones 5 k off, larger than their targets."""
    root = tmp_path / "edited"
    for name, turns in SESSIONS.items():
        save(root / name / f"{name}_1.png", 115, (48, 40))
        for k in range(2, turns + 1):
            save(root / name / f"{name}_inde_{k}.png", 105 + 10 * k, (48, 40))
            save(root / name / f"{name}_iter_{k}.png", 100 + 15 * k, (48, 40))
    return root


def shade_of(image: np.ndarray) -> float:
    return float(image.mean())


def fake_judges(**metadata: Any) -> Judges:
    """CLIP sees the shade as an angle, DINO twice the angle; a text is the angle of its number."""

    def turned(angle: float) -> np.ndarray:
        return np.array([np.cos(angle), np.sin(angle)])

    clip = Clip(
        images=lambda images: np.stack([turned(shade_of(one) / 100) for one in images]),
        texts=lambda said: np.stack([turned((100 + 10 * int(text.split()[-1])) / 100) for text in said]),
        image_px=16,
        metadata={},
    )
    dino = Dino(images=lambda images: np.stack([turned(shade_of(one) / 50) for one in images]), metadata={})
    return Judges(
        clip=clip, dino=dino, lpips=lambda one, other: abs(shade_of(one) - shade_of(other)), metadata=metadata
    )


Scores = Callable[..., dict[str, Any]]


@pytest.fixture
def scores(magicbrush: Path, edited: Path) -> Scores:
    def run(out: Path | None = None, judges: Judges | None = None, **more: Any) -> dict[str, Any]:
        config = EditScoreConfig(**more.pop("config", {}))
        benchmark, images = find_benchmark(more.pop("kind", "magicbrush")), more.pop("images", None)
        task = ScoringTask(**{"results": edited, "annotations": magicbrush / "edit_sessions.json"} | more)
        judges = judges or load_judges(Weights(), config, device="cpu")
        scoring = EditScoring(config=config, judges=judges, images=images, quiet=True)
        return write_score(benchmark, task, score_edits(benchmark, task, scoring), out)

    return run


def test_metrics_by_hand(scores: Scores, tmp_path: Path) -> None:
    result = scores(tmp_path / "o", fake_judges())
    metrics = result["figures"]
    # Single-turn: six images, 5 shades off each. Multi-turn, last turns: 5 off at turn 1, 10 at 2, 15 at 3.
    assert metrics["all_turn.l1"] == pytest.approx({"value": 5 / 255, "count": 6, "low": 5 / 255, "high": 5 / 255})
    assert metrics["all_turn.l2"]["value"] == pytest.approx((5 / 255) ** 2)
    assert metrics["final_turn.l1"]["value"] == pytest.approx((5 + 15 + 10) / 3 / 255)
    assert metrics["final_turn.l1"]["count"] == 3
    assert metrics["each_turn.l1"]["value"] == pytest.approx((3 * 5 + 2 * 10 + 15) / 6 / 255)
    assert metrics["final_turn.lpips"]["value"] == pytest.approx(10)
    assert metrics["all_turn.clip_i"]["value"] == pytest.approx(np.cos(0.05))
    assert metrics["all_turn.dino"]["value"] == pytest.approx(np.cos(0.1))
    assert metrics["final_turn.clip_t"]["value"] == pytest.approx(np.mean(np.cos([0.05, 0.15, 0.10])))
    assert metrics["final_turn.clip_t_oracle"]["value"] == pytest.approx(1)
    assert (result["complete"], result["protocol"]["name"]) == (True, "official")
    assert result["items"]["scored"] == result["items"]["expected"] == 9
    assert "single-turn" in result["notes"]["all_turn.*"]
    rows = [json.loads(line) for line in (tmp_path / "o" / "items.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows][:5] == ["30_1", "139_1", "139_inde_2", "139_iter_2", "139_inde_3"]
    assert rows[3]["l1"] == pytest.approx(10 / 255)
    assert rows[3]["image"] == "139"


def test_without_weights_each_metric_says_why(scores: Scores) -> None:
    result = scores()
    assert {name.rpartition(".")[2] for name in result["figures"]} == {"l1", "l2", "ssim"}
    assert result["skipped"] == {
        "clip_i": "no CLIP weights given (--clip-model DIR)",
        "clip_t": "no CLIP weights given (--clip-model DIR)",
        "dino": "no DINO weights given (--dino DIR)",
        "lpips": "no LPIPS weights given (--lpips-trunk FILE --lpips-heads FILE)",
    }


def test_without_descriptions_clip_t_says_why(scores: Scores, magicbrush: Path) -> None:
    texts = json.loads((magicbrush / "local_descriptions.json").read_text())
    del texts["7"]["7-output2.png"]
    (magicbrush / "local_descriptions.json").write_text(json.dumps(texts))
    result = scores(None, fake_judges())
    assert result["skipped"]["all_turn.clip_t"] == "1 of 6 images have no description"
    (magicbrush / "local_descriptions.json").unlink()
    assert "no local_descriptions.json beside edit_sessions.json" in scores(None, fake_judges())["skipped"]["clip_t"]


def test_one_setting_alone(scores: Scores, edited: Path) -> None:
    for file in edited.glob("*/*_iter_*"):
        file.unlink()
    with pytest.raises(InputError, match=r"3 of 9 edited .*139/139_iter_2.png.*--set turns=single scores that setting"):
        scores()
    result = scores(config={"turns": "single"})
    assert {name.partition(".")[0] for name in result["figures"]} == {"all_turn"}
    assert (result["complete"], result["items"]["expected"]) == (True, 6)


def test_missing_and_foreign_images_are_named(scores: Scores, edited: Path) -> None:
    (edited / "7" / "7_1.png").unlink()
    with pytest.raises(InputError, match=r"1 of 9 edited images are missing \(7/7_1.png\); .*--partial"):
        scores()
    result = scores(partial=True)
    assert (result["complete"], result["figures"]) == (False, {})
    assert result["partial"]["figures"]["all_turn.l1"]["count"] == 5
    save(edited / "8" / "8_1.png", 3)
    with pytest.raises(InputError, match=r"1 images belong to no edit \(8/8_1.png\); .*another split"):
        scores(partial=True)
    (edited / "8" / "8_1.png").unlink()
    save(edited / "30" / "30_1.jpg", 3)
    with pytest.raises(InputError, match=r"30_1.jpg and 30_1.png are one edit; keep one"):
        scores(partial=True)
    shutil.rmtree(edited)
    edited.mkdir()
    with pytest.raises(InputError, match=r"no edited image in it; expected names like 30/30_1\.png"):
        scores(partial=True)


def test_masks_and_jpegs_are_as_the_official_script_has_them(scores: Scores, edited: Path) -> None:
    save(edited / "30" / "30_mask.png", 0)
    Image.open(edited / "30" / "30_1.png").save(edited / "30" / "30_1.jpg", quality=100)
    (edited / "30" / "30_1.png").unlink()
    assert scores()["complete"]


def test_bad_annotations_are_named(scores: Scores, magicbrush: Path) -> None:
    file = magicbrush / "edit_sessions.json"
    sessions = json.loads(file.read_text())
    del sessions["139"][1]["instruction"]
    file.write_text(json.dumps(sessions))
    with pytest.raises(InputError, match=r"session 139, turn 2: `instruction` is 'None', expected text"):
        scores()
    sessions["139"][1] |= {"instruction": "x", "output": "../secret.png"}
    file.write_text(json.dumps(sessions))
    with pytest.raises(InputError, match=r"'\.\./secret\.png' leads out of .*139, expected a file name"):
        scores()
    file.write_text(json.dumps({"139": [{**sessions["139"][0], "input": "..-input.png"}]}))
    with pytest.raises(InputError, match=r"session 139, turn 1: '\.\.' leads out of .*images, expected a file name"):
        scores()
    file.write_text(json.dumps({"1": sessions["7"], "2": sessions["7"]}))
    with pytest.raises(InputError, match="sessions 1 and 2 both edit 7"):
        scores()
    file.write_text("[]")
    with pytest.raises(InputError, match="expected an object of sessions"):
        scores()
    file.write_text(json.dumps({"7": sessions["7"]}))
    (magicbrush / "images" / "7" / "7-output1.png").unlink()
    with pytest.raises(InputError, match=r"1 images are missing, say 7/7-output1.png; give their folder"):
        scores()


def test_another_clip_or_size_is_not_the_official_score(scores: Scores) -> None:
    assert scores(None, fake_judges(), config={"size": 16})["protocol"]["name"] == "custom"
    result = scores(None, fake_judges(clip_shape="patch 14, width 1024, 24 layers"))
    assert result["protocol"]["name"] == "custom"
    assert "CLIP of patch 14" in result["notes"]["differs_from_the_official_script"]


@pytest.fixture
def ma5k(tmp_path: Path) -> Path:
    """The repository's folders: one input with two targets, one of them asked for twice."""
    root = tmp_path / "FiveK"
    for name, shade in (("0001_O", 100), ("0001_A", 120), ("0001_B", 140), ("0002_O", 10), ("0002_C", 30)):
        save(root / "images" / f"{name}.jpg", shade)
    rows = [
        {"input": "0001_O.jpg", "output": "0001_A.jpg", "request": "brighter", "request_idx": [1, 2, 0]},
        {"input": "0002_O.jpg", "output": "0002_C.jpg", "request": "lighten it", "request_idx": [1, 2, 0]},
        {"input": "0001_O.jpg", "output": "0001_B.jpg", "request": "much brighter"},
        {"input": "0001_O.jpg", "output": "0001_B.jpg", "request": "a lot of light"},
    ]
    (root / "annotations").mkdir()
    (root / "annotations" / "test_sess_1.json").write_text(json.dumps(rows))
    return root


def test_ma5k_by_hand(scores: Scores, ma5k: Path, tmp_path: Path) -> None:
    edits = read_edits("ma5k", ma5k / "annotations" / "test_sess_1.json", None, turns="both", descriptions="local")
    assert [edit.file_name for edit in edits] == ["0001_A.png", "0002_C.png", "0001_B.png", "0001_B_2.png"]
    for edit, shade in zip(edits, (120, 40, 130, 140), strict=True):
        save(tmp_path / "mine" / edit.file_name, shade)
    result = scores(None, fake_judges(), results=tmp_path / "mine", kind="ma5k",
                    annotations=ma5k / "annotations" / "test_sess_1.json")  # fmt: skip
    assert result["figures"]["l1"]["value"] == pytest.approx((0 + 10 + 10 + 0) / 4 / 255, abs=1e-3)  # JPEG rounds
    assert result["figures"]["lpips"]["count"] == 4
    assert result["protocol"]["name"] == "custom"
    assert "no official script is known" in result["notes"]["protocol"]
    assert result["skipped"] == {"clip_t": "MA5k-Req describes no target"}
    assert "Morph-Tokens" in result["published"]["by"]


def test_on_the_command_line(magicbrush: Path, edited: Path, tmp_path: Path) -> None:
    line = ["score", "magicbrush", "--results", str(edited), "--annotations", str(magicbrush / "edit_sessions.json")]
    one = CliRunner().invoke(evaluate, [*line, "--out", str(tmp_path / "a"), "--json"], catch_exceptions=False)
    assert json.loads(one.stdout)["figures"]["final_turn.l1"]["count"] == 3
    moved = magicbrush.parent / "elsewhere"
    (magicbrush / "images").rename(moved)
    with pytest.raises(InputError, match=r"no folder images beside it; .*--images"):
        CliRunner().invoke(evaluate, line, catch_exceptions=False)
    save(edited / "30" / "30_1.png", 125)
    other = CliRunner().invoke(
        evaluate, [*line, "--images", str(moved), "--out", str(tmp_path / "b")], catch_exceptions=False
    )
    assert "clip_i: skipped: no CLIP weights given" in other.stdout
    assert "a leaderboard's row for LaVIT" in other.stdout
    two = CliRunner().invoke(evaluate, ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"])
    compared = json.loads(two.stdout)
    assert compared["not_comparable"] == []
    assert compared["paired"]["l1"][0]["value"] == pytest.approx(10 / 255 / 9)
    with pytest.raises(UsageError, match="found --protocol lavit"):
        CliRunner().invoke(evaluate, [*line, "--protocol", "lavit"], catch_exceptions=False)
    with pytest.raises(UsageError, match=r"--clip-model: vqav2 has no edited images"):
        CliRunner().invoke(evaluate, ["score", "vqav2", "--results", "r", "--annotations", "a", "--clip-model", "c"],
                           catch_exceptions=False)  # fmt: skip
    with pytest.raises(UsageError, match="LPIPS needs two files"):
        CliRunner().invoke(evaluate, [*line, "--images", str(moved), "--lpips-heads", "h"], catch_exceptions=False)
    rows = json.loads(CliRunner().invoke(evaluate, ["list", "--data", str(magicbrush), "--json"]).stdout)["benchmarks"]
    row = next(one for one in rows if one["benchmark"] == "magicbrush")
    assert row["found"]["annotations"] == str(magicbrush / "edit_sessions.json")
