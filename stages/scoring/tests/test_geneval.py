"""GenEval by hand, and sets that are not whole."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lavit_scoring.catalogue import find_benchmark
from lavit_scoring.errors import InputError
from lavit_scoring.scorers import score_file
from lavit_scoring.task import ScoringTask

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
PROMPTS = [
    {"tag": TAGS[number % 6], "include": [{"class": "dog", "count": number}], "prompt": f"{number} dogs"}
    for number in range(553)
]


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def judged(prompts: list[dict[str, Any]], right: Callable[[int, int], bool], images: int = 4) -> list[dict[str, Any]]:
    return [
        {
            "filename": f"{number:05d}/samples/{image:04d}.png",
            "tag": one["tag"],
            "prompt": one["prompt"],
            "correct": right(number, image),
            "metadata": json.dumps(one),
        }
        for number, one in enumerate(prompts)
        for image in range(images)
    ]


@pytest.fixture
def score(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(rows: list[dict[str, Any]], prompts: list[dict[str, Any]] = PROMPTS, **options: Any) -> dict[str, Any]:
        task = ScoringTask(
            results=lines(tmp_path / "results.jsonl", rows),
            annotations=lines(tmp_path / "metadata.jsonl", prompts),
            **options,
        )
        return score_file(find_benchmark("geneval"), task, None)

    return run


def test_the_mean_is_over_tasks_not_images(score: Callable[..., dict[str, Any]]) -> None:
    prompts = [PROMPTS[0], PROMPTS[6], PROMPTS[1]]  # two of the first task, one of the second
    result = score(judged(prompts, lambda number, image: image < (4, 1, 2)[number]), prompts)
    found = {name: metric["value"] for name, metric in result["figures"].items()}
    # single_object: 5 of 8 images, two_object: 2 of 4; all images: 7 of 12.
    assert found == {"score": 56.25, "score.single_object": 62.5, "score.two_object": 50.0}
    assert result["notes"]["images_per_prompt"] == 4
    assert result["notes"]["correct_prompts"] == "3 of 3"
    assert result["notes"]["prompts"].startswith("original, sha256 ")


def test_a_set_without_the_last_nine_prompts_is_refused_or_marked(score: Callable[..., dict[str, Any]]) -> None:
    whole = judged(PROMPTS, lambda number, image: (number + image) % 2 == 0)
    assert score(whole)["complete"]
    some = whole[: 4 * 544]
    with pytest.raises(InputError, match="9 of 553 prompts have no result"):
        score(some)
    marked = score(some, partial=True)
    assert (marked["complete"], marked["figures"], marked["items"]["scored"]) == (False, {}, 544)
    assert marked["partial"]["figures"]["score"]["value"] == 50.0
    with pytest.raises(InputError, match=r"3 to 4 images a prompt, expected equally many .fewest: '552 dogs'"):
        score(whole[:-1])


def test_rewritten_prompts_are_told_and_other_prompts_refused(score: Callable[..., dict[str, Any]]) -> None:
    rows = judged(PROMPTS[:2], lambda number, image: True)
    told = score([{**row, "prompt": "a photo of " + row["prompt"]} for row in rows], PROMPTS[:2])
    assert told["notes"]["prompts"].startswith("rewritten, sha256 ")
    with pytest.raises(InputError, match="2 results belong to no prompt"):
        score(rows, PROMPTS[2:4])
    with pytest.raises(InputError, match=r"row 1 is .*, expected tag, prompt, correct, metadata"):
        score([{"tag": "colors"}], PROMPTS[:1])


@pytest.mark.parametrize("verdict", ["false", "False", "0", "1", None, 2, 0.5, []])
def test_a_verdict_that_is_neither_true_nor_false_is_refused(
    score: Callable[..., dict[str, Any]], verdict: Any
) -> None:
    rows = judged(PROMPTS[:2], lambda number, image: True)
    rows[2]["correct"] = verdict
    with pytest.raises(InputError, match=r"results.jsonl: row 3: correct is .*, expected true or false"):
        score(rows, PROMPTS[:2])


def test_verdicts_as_numbers_count_as_such(score: Callable[..., dict[str, Any]]) -> None:
    rows = judged(PROMPTS[:2], lambda number, image: image == 0)
    numbers = [{**row, "correct": int(row["correct"])} for row in rows]
    assert score(numbers, PROMPTS[:2])["figures"] == score(rows, PROMPTS[:2])["figures"]


def test_an_image_that_is_judged_twice_is_merged_or_refused(score: Callable[..., dict[str, Any]]) -> None:
    rows = judged(PROMPTS[:2], lambda number, image: image == 0)
    twice = score([*rows, *rows[:4]], PROMPTS[:2])
    assert (twice["notes"]["merged_equal_rows"], twice["notes"]["images_per_prompt"]) == (4, 4)
    assert twice["figures"] == score(rows, PROMPTS[:2])["figures"]
    with pytest.raises(InputError, match=r"row 9: 00000/samples/0000.png is judged twice, correct and not; keep one"):
        score([*rows, {**rows[0], "correct": False}], PROMPTS[:2])
    # Judges that write no path may name the first image of each prompt alike.
    bare = [{**row, "filename": row["filename"].rpartition("/")[2]} for row in rows]
    assert score(bare, PROMPTS[:2])["notes"]["images_per_prompt"] == 4
    for nameless in ([{**row, "filename": None} for row in rows],
                     [{key: value for key, value in row.items() if key != "filename"} for row in rows]):  # fmt: skip
        assert score(nameless, PROMPTS[:2])["figures"] == twice["figures"]


@pytest.mark.parametrize("metadata", ["{'tag': 'x'}", "[1]", [1], None, 3])
def test_metadata_that_is_no_row_of_prompts_is_refused(score: Callable[..., dict[str, Any]], metadata: Any) -> None:
    rows = judged(PROMPTS[:1], lambda number, image: True)
    rows[1]["metadata"] = metadata
    with pytest.raises(InputError, match=r"results.jsonl: row 2: metadata is .*, expected the prompt's row of"):
        score(rows, PROMPTS[:1])
