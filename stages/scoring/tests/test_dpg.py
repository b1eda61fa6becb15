"""DPG-Bench by hand: parents, the script's aggregation and the corrected one."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lavit_scoring.catalogue import find_benchmark
from lavit_scoring.errors import InputError
from lavit_scoring.scorers import score_file
from lavit_scoring.task import ScoringTask

HEAD = ("item_id", "text", "keywords", "proposition_id", "dependency", "category_broad", "category_detailed", "tuple",
        "question_natural_language")  # fmt: skip
ROWS = [
    ("a", 1, "0", "entity - whole (dog)", "Is there a dog?"),
    ("a", 2, "1", "attribute - colour (dog, red)", "Is the dog red?"),
    ("b", 1, "0", "entity - whole (cat)", "Is there a cat, or more?"),
    ("b", 2, "1", "attribute - colour (cat, blue)", "Is the cat blue?"),
    ("b", 3, "2, 1", "relation - spatial (cat, left)", "Is the blue cat left?"),
    ("b", 4, "5", "attribute - size (mat, big)", "Is the mat big?"),
    ("b", 5, "1", "entity - whole (mat)", "Is there a mat?"),
]
YES = {("a", 1): "yes", ("a", 2): "yes", ("b", 1): "no", ("b", 2): "yes", ("b", 3): "yes", ("b", 4): "yes",
       ("b", 5): "yes"}  # fmt: skip


def answers(images: int = 1, **changes: str) -> list[dict[str, Any]]:
    return [
        {
            "item_id": item,
            "image": image,
            "proposition_id": number,
            "answer": changes.get(f"{item}{number}{image}", said),
        }
        for image in range(images)
        for (item, number), said in YES.items()
    ]


@pytest.fixture
def score(tmp_path: Path, put: Callable[[str, Any], Path]) -> Callable[..., dict[str, Any]]:
    table = tmp_path / "dpg_bench.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEAD, *((row[0], "t", "", row[1], row[2], "", "", *row[3:]) for row in ROWS)])

    def run(results: Any, **options: Any) -> dict[str, Any]:
        file = results if isinstance(results, Path) else put("results.json", results)
        return score_file(find_benchmark("dpg-bench"), ScoringTask(results=file, annotations=table, **options), None)

    return run


def values(result: dict[str, Any]) -> dict[str, float]:
    return {name: metric["value"] for name, metric in result["figures"].items()}


def test_both_aggregations_of_a_failed_parent(score: Callable[..., dict[str, Any]]) -> None:
    official, corrected = (score(answers(), protocol=protocol) for protocol in ("official", "corrected"))
    # a: row 1 is skipped, proposition 2 depends on it, so the script fails and drops the image.
    # b: the cat is missing, so 2, 3 and 5 fall with it; 4 is looked at before its parent 5 falls: 1 of 5.
    assert values(official)["score"] == 20.0
    assert official["notes"]["dropped"] == "1 of 2 prompts (a)"
    assert official["notes"]["first_row"] == "proposition 1 of prompt a is skipped, as the script does"
    # By answers without parents: entity 1 of 2, attribute 2 of 2, relation 1 of 1.
    assert {name: value for name, value in values(official).items() if name.count(" ") == 0} == {
        "score": 20.0, "category.entity": 50.0, "category.attribute": 100.0, "category.relation": 100.0,
    }  # fmt: skip
    assert official["complete"]
    # Corrected: a is 2 of 2; b: nothing holds without its parents.
    assert values(corrected) == {
        "score": 50.0, "category.attribute": 33.33, "category.attribute - colour": 50.0,
        "category.attribute - size": 0.0, "category.entity": 33.33, "category.entity - whole": 33.33,
        "category.relation": 0.0, "category.relation - spatial": 0.0,
    }  # fmt: skip
    assert "dropped" not in corrected["notes"]


def test_categories_of_the_script_rest_on_the_last_image(score: Callable[..., dict[str, Any]]) -> None:
    two = answers(images=2, b11="yes")  # in the second image everything is right
    official, corrected = (values(score(two, protocol=protocol)) for protocol in ("official", "corrected"))
    assert (official["score"], official["category.entity"]) == (60.0, 100.0)
    assert (corrected["score"], corrected["category.entity"]) == (75.0, 66.67)


def test_the_scripts_detail_file_is_read(tmp_path: Path, score: Callable[..., dict[str, Any]]) -> None:
    detail = tmp_path / "x_detail.txt"
    texts = {(row[0], row[1]): row[4] for row in ROWS}
    lines = [f"out/{item}.png, (0, 0, 512, 512), {texts[item, number]}, {said}" for (item, number), said in YES.items()]
    detail.write_text("\n".join(lines[1:]), encoding="utf-8")  # as the script asks: without the first row
    assert values(score(detail))["score"] == 20.0
    with pytest.raises(InputError, match=r"image out/a.png .* of a has no answer to proposition 1; judge it again"):
        score(detail, protocol="corrected")
    detail.write_text("out/a.png: failed", encoding="utf-8")
    with pytest.raises(InputError, match=r"x_detail.txt:1: .*expected image, .crop., question, answer"):
        score(detail)


def test_missing_answers_and_prompts_are_refused(score: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(InputError, match="image 0 of b has no answer to proposition 5"):
        score(answers()[:-1])
    with pytest.raises(InputError, match=r"1 of 2 prompts have no result .b."):
        score(answers()[:2], protocol="corrected")
    assert not score(answers()[:2], protocol="corrected", partial=True)["complete"]


@pytest.mark.parametrize(("yes", "no"), [("Yes", "No"), ("yes.", "NO."), (" yes", "no\n"), (True, False)])
def test_the_spellings_of_a_judge_count_alike(score: Callable[..., dict[str, Any]], yes: Any, no: Any) -> None:
    spelled = [{**row, "answer": yes if row["answer"] == "yes" else no} for row in answers()]
    assert score(spelled, protocol="corrected")["figures"] == score(answers(), protocol="corrected")["figures"]


@pytest.mark.parametrize("answer", ["maybe", "yes, it is", "", "yes..", 1, None, ["yes"]])
def test_an_answer_that_is_neither_yes_nor_no_is_refused(score: Callable[..., dict[str, Any]], answer: Any) -> None:
    rows = answers()
    rows[2]["answer"] = answer
    with pytest.raises(InputError, match=r"results.json: row 3: answer is .*, expected yes or no"):
        score(rows)


def test_the_scripts_own_words_are_compared_as_the_script_does(
    tmp_path: Path, score: Callable[..., dict[str, Any]]
) -> None:
    detail = tmp_path / "x_detail.txt"
    lines = [f"out/{row[0]}.png, (0, 0, 512, 512), {row[4]}, Yes" for row in ROWS]
    detail.write_text("\n".join(lines), encoding="utf-8")
    assert values(score(detail, protocol="corrected"))["score"] == 0.0


def test_a_second_answer_is_merged_or_refused(score: Callable[..., dict[str, Any]]) -> None:
    once, twice = score(answers()), score([*answers(), answers()[0]])
    assert twice["notes"]["merged_equal_rows"] == 1
    assert "merged_equal_rows" not in once["notes"]
    assert twice["figures"] == once["figures"]
    with pytest.raises(InputError, match=r"row 8: proposition 1 of a has two answers about image 0, yes and no"):
        score([*answers(), {**answers()[0], "answer": "no"}])
    two = answers(images=2)
    nameless = [{key: value for key, value in row.items() if key != "image"} for row in two]
    for without in ([{**row, "image": None} for row in two], nameless):
        with pytest.raises(InputError, match=r"row 8: proposition 1 of a has a second answer and no `image`; number"):
            score(without)
        assert score(without[: len(YES)])["figures"] == once["figures"]


@pytest.mark.parametrize("number", ["x", None, True, 1.5, [1], float("inf")])
def test_a_proposition_that_is_no_number_is_refused(score: Callable[..., dict[str, Any]], number: Any) -> None:
    rows = answers()
    rows[1]["proposition_id"] = number
    with pytest.raises(InputError, match=r"row 2: proposition_id is .*, expected a whole number"):
        score(rows)


def test_a_proposition_that_the_csv_does_not_have_is_refused(score: Callable[..., dict[str, Any]]) -> None:
    for protocol in ("official", "corrected"):
        with pytest.raises(InputError, match="row 8: proposition 9 of a, the CSV has 1, 2"):
            score([*answers(), {**answers()[0], "proposition_id": 9}], protocol=protocol)
