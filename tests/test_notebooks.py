"""The notebooks of examples/ run from their first cell to their last, with the miniature model."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import Mini

FOLDER = Path(__file__).parents[1] / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.py"))


def run(name: str, mini: Mini, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a notebook with the miniature model; return what it made, by name, and the lines it printed."""
    monkeypatch.setenv("LAVIT_MODEL", str(mini.model))
    made = runpy.run_path(str(FOLDER / f"{name}.py"))
    return made, capsys.readouterr().out.splitlines()


@pytest.mark.slow
def test_codes(mini: Mini, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made, printed = run("codes", mini, monkeypatch, capsys)
    # What it shows is what the model gives: as many codes as kept patches, and edits that stay codes.
    for codes, kept in zip(made["tokens"].codes, made["tokens"].keep_mask, strict=True):
        assert len(codes) == kept.sum() > 0
        assert f"{len(codes)} of {kept.size} patches are kept; their codes: {codes.tolist()}" in printed
    assert sorted(made["turned"]) == sorted(made["first"])
    assert len(set(made["single"])) == 1
    assert np.asarray(made["sheet"](made["one"], made["other"])).shape[1] > 2 * 160
    assert len([line for line in printed if line.endswith("nats a code")]) == 3


@pytest.mark.slow
def test_drawing(mini: Mini, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made, printed = run("drawing", mini, monkeypatch, capsys)
    # It says what holds: seeds repeat an image, other seeds and scales change it, the prompt's images are read.
    assert made["difference"] <= 1
    pixels = [np.asarray(image).tobytes() for image in made["four"]]
    assert len(set(pixels)) == 4
    assert [np.asarray(image).tobytes() for image in made["rows"][-1]] == pixels
    assert [np.asarray(image).tobytes() for image in made["rows"][0]] != pixels
    assert f"{len(made['codes'])} codes: {made['codes'].tolist()}" in printed
    assert len([line for line in printed if line.startswith("guidance scale ") and line.endswith(" nats")]) == 3
    assert len({np.asarray(image).tobytes() for image in made["edited"]}) == 2
    assert len([line for line in printed if line.startswith(("what ", "and "))]) == 3


def test_every_notebook_is_run() -> None:
    assert [file.stem for file in NOTEBOOKS] == ["codes", "drawing"]


def test_cells_are_marked_as_jupytext_reads_them() -> None:
    assert NOTEBOOKS
    for file in NOTEBOOKS:
        lines = file.read_text(encoding="utf-8").splitlines()
        assert lines[0] == "# %% [markdown]", file
        markers = [line for line in lines if line.startswith("# %%")]
        assert set(markers) == {"# %%", "# %% [markdown]"}, file
        for number, line in enumerate(lines):
            if line == "# %% [markdown]":
                cell = lines[number + 1 : next(n for n in range(number + 1, len(lines)) if lines[n].startswith("# %%"))]
                assert all(not text or text.startswith("#") for text in cell), f"{file}:{number + 1}"
