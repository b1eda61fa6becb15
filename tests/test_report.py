"""The report: one file that loads nothing, holds what the run holds, and is not blank in a browser."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fake_run import fake_run
from lavit_core.errors import InputError
from PIL import Image

from lavit_cli.main import main
from lavit_cli.report.curves import charts
from lavit_cli.report.page import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


class Outside(HTMLParser):
    """Collects everything a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.urls += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_report_is_self_contained_and_shows_what_the_run_holds(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "demo", samples=4)
    page = write_report(run).read_text(encoding="utf-8")
    outside = Outside()
    outside.feed(page)
    assert all(url.startswith("data:image/png;base64,") for url in outside.urls)
    assert len(outside.urls) == 4 * 3 + 4 + 4 + 4
    assert not {"script", "link", "iframe", "object"} & set(outside.tags)
    assert not re.findall(r"(?:url\(|@import|https?://)", page.split("</style>")[0])
    for text in (
        "Kept patches",
        "Drawn from prompts",
        "Questions answered",
        "Captions",
        "Training curves",
        "What it cost",
    ):
        assert text in page
    for text in ("86.0&thinsp;%", "n=2,000", "retrieval top1", "detokenizer", "8 min 08 s", "no weights here"):
        assert text in page
    assert page.count("<svg") == 5 + 3 + 5 + 3 + 1 + 1 - 1 + 1


def test_text_of_a_run_is_escaped(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "demo", samples=1)
    file = run / "evaluation" / "samples.json"
    file.write_text(file.read_text().replace('"prompt": "', '"prompt": "<script>alert(1)</script>'))
    page = write_report(run).read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_report_of_a_single_training_run_and_of_no_run(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "demo", samples=1)
    alone = run / "encoder"
    shutil.copy(run / "run.json", alone / "run.json")
    shutil.copy(run / "config.yaml", alone / "config.yaml")
    assert "retrieval top1" in write_report(alone).read_text(encoding="utf-8")
    with pytest.raises(InputError, match="no run directory"):
        write_report(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["report", str(tmp_path / "nothing")])
    assert end.value.code == 3


def test_charts_leave_out_timings_constants_and_nan() -> None:
    rows = [
        {
            "step": step,
            "phase": "a",
            "loss": float("nan") if step == 1 else 1.0 / (step + 1),
            "fixed": 2,
            "seconds": step,
        }
        for step in range(6)
    ]
    drawn = charts(rows)
    assert len(drawn) == 1
    assert 'aria-label="loss"' in drawn[0]
    assert "nan" not in drawn[0]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: the report is not looked at")
@pytest.mark.parametrize("width", [1280, 420])
def test_report_in_a_browser(tmp_path: Path, width: int) -> None:
    page = write_report(fake_run(tmp_path / "demo", samples=6))
    shot = tmp_path / "shot.png"
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    flags += "--disable-component-update --disable-sync --hide-scrollbars"
    subprocess.run(
        [str(CHROMIUM), *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},1600",
         f"--screenshot={shot}", page.resolve().as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    pixels = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    assert pixels.shape[:2] == (1600, width)
    bands = pixels.reshape(4, 400, width, 3)
    for band in bands:
        assert len(np.unique(band.reshape(-1, 3), axis=0)) > 50
    # Drawn shapes are saturated; the page itself is nearly grey.
    saturated = (pixels.max(2) - pixels.min(2)) > 120
    assert saturated.mean() > 0.003
