"""METEOR through pycocoevalcap, where Java is installed."""

import shutil

import pytest


def test_meteor_by_java_on_made_up_captions() -> None:
    pytest.importorskip("pycocoevalcap", reason="pycocoevalcap is not installed: METEOR is skipped")
    if shutil.which("java") is None:
        pytest.skip("no Java: METEOR is skipped")
    from lavit_scoring.metrics.java import java_scores

    perfect = java_scores(["a dog runs"], [["a dog runs"]], skip={"spice": "not here"})
    assert perfect["meteor"].value == pytest.approx(1.0, abs=0.05)
