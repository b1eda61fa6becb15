import pytest
from lavit_core.progress import Progress, timed, warn


def test_plain_lines_go_to_stderr(capsys):
    with Progress("train", 10, start=4) as progress:
        progress.advance(2, loss=0.12345678, kept="9")
        assert progress.done == 6
        assert progress.rate > 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "train: 6/10 steps" in err
    assert "loss 0.1235" in err
    assert "kept 9" in err


def test_quiet_says_nothing(capsys):
    with Progress("train", 10, quiet=True) as progress:
        progress.advance(10)
    with timed("loading", quiet=True):
        pass
    assert capsys.readouterr() == ("", "")


def test_no_summary_after_an_error(capsys):
    with pytest.raises(RuntimeError), Progress("train", 10):
        raise RuntimeError
    assert capsys.readouterr().err == ""


def test_warnings_and_phases(capsys):
    warn("look out")
    with timed("loading"):
        pass
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "warning: look out"
    assert lines[1].startswith("loading: 0.")
