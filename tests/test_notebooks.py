"""The notebooks of examples/ run from their first cell to their last, with the miniature model."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from commandline import Mini

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples/notebooks").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs(
    file: Path, mini: Mini, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAVIT_MODEL", str(mini.model))
    made = runpy.run_path(str(file))
    printed = capsys.readouterr().out.splitlines()
    # What it shows is what the model gives: as many codes as kept patches, and edits that stay codes.
    for codes, kept in zip(made["tokens"].codes, made["tokens"].keep_mask, strict=True):
        assert len(codes) == kept.sum() > 0
        assert f"{len(codes)} of {kept.size} patches are kept; their codes: {codes.tolist()}" in printed
    assert sorted(made["turned"]) == sorted(made["first"])
    assert len(set(made["single"])) == 1
    assert np.asarray(made["sheet"](made["one"], made["other"])).shape[1] > 2 * 160
    assert len([line for line in printed if line.endswith("nats a code")]) == 3


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
