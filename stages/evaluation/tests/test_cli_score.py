"""`lavit eval score`, `list` and `compare` hand their options over; no torch is imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from lavit_evaluation.cli import evaluate
from lavit_scoring.errors import UsageError
from typer.testing import CliRunner

VQA = {
    "annotations": [
        {"question_id": n, "image_id": 1, "answers": [{"answer": "dogs", "answer_id": i} for i in range(10)]}
        for n in range(4)
    ]
}
QUESTIONS = {"questions": [{"question_id": n, "image_id": 1, "question": "what?"} for n in range(4)]}


@pytest.fixture
def line(tmp_path: Path) -> list[str]:
    """Write files and give the command that scores them."""
    answers = [{"question_id": n, "answer": "dog"} for n in range(4)]
    for name, content in {"t": VQA, "s": answers, "q": QUESTIONS, "some": answers[:2]}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return ["score", "vqav2", "--results", str(tmp_path / "s.json"), "--annotations", str(tmp_path / "t.json")]


def test_options_reach_the_score(line: list[str], tmp_path: Path) -> None:
    more = ["--questions", str(tmp_path / "q.json"), "--protocol", "lavit", "--lemmatizer", "rules", "--seed", "5"]
    done = CliRunner().invoke(evaluate, [*line, *more, "--out", str(tmp_path / "o"), "--json"])
    result = json.loads(done.stdout)
    assert result["figures"]["accuracy"]["value"] == 100.0  # "dogs" is "dog" under the rules
    assert (result["lemmatizer"], result["settings"]["seed"]) == ("rules-1", 5)
    assert set(result["inputs"]) == {"results", "annotations", "questions"}
    assert json.loads((tmp_path / "o" / "score.json").read_text()) == result


def test_a_table_is_printed(line: list[str], tmp_path: Path) -> None:
    line[line.index(str(tmp_path / "s.json"))] = str(tmp_path / "some.json")
    shown = CliRunner().invoke(evaluate, [*line, "--partial"]).stdout
    assert "PARTIAL: 2 of 4 items. Not a score of vqav2." in shown
    assert "not measured here: accuracy 66.0 / 68.2 / 68.3" in shown


def test_the_list_as_json_and_as_text(tmp_path: Path) -> None:
    (tmp_path / "v2_mscoco_val2014_annotations.json").write_text("{}")
    done = CliRunner().invoke(evaluate, ["list", "--data", str(tmp_path), "--json"])
    rows = {row["benchmark"]: row for row in json.loads(done.stdout)["benchmarks"]}
    assert rows["vqav2"]["found"]["annotations"].endswith("v2_mscoco_val2014_annotations.json")
    assert "nocaps_val_4500_captions.json" in CliRunner().invoke(evaluate, ["list"]).stdout


def test_scores_are_compared(line: list[str], tmp_path: Path) -> None:
    for name in ("one", "two"):
        CliRunner().invoke(evaluate, [*line, "--out", str(tmp_path / name)])
    runs = [str(tmp_path / "one"), str(tmp_path / "two")]
    assert json.loads(CliRunner().invoke(evaluate, ["compare", *runs, "--json"]).stdout)["not_comparable"] == []
    assert "[2] - [1], item by item" in CliRunner().invoke(evaluate, ["compare", *runs]).stdout


def test_a_dry_run_checks_and_scores_nothing(line: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(evaluate, [*line, "--dry-run", "--out", str(tmp_path / "o"), "--json"])
    assert json.loads(done.stdout)["benchmark"] == "vqav2"
    assert not (tmp_path / "o").exists()
    with pytest.raises(UsageError, match="METEOR and SPICE belong to captions"):
        CliRunner().invoke(evaluate, [*line, "--dry-run", "--java"], catch_exceptions=False)


def test_options_of_edited_images_are_refused_for_result_files(line: list[str]) -> None:
    for option in (["--set", "size=64"], ["--clip-model", "nowhere"], ["--print-config"]):
        done = CliRunner().invoke(evaluate, [*line, *option])
        named = "--clip-model" if option[0] == "--clip" else option[0]  # an old name is a warning, then the new one
        assert str(done.exception) == f"{named}: vqav2 has no edited images; magicbrush and ma5k have"


def test_scoring_imports_no_torch(line: list[str]) -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom lavit_evaluation.cli import evaluate\n"
        f"done = CliRunner().invoke(evaluate, {line!r})\nassert done.exit_code == 0, done.exception\n"
        "assert not {'torch', 'transformers', 'spacy', 'pycocoevalcap'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
