"""An evaluation from open to finish: what is kept, and what a finished run answers."""

import json
from pathlib import Path

import pytest
from lavit_core.errors import UsageError
from lavit_evaluation.evaluation_session import evaluation_session, is_finished

RECORD = {"command": "eval x", "settings": {"seed": 0}, "inputs": {"data": "0"}, "quiet": True}
SCORE = {"figures": {"accuracy": 1.0}}


def ask(out: Path | None, asked: list[int], deadline: int = 10**9) -> list[dict]:
    def answer(batch: list[int]) -> list[dict]:
        if len(asked) >= deadline:
            raise KeyboardInterrupt
        asked.extend(batch)
        return [{"answer": 2 * one} for one in batch]

    with evaluation_session(out, **RECORD) as session:
        items = {number: number for number in range(5)}
        return list(session.ask(items, answer, session.row_store("twice"), batch_size=2, unit="number"))


def test_killed_and_resumed_asks_nothing_twice(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(tmp_path, [], deadline=2)
    asked: list[int] = []
    assert [row["answer"] for row in ask(tmp_path, asked)] == [0, 2, 4, 6, 8]
    assert asked == [2, 3, 4]


def test_without_a_directory_nothing_is_kept() -> None:
    asked: list[int] = []
    assert [row["answer"] for row in ask(None, asked)] == [0, 2, 4, 6, 8]
    assert len(asked) == 5
    with evaluation_session(None, **RECORD) as session:
        assert session.finished is None
        assert session.finish(SCORE) == SCORE


def test_a_finished_run_has_its_result_and_no_unfinished_answers(tmp_path: Path) -> None:
    ask(tmp_path, [])
    assert (tmp_path / "unfinished").exists()
    assert not is_finished(tmp_path)
    with evaluation_session(tmp_path, **RECORD) as session:
        assert session.finished is None
        session.finish(SCORE)
    assert is_finished(tmp_path)
    assert not (tmp_path / "unfinished").exists()
    (tmp_path / "score.json").unlink()
    with evaluation_session(tmp_path, **RECORD) as session:
        assert session.finished == SCORE
    assert json.loads((tmp_path / "score.json").read_text()) == SCORE
    with (
        pytest.raises(UsageError, match=r"started with config\.seed = 0, now it is 1"),
        evaluation_session(tmp_path, **RECORD | {"settings": {"seed": 1}}),
    ):
        pass


def test_what_is_no_score_is_not_written_as_one(tmp_path: Path) -> None:
    with evaluation_session(tmp_path, **RECORD) as session:
        session.finish({"statistics": "s"})
    with evaluation_session(tmp_path, **RECORD) as session:
        assert session.finished == {"statistics": "s"}
    assert not (tmp_path / "score.json").exists()


def test_a_run_begun_under_the_command_s_former_name_goes_on(tmp_path: Path) -> None:
    ask(tmp_path, [])
    renamed = {**RECORD, "command": "eval y"}
    with pytest.raises(UsageError, match="started with command = 'eval x'"), evaluation_session(tmp_path, **renamed):
        pass
    with evaluation_session(tmp_path, **renamed, formerly="eval x") as session:
        assert session.finish(SCORE) == SCORE
    with evaluation_session(tmp_path / "new", **renamed, formerly="eval x") as session:
        session.finish(SCORE)
    assert (tmp_path / "new" / "config.yaml").read_text().startswith("command: eval y\n")
