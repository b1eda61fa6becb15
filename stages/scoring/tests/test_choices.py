"""Benchmarks with choices by hand: how replies are read, and what the sums are."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from lavit_scoring.errors import InputError, UsageError
from lavit_scoring.letters import (
    bare_letter,
    exact,
    first_character,
    last_letter,
    letter_and_stop,
    llava_letter,
    only_letter,
)
from lavit_scoring.open_answers import answers_open

Score = Callable[..., dict[str, Any]]
CHOICES = ("a red dog", "a cat", "two birds", "none")


def values(result: dict[str, Any]) -> dict[str, float]:
    return {name: metric["value"] for name, metric in result["figures"].items()}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [  # A         "B."  " C "  "(D)" "b"   "A cat" "D. none" "The answer is C." "Apple" "E"
        (exact, ["A", None, None, None, None, None, None, None, None, None]),
        (first_character, ["A", "B", "C", None, "B", "A", "D", None, "A", None]),
        (bare_letter, ["A", "B", None, "D", "B", None, "D", None, None, None]),
        (letter_and_stop, ["A", "B", "C", None, "B", None, "D", None, None, None]),
        (llava_letter, ["A", None, "C", None, None, None, "D", "C", None, None]),
        (last_letter, ["A", "B", "C", "D", None, "A", "D", "C", None, None]),
        (only_letter, ["A", "B", "C", "D", None, "A", "D", "C", None, None]),
    ],
)
def test_each_rule_reads_the_same_replies_in_its_own_way(
    rule: Callable[[str, Sequence[str]], str | None], expected: list[str | None]
) -> None:
    replies = ["A", "B.", " C ", "(D)", "b", "A cat", "D. none", "The answer is C.", "Apple", "E"]
    assert [rule(reply, CHOICES) for reply in replies] == expected


def test_mmmu_takes_the_last_of_several_and_texts_of_long_replies_alone() -> None:
    assert last_letter("(A) is wrong, so it is (B)", CHOICES) == "B"
    assert last_letter("not B or A but C ", CHOICES) == "C"
    assert last_letter("two birds", CHOICES) is None
    assert last_letter("it may be a cat, but I think two birds", CHOICES) == "C"
    # `A ` of `VISA `: a letter before a space is enough to be a candidate.
    assert last_letter("VISA card", CHOICES) == "A"


def test_vlmevalkit_wants_one_letter_near_the_end_or_one_text() -> None:
    assert only_letter("A or B", CHOICES) is None
    assert only_letter("B because of the long tail that it has", CHOICES) is None
    assert only_letter("I see two birds", CHOICES) == "C"
    assert only_letter("neither two birds nor a cat", CHOICES) is None


@pytest.mark.parametrize(
    ("reply", "truths", "right"),
    [
        ("The answer is 8.", ["8"], True),
        ("It is 8.004", ["8.0"], True),
        ("1,000", ["1000"], True),
        ("x = 3", ["3"], True),
        ("therefore the cell wall", ["cell wall"], True),
        ("no idea", ["cell wall"], False),
        ("is it 7 or 9", ["8"], False),
        ("so b", ["b"], True),
        ("table", ["b"], False),
        ("it is green", ["red", "green"], True),
    ],
)
def test_open_answers(reply: str, truths: list[str], right: bool) -> None:
    assert answers_open(reply, truths) is right


SEED = {
    "question_type": {"Scene Understanding": 1, "Instance Counting": 5, "Action Recognition": 10},
    "questions": [
        {
            "question_id": str(number),
            "question_type_id": kind,
            "data_type": data,
            "data_id": f"i{number // 2}",
            "answer": answer,
            "question": "?",
            **dict(zip(("choice_a", "choice_b", "choice_c", "choice_d"), CHOICES, strict=True)),
        }
        for number, kind, data, answer in [
            (1, 1, "image", "A"),
            (2, 1, "image", "B"),
            (3, 5, "image", "C"),
            (4, 5, "image", "D"),
            (5, 10, "video", "A"),
        ]
    ],
}


def test_seed_bench_by_letters_and_by_likelihood(score: Score) -> None:
    replies = {1: "A", 2: "B. a cat", 3: "D", 4: "D"}
    said = [{"question_id": str(name), "prediction": text} for name, text in replies.items()]
    result = score("seed-image", said, SEED)
    assert values(result) == {
        "accuracy": 50.0,
        "accuracy.type.Instance Counting": 50.0,
        "accuracy.type.Scene Understanding": 50.0,
    }
    assert result["items"] == {**result["items"], "scored": 4, "expected": 4}  # the video is not asked
    unnamed = score("seed-image", said, {**SEED, "question_type": ["no names"]})
    assert values(unnamed) == {"accuracy": 50.0, "accuracy.type.1": 50.0, "accuracy.type.5": 50.0}
    assert result["notes"]["replies_without_a_letter"] == "1 of 4, counted as wrong"
    assert result["notes"]["guessing"].startswith("random guesses would add 6.25")
    assert values(score("seed-image", said, SEED, protocol="lmms-eval"))["accuracy"] == 75.0
    likelihoods = {1: [-1, -2, -3, -4], 2: [-9, -8, -7, -10], 3: [-4, -4, -1, -9], 4: [-1.5, -1.5, -1.5, -1.25]}
    scored = [{"question_id": str(name), "log_likelihoods": one} for name, one in likelihoods.items()]
    result = score("seed-image", scored, SEED)
    assert (values(result)["accuracy"], result["notes"]["by_likelihood"]) == (75.0, "4 of 4")
    with pytest.raises(InputError, match="question 1 has 2 log_likelihoods, expected 4, one for each"):
        score("seed-image", [{"question_id": "1", "log_likelihoods": [1, 2]}, *scored[1:]], SEED)
    with pytest.raises(InputError, match="1 of 4 questions have no result"):
        score("seed-image", said[:3], SEED)


MIXED = [
    {"id": "validation_Art_1", "question_type": "multiple-choice", "options": "['x', 'y']", "answer": "B"},
    {"id": "validation_Art_2", "question_type": "multiple-choice", "options": "['x', 'y']", "answer": "A"},
    {"id": "validation_Art_3", "question_type": "open", "options": "[]", "answer": "5"},
]
MIXED_RESULTS = [
    {"id": "validation_Art_1", "log_likelihoods": [-2, -1]},
    {"id": "validation_Art_2", "answer": "(A)"},
    {"id": "validation_Art_3", "answer": "5"},
]


def test_each_row_has_a_reply_or_likelihoods(score: Score) -> None:
    result = score("mmmu-val", MIXED_RESULTS, MIXED, protocol="lmms-eval")
    assert (values(result)["accuracy"], result["notes"]["by_likelihood"]) == (100.0, "1 of 3")
    result = score("mmmu-val", [*MIXED_RESULTS, *MIXED_RESULTS[:2]], MIXED, protocol="lmms-eval")
    assert (values(result)["accuracy"], result["notes"]["merged_equal_rows"]) == (100.0, 2)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "validation_Art_3", "log_likelihoods": []}, r"'validation_Art_3' is \[\], expected a list of numbers"),
        ({"id": "validation_Art_3", "log_likelihoods": [-1]}, "has 1 log_likelihoods, expected a reply: it has no cho"),
        ({"id": "validation_Art_1", "log_likelihoods": [-1, -2]}, r"two results, \[-2, -1\] and \[-1, -2\]; keep one"),
        ({"id": "validation_Art_1", "answer": "B"}, "question validation_Art_1 has a reply and log_likelihoods"),
        ({"log_likelihoods": [-1, -2]}, "row 4 has log_likelihoods, expected question_id"),
        ({"id": "other", "log_likelihoods": [-1] * 30}, "1 results belong to no question"),
    ],
)
def test_likelihoods_that_fit_no_question_are_named(score: Score, row: dict[str, Any], message: str) -> None:
    rows = [one for one in MIXED_RESULTS if one["id"] != "validation_Art_3" or row.get("id") != "validation_Art_3"]
    with pytest.raises(InputError, match=message):
        score("mmmu-val", [*rows, row], MIXED, protocol="lmms-eval")


def test_mmmu_by_hand(score: Score) -> None:
    rows = [
        ("validation_Art_1", "multiple-choice", "['x', 'y']", "B", "(B)"),
        ("validation_Art_2", "multiple-choice", "['x', 'y']", "A", "?"),
        ("validation_Art_Theory_1", "open", "[]", "['red', 'crimson']", "it is crimson"),
        ("validation_Math_1", "open", "[]", "12", "so 13"),
    ]
    truths = [dict(zip(("id", "question_type", "options", "answer"), row[:4], strict=True)) for row in rows]
    said = [{"id": row[0], "answer": row[4]} for row in rows]
    result = score("mmmu-val", said, truths, protocol="lmms-eval")
    assert values(result) == {
        "accuracy": 50.0,
        "accuracy.subject.Art": 50.0,
        "accuracy.subject.Art_Theory": 100.0,
        "accuracy.subject.Math": 0.0,
    }
    # One of four can't be read; a guess between two choices is right half the time.
    assert result["notes"]["guessing"].startswith("random guesses would add 12.50")
    with pytest.raises(UsageError, match="expected one of lmms-eval"):
        score("mmmu-val", said, truths)


def test_ai2d_and_scienceqa_by_hand(score: Score) -> None:
    rows = [{"id": name, "options": list(CHOICES), "answer": str(right)} for name, right in enumerate((0, 1, 2))]
    said = [{"id": 0, "text": "a."}, {"id": 1, "text": "B a cat"}, {"id": 2, "text": "C"}]
    assert values(score("ai2d", said, rows, protocol="lmms-eval")) == {"accuracy": 66.67}
    problem = {"choices": ["x", "y"], "subject": "natural science", "image": "image.png", "split": "test"}
    problems = {
        "4": {**problem, "answer": 0},
        "5": {**problem, "answer": 1},
        "6": {**problem, "answer": 1, "image": None},
        "7": {**problem, "answer": 1, "split": "train"},
    }
    said = [{"question_id": "4", "text": "The answer is A."}, {"question_id": "5", "text": "B. y"}]
    found = values(score("scienceqa-img", said, problems, protocol="llava"))
    assert found == {"accuracy": 100.0, "accuracy.subject.natural science": 100.0}
    assert values(score("scienceqa-img", said, problems, protocol="lmms-eval"))["accuracy"] == 50.0


def mmbench(path: Path, rows: list[tuple[Any, ...]]) -> Path:
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t")
    writer.writerows([("index", "question", "A", "B", "C", "D", "answer", "category", "l2-category"), *rows])
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def test_mmbench_counts_a_question_whose_rotations_are_all_right(tmp_path: Path, score: Score) -> None:
    rows = [
        (1, 'what "is" it', "x", "y", "", "", "A", "colour", "attribute"),
        (1_000_001, "what is it", "y", "x", "", "", "B", "colour", "attribute"),
        (2, "which", "x", "y", "z", "", "C", "place", "attribute"),
        (1_000_002, "which", "y", "z", "x", "", "B", "place", "attribute"),
        (2_000_002, "which", "z", "x", "y", "", "A", "place", "attribute"),
    ]
    file = mmbench(tmp_path / "dev.tsv", rows)
    said = {1: "A", 1_000_001: "(B)", 2: "C", 1_000_002: "B", 2_000_002: "B"}
    results = [{"index": name, "prediction": text} for name, text in said.items()]
    result = score("mmbench-dev", results, None, file=file, protocol="vlmevalkit")
    assert values(result) == {
        "accuracy": 50.0,
        "accuracy.category.colour": 100.0,
        "accuracy.category.place": 0.0,
        "accuracy.ability.attribute": 50.0,
        "vanilla": 80.0,
    }
    assert (result["items"]["scored"], result["items"]["expected"]) == (2, 2)
    part = score("mmbench-dev", results[:1], None, file=file, protocol="vlmevalkit", partial=True)
    assert part["skipped"]["accuracy"] == "no question has a result for each rotation of its choices"
    assert {name: metric["value"] for name, metric in part["partial"]["figures"].items()} == {"vanilla": 100.0}
    broken = mmbench(tmp_path / "broken.tsv", [rows[0], ("x", *rows[1][1:])])
    with pytest.raises(InputError, match=r'broken.tsv: row 2: index is "x", expected a whole number'):
        score("mmbench-dev", results, None, file=broken, protocol="vlmevalkit")
    twice = mmbench(tmp_path / "twice.tsv", [*rows, rows[0]])
    with pytest.raises(InputError, match=r"twice.tsv: row 6: index 1 occurs twice, expected each once"):
        score("mmbench-dev", results, None, file=twice, protocol="vlmevalkit")
    lacking = mmbench(tmp_path / "half.tsv", rows[:4])
    with pytest.raises(InputError, match="question 2 has 3 choices and 2 rotations, expected as many"):
        score("mmbench-dev", results[:4], None, file=lacking, protocol="vlmevalkit")


def test_textvqa_normalises_before_vqas_rules(score: Score) -> None:
    answers = ["1,000"] * 4 + ["nokia's"] * 6
    rows = [
        {"question_id": 1, "image_id": "a", "answers": answers},
        {"question_id": 2, "image_id": "b", "answers": ["The Stop"] * 10},
        {"question_id": 3, "image_id": "b", "answers": ["x"] * 2 + ["y"] * 8},
    ]
    said = [
        {"question_id": 1, "answer": "1000"},
        {"question_id": 2, "answer": "stop?"},
        {"question_id": 3, "answer": "x"},
    ]
    # Four of ten said 1000: each left out in turn, at least three others did. Two said x: 1/3 for both, 2/3 for the
    # eight others. Unanimous answers are normalised too.
    result = score("textvqa", said, {"data": rows})
    assert result["figures"]["accuracy"]["value"] == pytest.approx(
        100 * (2 + (2 * 1 / 3 + 8 * 2 / 3) / 10) / 3, abs=0.01
    )


def test_textvqa_takes_records_and_refuses_a_list_as_text(score: Score) -> None:
    row = {"question_id": 1, "image_id": "a", "answers": ["nokia"] * 7 + ["phone"] * 3}
    records = {**row, "answers": [{"answer": text} for text in row["answers"]]}
    said = [{"question_id": 1, "answer": "phone"}]
    assert score("textvqa", said, {"data": [records]})["figures"] == score("textvqa", said, {"data": [row]})["figures"]
    for wrong in ("['nokia', 'nokia']", [5], [["nokia"]], {"answer": "nokia"}):
        with pytest.raises(InputError, match=r"row 1: answers is .*, expected a list of texts or {answer}"):
            score("textvqa", said, {"data": [{**row, "answers": wrong}]})
    with pytest.raises(InputError, match=r'row 1: image_id is \["a"\], expected a number or text'):
        score("textvqa", said, {"data": [{**row, "image_id": ["a"]}]})


AI2D = {"id": "1", "options": ["x", "y"], "answer": "1"}
SCIENCE = {"choices": ["x", "y"], "answer": 1, "image": "image.png", "split": "test"}


@pytest.mark.parametrize(
    ("name", "protocol", "annotations", "message"),
    [
        ("ai2d", "lmms-eval", [{**AI2D, "answer": "A"}], 'row 1: answer of question 1 is "A", expected 0 to 1'),
        ("ai2d", "lmms-eval", [AI2D, {**AI2D, "answer": 2}], "row 2: answer of question 1 is 2, expected 0 to 1"),
        ("ai2d", "lmms-eval", [{**AI2D, "options": "x|y"}], r'row 1: options of question 1 is "x\|y", expected a list'),
        ("scienceqa-img", "llava", {"4": {**SCIENCE, "answer": "B"}}, 'row 1: answer of question 4 is "B", expected 0'),
        ("mmmu-val", "lmms-eval", [{**MIXED[0], "options": "a|b"}], r'row 1: options is "a\|b", expected a list'),
        ("mmmu-val", "lmms-eval", [{**MIXED[2], "answer": "[0, 1)"}], r'row 1: answer is "\[0, 1\)", expected a list'),
        ("mmmu-val", "lmms-eval", [{**MIXED[2], "answer": 5}], "row 1: answer is 5, expected a list of texts"),
        (
            "seed-image", "official",
            {"questions": [{key: text for key, text in SEED["questions"][0].items() if key != "choice_b"}]},
            "row 1: the question is .*, expected a text under choice_b",
        ),
        ("seed-image", "official", {"questions": [SEED["questions"][0]] * 2}, "row 2: question_id 1 occurs twice, exp"),
        ("mmmu-val", "lmms-eval", MIXED[:1] * 2, "row 2: id validation_Art_1 occurs twice, expected each once"),
        ("ai2d", "lmms-eval", [AI2D, AI2D], "row 2: id 1 occurs twice, expected each once"),
        (
            "seed-image", "official", {"questions": [{**SEED["questions"][0], "data_id": ["i0"]}]},
            r'row 1: data_id is \["i0"\], expected a number or text',
        ),
        (
            "seed-image", "official", {"questions": [{**SEED["questions"][0], "answer": None}]},
            "the answer of question 1 is null, expected A to D; the answers of test splits are not published",
        ),
        ("mmmu-val", "lmms-eval", [{**MIXED[0], "answer": "?"}], 'the answer of question .* is "\\?", expected A to '),
        ("mmmu-val", "lmms-eval", [{**MIXED[2], "answer": "?"}], 'the answer of question .* is "\\?", expected a text'),
        ("ai2d", "lmms-eval", [{**AI2D, "id": [1]}], r"row 1: id is \[1\], expected a number or text"),
    ],
)  # fmt: skip
def test_a_damaged_question_is_named(score: Score, name: str, protocol: str, annotations: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"annotations.json: {message}"):
        score(name, [{"question_id": "1", "answer": "A"}], annotations, protocol=protocol)


def test_damaged_files_are_named(score: Score) -> None:
    for name, content, message in (
        ("seed-image", {"questions": []}, "no questions, expected rows with question_id"),
        ("seed-image", {"questions": [{"question_id": 1}]}, "row 1 is .*, expected question_id, answer"),
        ("scienceqa-img", [], "expected ScienceQA's problems.json"),
        ("textvqa", {"data": [{"question_id": 1}]}, "expected question_id, image_id and answers"),
    ):
        protocol = {"scienceqa-img": "llava"}.get(name, "official")
        with pytest.raises(InputError, match=message):
            score(name, [{"question_id": 1, "answer": "A"}], content, protocol=protocol)
