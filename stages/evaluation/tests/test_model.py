"""Records of how a model works: made once, and read under the names of earlier releases."""

import json
from pathlib import Path

import pytest
from lavit_evaluation.model import DECODING_FILE, DRAWING_FILE, OLD_NAMES, keep_record


def never() -> dict:
    raise AssertionError("a record is made once")


@pytest.mark.parametrize("name", [DRAWING_FILE, DECODING_FILE])
def test_a_record_is_made_once(tmp_path: Path, name: str) -> None:
    assert keep_record(tmp_path, name, lambda: {"precision": "fp32"}) == {"precision": "fp32"}
    assert keep_record(tmp_path, name, never) == {"precision": "fp32"}


@pytest.mark.parametrize("name", [DRAWING_FILE, DECODING_FILE])
def test_a_run_of_an_earlier_release_goes_on(tmp_path: Path, name: str) -> None:
    (tmp_path / OLD_NAMES[name]).write_text(json.dumps({"precision": "bf16"}))
    assert keep_record(tmp_path, name, never) == {"precision": "bf16"}
    assert not (tmp_path / name).exists()
