"""T2I-CompBench by hand: a category, complex prompts by three judges, sets that are not whole."""

import json
from pathlib import Path
from typing import Any

import pytest
from lavit_scoring.catalogue import find_benchmark
from lavit_scoring.errors import InputError
from lavit_scoring.scorers import score_file
from lavit_scoring.task import ScoringTask

PROMPTS = ["a green bench and a blue bowl", "a brown horse and a blue vase.", "A red dog"]


def put(file: Path, scores: list[float], *, first: int = 0) -> Path:
    """Write scores as BLIP_vqa.py does: text of four decimals."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"question_id": number, "answer": f"{score:.4f}"} for number, score in enumerate(scores, first)]
    file.write_text(json.dumps(rows))
    return file


def draw(folder: Path, counts: list[int]) -> None:
    (folder / "samples").mkdir()
    number = 0
    for prompt, count in zip(PROMPTS, counts, strict=True):
        for _ in range(count):
            (folder / "samples" / f"{prompt}_{number:06d}.png").touch()
            number += 1


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "dataset" / "color_val.txt"
    file.parent.mkdir()
    file.write_text("".join(f"{prompt}\n" for prompt in PROMPTS))
    return file


def score(results: Path, prompts: Path, part: str = "color", **options: Any) -> dict[str, Any]:
    return score_file(
        find_benchmark(f"t2i-compbench-{part}"), ScoringTask(results=results, annotations=prompts, **options)
    )


def test_a_category_is_the_mean_over_images(tmp_path: Path, prompts: Path) -> None:
    file = put(tmp_path / "color" / "annotation_blip" / "vqa_result.json", [0.1] * 10 + [0.4] * 10 + [0.7] * 10)
    result = score(file, prompts, judge="BLIP-VQA")
    assert result["figures"]["score"]["value"] == 0.4
    assert result["figures"]["score"]["low"] < 0.3  # the images of a prompt hang together
    assert result["notes"]["images_per_prompt"] == "10 (the official number; no samples/ near the results)"
    assert (result["notes"]["judge"], result["complete"]) == ("BLIP-VQA", True)


def test_fewer_images_are_refused_unless_their_names_account_for_them(tmp_path: Path, prompts: Path) -> None:
    file = put(tmp_path / "color" / "annotation_blip" / "vqa_result.json", [0.5] * 6)
    with pytest.raises(InputError, match="24 of 30 images have no result"):
        score(file, prompts)
    draw(tmp_path / "color", [2, 2, 2])
    assert score(file, prompts)["notes"]["images_per_prompt"] == 2


@pytest.mark.parametrize("name", ["vqa_result.json", "annotation_blip/vqa_result.json"])
def test_results_in_the_run_directory_find_its_images(tmp_path: Path, prompts: Path, name: str) -> None:
    """As `lavit eval` draws: OUT/images/samples, and the judge's results in OUT or a folder of it."""
    out = tmp_path / "out"
    (out / "images").mkdir(parents=True)
    draw(out / "images", [2, 2, 2])
    result = score(put(out / name, [0.1, 0.1, 0.4, 0.4, 0.7, 0.7]), prompts)
    assert (result["notes"]["images_per_prompt"], result["items"]["expected"], result["complete"]) == (2, 6, True)


def test_prompts_without_images_are_refused_or_marked(tmp_path: Path, prompts: Path) -> None:
    draw(tmp_path, [2, 2, 0])
    file = put(tmp_path / "labels" / "annotation_obj_detection_2d" / "vqa_result.json", [0.5] * 4)
    with pytest.raises(InputError, match=r"samples: 1 of 3 prompts have fewer than 2 images .'A red dog'."):
        score(file, prompts, "spatial")
    marked = score(file, prompts, "spatial", partial=True)
    assert (marked["complete"], marked["figures"], marked["items"]) == (
        False, {}, marked["items"] | {"scored": 4, "expected": 6},
    )  # fmt: skip
    (tmp_path / "samples" / f"{PROMPTS[0]}_000001.png").rename(tmp_path / "samples" / f"{PROMPTS[0]}_000009.png")
    with pytest.raises(InputError, match="images are not numbered from 0 to 3"):
        score(file, prompts, "spatial", partial=True)


def test_complex_prompts_take_two_or_three_judges(tmp_path: Path, prompts: Path) -> None:
    complex_ = prompts.with_name("complex_val.txt")
    complex_.write_text(prompts.read_text())
    prompts.with_name("complex_val_spatial.txt").write_text(f"{PROMPTS[0]}\n")
    prompts.with_name("complex_val_action.txt").write_text(
        "A Brown horse and a blue vase\n"
    )  # compared as 3_in_1.py does
    out = tmp_path / "complex"
    draw_to = out
    draw_to.mkdir()
    draw(out, [1, 1, 1])
    put(out / "annotation_blip" / "vqa_result.json", [0.2, 0.2, 0.3])
    put(out / "annotation_clip" / "vqa_result.json", [0.9, 0.4, 0.3])
    with pytest.raises(InputError, match=r"complex: no annotation_obj_detection/vqa_result.json in it"):
        score(out, complex_, "complex")
    put(out / "labels" / "annotation_obj_detection_2d" / "vqa_result.json", [0.6, 0.9, 0.6])
    result = score(out, complex_, "complex")
    found = {name: metric["value"] for name, metric in result["figures"].items()}
    # (0.2 + 0.6) / 2, (0.2 + 0.4) / 2, (0.3 + 0.6 + 0.3) / 3
    assert found == {
        "score": pytest.approx(1.1 / 3, abs=1e-4), "score.attribute": pytest.approx(0.7 / 3, abs=1e-4),
        "score.spatial": 0.7, "score.action": pytest.approx(1.6 / 3, abs=1e-4),
    }  # fmt: skip
    whole = put(out / "annotation_3_in_1" / "vqa_result.json", [0.4, 0.3, 0.4])
    assert score(whole, complex_, "complex")["figures"]["score"]["value"] == pytest.approx(1.1 / 3, abs=1e-4)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"question_id": 0}], "row 1 is .*, expected question_id and answer"),
        ([{"question_id": 0, "answer": 3}], "expected a number from 0 and a score up to 1"),
        ([{"question_id": 0, "answer": 10**400}], "row 1 is .*, expected question_id and answer"),
        ([{"question_id": 0, "answer": 1}] * 2, "question_id 0 occurs twice"),
        ([], "no results, expected one an image"),
    ],
)
def test_rows_that_are_none_are_refused(tmp_path: Path, prompts: Path, rows: list[Any], words: str) -> None:
    file = tmp_path / "vqa_result.json"
    file.write_text(json.dumps(rows))
    with pytest.raises(InputError, match=words):
        score(file, prompts)
