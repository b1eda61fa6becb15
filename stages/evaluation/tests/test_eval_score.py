"""`lavit eval score` on files as they are downloaded: figures, refusals that name ids, what is marked partial."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lavit_evaluation.cli import evaluate
from lavit_scoring.errors import InputError, ScoringError, UsageError
from typer.testing import CliRunner

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


def put(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def run(*options: str | Path) -> dict[str, Any]:
    done = CliRunner().invoke(evaluate, ["score", *map(str, options), "--json"])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


@pytest.fixture
def vqa(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def score(answers: Any = ANSWERS, *options: str | Path, truth: Any = VQA, name: str = "vqav2") -> dict[str, Any]:
        annotations, results = put(tmp_path / "annotations.json", truth), put(tmp_path / "results.json", answers)
        return run(name, "--results", results, "--annotations", annotations, *options)

    return score


def test_vqav2_by_hand(vqa: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    questions = put(tmp_path / "questions.json", QUESTIONS)
    result = vqa(ANSWERS, "--questions", questions, "--out", tmp_path / "out")
    values = {name: figure["value"] for name, figure in result["figures"].items()}
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


def test_lavit_protocol_needs_to_know_the_lemmas(vqa: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(UsageError, match="say where they come from: --lemmatizer given"):
        vqa(ANSWERS, "--protocol", "lavit")
    result = vqa(ANSWERS, "--protocol", "lavit", "--lemmatizer", "rules")
    assert result["lemmatizer"] == "rules-1"
    assert result["figures"]["accuracy"]["value"] == 97.5  # dogs is dog now
    with pytest.raises(UsageError, match="under --protocol official has no lemmas"):
        vqa(ANSWERS, "--lemmatizer", "rules")
    with pytest.raises(InputError, match="no such directory, expected given, rules or a spaCy model"):
        vqa(ANSWERS, "--protocol", "lavit", "--lemmatizer", "nowhere")


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
def test_ids_that_do_not_fit_are_named(vqa: Callable[..., dict[str, Any]], answers: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        vqa(answers)


def test_equal_rows_are_merged_and_counted(vqa: Callable[..., dict[str, Any]]) -> None:
    result = vqa([*ANSWERS, ANSWERS[0]])
    assert result["notes"]["merged_equal_rows"] == 1
    assert result["figures"]["accuracy"]["value"] == 80.0


def test_order_of_rows_does_not_matter(vqa: Callable[..., dict[str, Any]]) -> None:
    assert vqa(ANSWERS[::-1])["figures"] == vqa(ANSWERS)["figures"]


def test_partial_results_never_look_whole(vqa: Callable[..., dict[str, Any]]) -> None:
    result = vqa(ANSWERS[:2], "--partial")
    assert result["figures"] == {}
    assert result["complete"] is False
    assert (result["partial"]["scored"], result["partial"]["expected"]) == (2, 4)
    assert result["partial"]["figures"]["accuracy"]["value"] == 95.0


def test_questions_that_do_not_fit_the_annotations(vqa: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    questions = put(tmp_path / "questions.json", {"questions": QUESTIONS["questions"][:3]})
    with pytest.raises(InputError, match=r"1 questions of .* are missing, say 13"):
        vqa(ANSWERS, "--questions", questions)


def test_okvqa_names_its_question_types(vqa: Callable[..., dict[str, Any]]) -> None:
    truth = {**VQA, "question_types": {"what": "Vehicles and Transportation"}}
    result = vqa(ANSWERS, truth=truth, name="okvqa")
    assert result["figures"]["accuracy.question_type.Vehicles and Transportation"]["value"] == 80.0


def test_answers_without_id_are_left_out_together(vqa: Callable[..., dict[str, Any]]) -> None:
    bare = {
        "annotations": [
            {**row, "answers": [{"answer": one["answer"]} for one in row["answers"]]} for row in VQA["annotations"]
        ]
    }
    result = vqa(ANSWERS, truth=bare)
    assert result["figures"]["accuracy.answer_type.yes/no"]["value"] == 0.0
    assert "left out together" in result["notes"]["answers_without_id"]


def test_vizwiz_and_answerability(tmp_path: Path) -> None:
    rows = [
        {
            "image": f"VizWiz_val_{n}.jpg",
            "question": "?",
            "answerable": n % 2,
            "answer_type": "other" if n % 2 else "unanswerable",
            "answers": [{"answer": "can" if n % 2 else "unanswerable", "answer_confidence": "yes"}] * 10,
        }
        for n in range(4)
    ]
    truth = put(tmp_path / "val.json", rows)
    said = put(tmp_path / "said.json", [{"image": row["image"], "answer": "can"} for row in rows])
    result = run("vizwiz", "--results", said, "--annotations", truth)
    assert result["figures"]["accuracy"]["value"] == 50.0  # people count by place although their records are equal
    assert result["figures"]["accuracy.answer_type.other"]["value"] == 100.0
    assert 0 < result["figures"]["as_caption.bleu_1"]["value"] < 1
    sure = [{"image": row["image"], "answerable": [0.9, 0.8, 0.2, 0.7][n]} for n, row in enumerate(rows)]
    result = run("vizwiz-answerability", "--results", put(tmp_path / "sure.json", sure), "--annotations", truth)
    # Unanswerable are 0 and 2; sorted by 1 - answerable: 2 (hit), 3, 1, 0 (hit): 0.5 x 1 + 0.5 x 2/4.
    assert result["figures"]["average_precision"]["value"] == 75.0
    assert result["figures"]["f1"]["value"] == pytest.approx(66.67)  # 2 is claimed, 0 is missed


GQA = {
    "1": {"question": "Is it red?", "imageId": "a", "answer": "yes", "isBalanced": True, "entailed": ["2"],
          "types": {"structural": "verify", "semantic": "attr", "detailed": "x"}, "groups": {"global": None},
          "semantic": [{"operation": "select", "argument": "car"}, {"operation": "exist", "argument": "?"}]},
    "2": {"question": "What color is it?", "imageId": "a", "answer": "red", "isBalanced": True, "entailed": [],
          "types": {"structural": "query", "semantic": "attr", "detailed": "x"}, "groups": {"global": "color"},
          "semantic": [{"operation": "select", "argument": "car"}]},
    "3": {"question": "What color is that?", "imageId": "b", "answer": "blue", "isBalanced": True, "entailed": [],
          "types": {"structural": "query", "semantic": "attr", "detailed": "Common"}, "groups": {"global": "color"},
          "semantic": [{"operation": "select", "argument": "car"}]},
    "4": {"question": "Left out", "imageId": "b", "answer": "no", "isBalanced": False},
}  # fmt: skip


def test_gqa(tmp_path: Path) -> None:
    truth = put(tmp_path / "q.json", GQA)
    said = [{"questionId": name, "prediction": text} for name, text in {"1": "yes", "2": "red", "3": "Red"}.items()]
    said.append({"questionId": "77", "prediction": "another split's"})
    results = put(tmp_path / "said.json", said)
    choices = put(tmp_path / "c.json", {name: {"valid": ["yes", "red"], "plausible": ["red"]} for name in "123"})
    result = run("gqa", "--results", results, "--annotations", truth, "--choices", choices)
    values = {name: figure["value"] for name, figure in result["figures"].items()}
    assert (values["accuracy"], values["accuracy.binary"], values["accuracy.open"]) == (66.67, 100.0, 50.0)
    assert values["accuracy.steps.01"] == 66.67  # "exist" is no step
    assert values["consistency"] == 100.0
    # A "Common" question is answered by color, material or shape whatever its choices say.
    assert (values["validity"], values["plausibility"]) == (66.67, 33.33)
    # Group color: gold red 1, blue 1; said red 1, Red 1: (0 + 1) x 2 / 2 / 100, two decimals.
    assert values["distribution"] == 0.01
    assert result["notes"]["ignored_extra_results"] == 1
    assert "attention maps" in result["skipped"]["grounding"]
    result = run("gqa", "--results", results, "--annotations", truth, "--protocol", "lavit", "--lemmatizer", "given")
    assert result["figures"]["accuracy"]["value"] == 66.67
    assert "consistency" not in result["figures"]
    assert "validity" in run("gqa", "--results", results, "--annotations", truth)["skipped"]


COCO = {
    "images": [
        {"id": n, "file_name": f"COCO_val2014_{n:012d}.jpg", "domain": "in" if n < 2 else "out"} for n in range(4)
    ],
    "annotations": [
        {"image_id": n, "caption": text}
        for n in range(4)
        for text in (f"a dog number {n} runs", "two \u2028 dogs run .")
    ],
}
CAPTIONS = [{"image_id": n, "caption": f"a dog number {n}\u2028runs"} for n in range(4)]


@pytest.mark.parametrize("layout", ["coco", "karpathy", "lavis", "jsonl"])
def test_reference_layouts_give_the_same_figures(tmp_path: Path, layout: str) -> None:
    texts = {n: [row["caption"] for row in COCO["annotations"] if row["image_id"] == n] for n in range(4)}
    files = {row["id"]: row["file_name"] for row in COCO["images"]}
    rows = {
        "coco": COCO,
        "karpathy": {
            "images": [
                {"cocoid": n, "split": "test", "filename": files[n], "sentences": [{"raw": text} for text in texts[n]]}
                for n in range(4)
            ]
            + [{"cocoid": 9, "split": "train", "filename": "x.jpg", "sentences": [{"raw": "x"}]}]
        },
        "lavis": [{"image": f"val2014/{files[n]}", "caption": texts[n]} for n in range(4)],
    }
    if layout == "jsonl":
        truth = tmp_path / "captions.jsonl"
        lines = [json.dumps({"file_name": str(n), "captions": texts[n]}) for n in range(4)]
        truth.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        truth = put(tmp_path / "truth.json", rows[layout])
    result = run("coco-caption", "--results", put(tmp_path / "said.json", CAPTIONS), "--annotations", truth)
    assert result["figures"]["bleu_4"]["value"] == pytest.approx(1.0)
    assert result["notes"]["captions_with_line_separators"] == 4
    assert "--java" in result["skipped"]["meteor"]
    assert ("cider.out" in result["figures"]) == (layout == "coco")
    if layout != "coco":
        other = run(
            "coco-caption", "--results", tmp_path / "said.json", "--annotations", put(tmp_path / "c.json", COCO)
        )
        assert result["figures"]["cider"] == other["figures"]["cider"]


def test_captions_that_do_not_fit(tmp_path: Path) -> None:
    truth = put(tmp_path / "truth.json", COCO)
    with pytest.raises(InputError, match=r"1 of 4 pictures have no result \(3\)"):
        run("coco-caption", "--results", put(tmp_path / "a.json", CAPTIONS[:3]), "--annotations", truth)
    more = put(tmp_path / "b.json", [*CAPTIONS, {"image_id": 77, "caption": "x"}])
    with pytest.raises(InputError, match=r"belong to no picture of .*\(77\)"):
        run("coco-caption", "--results", more, "--annotations", truth)
    karpathy = {"images": [{"cocoid": 1, "split": "test", "sentences": [{"raw": "x"}]}]}
    with pytest.raises(InputError, match="no split 'val', expected one of test"):
        run("coco-caption", "--results", tmp_path / "a.json", "--split", "val", "--annotations",
            put(tmp_path / "k.json", karpathy))  # fmt: skip
    with pytest.raises(UsageError, match=r"--split val: .*truth\.json holds one split, and only Karpathy's files"):
        run("coco-caption", "--results", tmp_path / "a.json", "--split", "val", "--annotations", truth)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        (["vqav3"], UsageError, "no such benchmark, expected one of vqav2, okvqa"),
        (["vqav2", "--protocol", "mine"], UsageError, "expected one of official, lavit"),
        (["vqav2", "--java"], UsageError, "METEOR and SPICE belong to captions"),
        (["vqav2", "--choices", "c"], UsageError, "GQA has"),
        (["vqav2", "--split", "test"], UsageError, "splits in files of their own"),
        (["vqav2"], InputError, "file not found, expected a file"),
    ],
)
def test_what_cannot_be_scored_is_said_first(
    tmp_path: Path, options: list[str], kind: type[ScoringError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        run(*options, "--results", tmp_path / "none.json", "--annotations", tmp_path / "none.json")


def test_list_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "vqa").mkdir()
    put(tmp_path / "vqa" / "v2_mscoco_val2014_annotations.json", VQA)
    done = CliRunner().invoke(evaluate, ["list", "--data", str(tmp_path), "--json"])
    rows = {row["benchmark"]: row for row in json.loads(done.stdout)["benchmarks"]}
    assert rows["vqav2"]["found"]["annotations"].endswith("vqa/v2_mscoco_val2014_annotations.json")
    assert rows["vqav2"]["found"]["images"] is None
    assert rows["gqa"]["source"].startswith("https://")
    shown = CliRunner().invoke(evaluate, ["list"]).stdout
    assert "nocaps_val_4500_captions.json" in shown
    (tmp_path / "copy").mkdir()
    put(tmp_path / "copy" / "v2_mscoco_val2014_annotations.json", VQA)
    assert "expected one place" in str(CliRunner().invoke(evaluate, ["list", "--data", str(tmp_path)]).exception)


def test_table_says_partial_first(tmp_path: Path) -> None:
    truth, said = put(tmp_path / "t.json", VQA), put(tmp_path / "s.json", ANSWERS[:2])
    line = ["score", "vqav2", "--results", str(said), "--annotations", str(truth), "--partial"]
    shown = CliRunner().invoke(evaluate, line).stdout
    assert "PARTIAL: 2 of 4 items. Not a score of vqav2." in shown
    assert "not measured here: accuracy 66.0 / 68.2 / 68.3" in shown


def test_scoring_imports_no_torch(tmp_path: Path) -> None:
    truth, said = put(tmp_path / "t.json", VQA), put(tmp_path / "s.json", ANSWERS)
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom lavit_evaluation.cli import evaluate\n"
        f"line = ['score', 'vqav2', '--results', {str(said)!r}, '--annotations', {str(truth)!r}]\n"
        "done = CliRunner().invoke(evaluate, line)\nassert done.exit_code == 0, done.exception\n"
        "assert not {'torch', 'transformers', 'spacy', 'pycocoevalcap'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
