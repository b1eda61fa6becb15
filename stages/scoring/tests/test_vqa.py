"""VQAv2 and OK-VQA on files as they are downloaded: metrics, refusals that name ids, what is marked partial."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lavit_scoring.errors import InputError, UsageError

VQA = {
    "annotations": [
        {
            "question_id": 10 + n,
            "image_id": 100 + n // 2,
            "question_type": "what",
            "answer_type": kind,
            "answers": [
                {"answer": answer, "answer_confidence": "yes", "answer_id": i + 1} for i, answer in enumerate(ten)
            ],
        }
        for n, (kind, ten) in enumerate(
            [
                ("yes/no", ["yes"] * 10),
                ("number", ["2"] * 3 + ["3"] * 7),
                ("other", ["T-shirt"] * 5 + ["shirt"] * 5),
                ("other", ["dog"] * 9 + ["dogs"]),
            ]
        )
    ]
}
ANSWERS = [
    {"question_id": 10, "answer": "yes"},
    {"question_id": 11, "answer": "two"},
    {"question_id": 12, "answer": "t-shirt"},
    {"question_id": 13, "answer": "dogs"},
]
QUESTIONS = {"questions": [{"question_id": 10 + n, "image_id": 100 + n // 2, "question": "what?"} for n in range(4)]}


Score = Callable[..., dict[str, Any]]


@pytest.fixture
def vqa(score: Score) -> Score:
    """Give a function that scores answers to the four questions."""

    def run(answers: Any = ANSWERS, truth: Any = VQA, name: str = "vqav2", **options: Any) -> dict[str, Any]:
        return score(name, answers, truth, **options)

    return run


def test_vqav2_by_hand(vqa: Score, tmp_path: Path) -> None:
    result = vqa(ANSWERS, questions=QUESTIONS, out=tmp_path / "out")
    values = {name: metric["value"] for name, metric in result["figures"].items()}
    # 1, 0.9, 1 and 0.3 (each lone "dogs" is matched by nine of ten people's leave-one-outs, 1/3 each).
    assert values == {
        "accuracy": 80.0,
        "accuracy.answer_type.number": 90.0,
        "accuracy.answer_type.other": 65.0,
        "accuracy.answer_type.yes/no": 100.0,
        "accuracy.question_type.what": 80.0,
    }
    assert result["protocol"] == {"name": "official", "version": 1}
    assert (result["complete"], result["items"]["scored"], result["items"]["expected"]) == (True, 4, 4)
    assert set(result["inputs"]) == {"results", "annotations", "questions"}
    assert json.loads((tmp_path / "out" / "score.json").read_text()) == result
    rows = [json.loads(line) for line in (tmp_path / "out" / "items.jsonl").read_text().splitlines()]
    assert rows[1] == {"id": 11, "image": 100, "accuracy": pytest.approx(0.9)}


def test_lavit_protocol_needs_to_know_the_lemmas(vqa: Score) -> None:
    with pytest.raises(UsageError, match="say where they come from: --lemmatizer given"):
        vqa(ANSWERS, protocol="lavit")
    result = vqa(ANSWERS, protocol="lavit", lemmatizer="rules")
    assert result["lemmatizer"] == "rules-1"
    assert result["figures"]["accuracy"]["value"] == 97.5  # dogs is dog now
    with pytest.raises(UsageError, match="under --protocol official has no lemmas"):
        vqa(ANSWERS, lemmatizer="rules")
    with pytest.raises(InputError, match="no such directory, expected given, rules or a spaCy model"):
        vqa(ANSWERS, protocol="lavit", lemmatizer="nowhere")


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (ANSWERS[:3], r"1 of 4 questions have no result \(13\); add them, or score what is there with --partial"),
        ([*ANSWERS, {"question_id": 99, "answer": "x"}], r"1 results belong to no question of .*\(99\)"),
        ([*ANSWERS, {"question_id": 10, "answer": "no"}], r'question_id 10 has two results, "yes" and "no"; keep one'),
        ([{**one, "question_id": str(one["question_id"])} for one in ANSWERS], r"is '10' \(str\), expected 10 \(int\)"),
        ([{"question_id": 10, "answer": None}], "answer of question_id 10 is null, expected text"),
        ([{"question_id": 10, "caption": "x"}], "row 1 has question_id, caption, expected answer"),
        ([{"answer": "x"}], "row 1 has answer, expected question_id"),
        (["yes"], 'row 1 is "yes", expected an object'),
        ({"a": 1}, "found dict, expected a JSON array"),
        ([], "4 of 4 questions have no result|none of its"),
    ],
)
def test_ids_that_do_not_fit_are_named(vqa: Score, answers: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        vqa(answers)


def test_equal_rows_are_merged_and_counted(vqa: Score) -> None:
    result = vqa([*ANSWERS, ANSWERS[0]])
    assert result["notes"]["merged_equal_rows"] == 1
    assert result["figures"]["accuracy"]["value"] == 80.0


def test_order_of_rows_does_not_matter(vqa: Score) -> None:
    assert vqa(ANSWERS[::-1])["figures"] == vqa(ANSWERS)["figures"]


def test_annotations_without_questions_are_refused(vqa: Score) -> None:
    with pytest.raises(InputError, match=r"annotations.json: no annotations, expected a list `annotations`"):
        vqa([], truth={"annotations": []})


@pytest.mark.parametrize("column", ["question_id", "image_id", "question_type", "answer_type"])
def test_a_column_that_is_a_list_is_named(vqa: Score, column: str) -> None:
    rows = [{**VQA["annotations"][0], column: [10]}, *VQA["annotations"][1:]]
    with pytest.raises(
        InputError, match=rf"annotations.json: {column} of question .* is \[10\], expected a number or text"
    ):
        vqa(truth={"annotations": rows})


def test_partial_results_never_look_whole(vqa: Score) -> None:
    result = vqa(ANSWERS[:2], partial=True)
    assert result["figures"] == {}
    assert result["complete"] is False
    assert (result["partial"]["scored"], result["partial"]["expected"]) == (2, 4)
    assert result["partial"]["figures"]["accuracy"]["value"] == 95.0


def test_questions_that_do_not_match_the_annotations(vqa: Score) -> None:
    with pytest.raises(InputError, match=r"1 questions of .* are missing, say 13"):
        vqa(ANSWERS, questions={"questions": QUESTIONS["questions"][:3]})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"question_id": 10}, "row 2: question_id 10 occurs twice, expected each once"),
        ({"question_id": [11]}, r"row 2: question_id is \[11\], expected a number or text"),
        ({"question": 5}, "row 2: question is 5, expected text"),
    ],
)
def test_a_damaged_question_is_named(vqa: Score, changes: dict[str, Any], words: str) -> None:
    rows = [*QUESTIONS["questions"]]
    rows[1] = {**rows[1], **changes}
    with pytest.raises(InputError, match=f"questions.json: {words}"):
        vqa(ANSWERS, questions={"questions": rows})


def test_okvqa_names_its_question_types(vqa: Score) -> None:
    truth = {**VQA, "question_types": {"what": "Vehicles and Transportation"}}
    result = vqa(ANSWERS, truth=truth, name="okvqa")
    assert result["figures"]["accuracy.question_type.Vehicles and Transportation"]["value"] == 80.0


def test_answers_without_id_are_left_out_together(vqa: Score) -> None:
    bare = {
        "annotations": [
            {**row, "answers": [{"answer": one["answer"]} for one in row["answers"]]} for row in VQA["annotations"]
        ]
    }
    result = vqa(ANSWERS, truth=bare)
    assert result["figures"]["accuracy.answer_type.yes/no"]["value"] == 0.0
    assert "left out together" in result["notes"]["answers_without_id"]
