"""`python -m lavit_scoring`: the same score as a command, with exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lavit_scoring.__main__ import main

TRUTH = {"annotations": [{"question_id": 1, "image_id": 1, "answers": [{"answer": "yes", "answer_id": 1}]}]}


def test_a_score_as_json_and_as_a_table(
    put: Callable[[str, Any], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, truth = put("r.json", [{"question_id": 1, "answer": "no"}]), put("t.json", TRUTH)
    line = [
        "okvqa",
        "--results",
        str(results),
        "--annotations",
        str(truth),
        "--seed",
        "3",
        "--out",
        str(tmp_path / "o"),
    ]
    assert main([*line, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads((tmp_path / "o" / "score.json").read_text())
    assert shown["settings"]["seed"] == 3
    assert main(line) == 0
    assert capsys.readouterr().out.startswith("okvqa, protocol official (version 1)\n")


def test_an_error_is_one_line_and_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = str(tmp_path / "none.json")
    assert main(["okvqa", "--results", nothing, "--annotations", nothing]) == 3
    assert capsys.readouterr().err == f"error: --results {nothing}: file not found, expected a file\n"
    assert main(["none", "--results", nothing, "--annotations", nothing]) == 2
