"""The report: one file that loads nothing, holds what the run holds, and is not blank in a browser."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fake_run import fake_run
from lavit_core.errors import InputError
from PIL import Image

from lavit_cli.main import main
from lavit_cli.report.collect import collect
from lavit_cli.report.curves import charts
from lavit_cli.report.live import follow_run
from lavit_cli.report.page import write_report
from lavit_cli.report.reference import aligned, different_settings, load_reference, pack, unpack

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
    # What `lavit eval shapes` wrote by itself is a run as well: its metrics and samples are in its own folder.
    scored = run / "evaluation"
    shutil.copy(run / "run.json", scored / "run.json")
    (scored / "config.yaml").write_text("command: eval shapes\nconfig: {}\n", encoding="utf-8")
    page = write_report(scored, tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert "<h2>Scores</h2>" in page
    assert "the numbers are in score.json too" in page
    assert "data:image/png" in page
    for wrong, message in ((tmp_path, "a folder, expected a file name"), (scored / "run.json" / "x", "is a file")):
        with pytest.raises(InputError, match=message):
            write_report(scored, wrong)
    with pytest.raises(InputError, match=r"run.json: no run directory .run.json is missing."):
        write_report(scored / "run.json")
    with pytest.raises(InputError, match="no run directory"):
        write_report(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["report", str(tmp_path / "nothing")])
    assert end.value.code == 3


def test_what_the_tokenizer_keeps_and_its_warnings(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "demo", samples=1)
    assert "What the tokenizer keeps" not in write_report(run).read_text(encoding="utf-8")
    kept = {"selection.detail_kept": {"value": 0.0081, "count": 99, "low": 0.007, "high": 0.009}}
    found = [{"kind": "empty patches kept", "message": "kept patches <show> nothing"}]
    score = {"figures": kept, "skipped": {}, "notes": {"warnings": found}}
    (run / "tokenizer_evaluation").mkdir()
    (run / "tokenizer_evaluation" / "score.json").write_text(json.dumps(score))
    page = write_report(run).read_text(encoding="utf-8")
    assert "<b>empty patches kept</b> (tokenizer_evaluation): kept patches &lt;show&gt; nothing" in page
    assert page.index("empty patches kept") < page.index("Kept patches, and the reconstruction")
    assert "What the tokenizer keeps" in page
    assert "detail kept" in page


def test_rates_are_curves_of_three_selections(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "demo", samples=0)
    assert "What a number of tokens loses" not in write_report(run).read_text(encoding="utf-8")
    places = {"learned": 2.0, "topk": 1.5, "random": 0.5}
    metrics = {
        f"{method}.{rate}.psnr_db": {"value": 20 + step * place, "count": 9, "low": 1.0, "high": 99.0}
        for method, place in places.items()
        for step, rate in enumerate((8, 16, 100, "own"))
    } | {"learned.8.ssim": {"value": 0.5, "count": 9, "low": 0.4, "high": 0.6}}
    (run / "evaluation" / "score.json").write_text(json.dumps({"figures": metrics, "skipped": {}, "notes": {}}))
    page = write_report(run).read_text(encoding="utf-8")
    assert "What a number of tokens loses" in page
    [chart] = re.findall(r'<svg class="chart"[^>]*aria-label="PSNR in dB".*?</svg>', page)
    assert (polylines(chart, "line"), polylines(chart, "behind")) == (1, 2)
    assert 'points="8.0,130.0 ' in chart  # the fewest tokens at the left
    assert all(f">{method}</text>" in chart for method in places)
    assert 'aria-label="SSIM"' not in page


def test_kept_patches_are_shown_without_a_reconstruction(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "demo", samples=2)
    file = run / "evaluation" / "samples.json"
    rows = json.loads(file.read_text())["reconstruction"]
    kept = [{key: value for key, value in row.items() if key not in ("picture", "right", "psnr_db")} for row in rows]
    file.write_text(json.dumps({"reconstruction": kept}))
    page = write_report(run).read_text(encoding="utf-8")
    assert page.count('alt="kept patches"') == page.count('alt="original"') == 2
    assert 'alt="reconstruction"' not in page


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


def test_values_appear_under_the_pointer_of_every_place_of_a_curve() -> None:
    rows = [{"step": step, "loss": 1 / (step + 1)} for step in range(1000)]
    [plain], [drawn] = charts(rows), charts(rows, values=True)
    assert "value" not in plain
    strips = re.findall(
        r'<g class="value"><rect x="([\d.]+)" y="30" width="([\d.]+)" height="100"/>'
        r'<circle cx="([\d.]+)" cy="[\d.]+" r="3"/><text x="292" y="30">step ([\d,]+): ([\de.-]+)</text></g>',
        drawn,
    )
    assert 50 <= len(strips) <= 61
    end = 8.0
    for x, width, across, step, value in strips:
        # One strip begins where the one before ends (numbers are rounded to tenths), and holds its own point.
        assert float(x) == pytest.approx(end, abs=0.11)
        assert float(x) - 0.1 <= float(across) <= float(x) + float(width) + 0.1
        assert float(value) == pytest.approx(rows[int(step.replace(",", ""))]["loss"], rel=5e-3)
        end = float(x) + float(width)
    assert end == pytest.approx(292, abs=0.11)
    assert strips[-1][3] == "999"
    assert drawn.replace("".join(re.findall(r'<g class="value">.*?</g>', drawn)), "") == plain


def polylines(svg: str, kind: str) -> int:
    return svg.count(f'<polyline class="{kind}"')


def test_a_report_against_another_run_draws_its_curves_and_names_the_differences(tmp_path: Path) -> None:
    mine, theirs = fake_run(tmp_path / "mine", samples=1), fake_run(tmp_path / "theirs", samples=1)
    for run, steps in ((mine, 2400), (theirs, 4800)):
        record = {"command": "train-encoder", "config": {"num_steps": steps, "lr": 0.001, "vision": {"width": 64}}}
        (run / "encoder" / "config.yaml").write_text(json.dumps(record))
    page = write_report(mine, against=str(theirs)).read_text(encoding="utf-8")
    assert "num_steps 4800 → 2400." in page
    assert "vision.width" not in page
    # Every curve has one behind it, but for histograms.
    assert polylines(page, "behind") == 3 + 5 + 3 + 1 + 1
    assert polylines(write_report(mine).read_text(encoding="utf-8"), "behind") == 0
    with pytest.raises(InputError, match="found nothing, expected `reference` or another run's directory"):
        write_report(mine, against=str(tmp_path / "nowhere"))


def test_the_shipped_reference_is_complete_and_is_drawn_behind_runs_of_any_length(tmp_path: Path) -> None:
    reference = load_reference("reference")
    assert set(reference.stages) == {"encoder", "tokenizer", "pretrain", "blind", "detokenizer"}
    assert "preset tiny, seed 0" in reference.title
    for stage in reference.stages.values():
        steps = [row["step"] for row in stage.rows]
        assert steps == sorted(steps)
        assert len(steps) >= 6  # the blind model: 120 steps, a row every 20
        assert stage.settings
    tokenizer = reference.stages["tokenizer"]
    assert different_settings(tokenizer.settings, tokenizer.settings) == []
    rows = tokenizer.rows
    phases = [{**phase, "num_steps": 10} for phase in tokenizer.settings["phases"][1:]]
    short = dataclasses.replace(tokenizer, settings={**tokenizer.settings, "phases": phases})
    moved = aligned(tokenizer, short)
    assert {row["phase"] for row in moved} == {"selector", "merger", "codes"}
    assert moved[-1]["step"] == 30
    first = next(row for row in moved if row["phase"] == "codes")
    assert 20 < first["step"] < 21
    assert aligned(tokenizer, tokenizer) == rows
    steps = tokenizer.settings["phases"][0]["num_steps"]
    said = different_settings(short.settings, tokenizer.settings)
    assert said[:2] == ["phases.masks.name masks → none", f"phases.masks.num_steps {steps} → none"]
    run = fake_run(tmp_path / "demo", samples=1)
    with pytest.raises(SystemExit) as end:
        main(["report", str(run), "--against", "reference", "--out", str(tmp_path / "page.html")])
    assert end.value.code == 0
    assert "preset tiny, seed 0" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_packed_curves_unpack_to_the_same_rows_and_thinning_keeps_ends_and_rare_rows(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "demo", samples=1)
    stage = next(stage for stage in collect(run).stages if stage.kind == "tokenizer")
    stage.rows[33]["answer_gain"] = 1.23456
    packed = json.loads(json.dumps(pack(stage)))
    back = unpack("tokenizer", packed)
    assert len(back.rows) <= 66
    steps = {row["step"]: row for row in back.rows}
    for kept in (stage.rows[0], stage.rows[59], stage.rows[60], stage.rows[-1]):
        assert steps[kept["step"]]["loss"] == pytest.approx(kept["loss"], rel=1e-3)
    assert steps[stage.rows[33]["step"]]["answer_gain"] == 1.235
    assert all("kept_histogram" not in row and "seconds" not in row for row in back.rows)


def test_the_page_and_plots_of_the_docs_are_those_of_the_reference() -> None:
    script = Path(__file__).parents[1] / "docs" / "build_reference.py"
    subprocess.run([sys.executable, script, "--check"], check=True, timeout=60)


def test_warnings_of_a_run_are_on_its_page(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "demo", samples=1)
    row = {"step": 1200, "phase": "codes", "kind": "codebook collapse", "message": "3% of <codes> used; change x"}
    (run / "tokenizer" / "warnings.jsonl").write_text(json.dumps(row) + "\n")
    page = write_report(run).read_text(encoding="utf-8")
    assert "<b>codebook collapse</b> (tokenizer, step 1,200): 3% of &lt;codes&gt; used; change x" in page
    order = ("Warnings", "Kept patches", "The metrics that matter most", "Scores", "Training curves")
    places = [page.index(f"<h2>{title}") for title in order]
    assert places == sorted(places)
    assert page.count('<div class="tile">') <= 5, "more would be no summary; the table has the rest"


def test_images_enlarge_and_wrong_answers_are_filtered_without_a_script(tmp_path: Path) -> None:
    page = write_report(fake_run(tmp_path / "demo", samples=4)).read_text(encoding="utf-8")
    assert page.count('<label class="zoom"><input type="checkbox" aria-label="enlarge"><img') == page.count("<img")
    assert page.count('id="wrong"') == 1
    assert "main:has(#wrong:checked)" in page


def test_a_live_report_reloads_until_the_run_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, pages = fake_run(tmp_path / "demo", samples=1), []

    def wait(seconds: float) -> None:
        pages.append((run / "report.html").read_text(encoding="utf-8"))
        if len(pages) == 2:
            (run / "DONE").write_text("{}", encoding="utf-8")

    monkeypatch.setattr("lavit_cli.report.live.time.sleep", wait)
    last = follow_run(run).read_text(encoding="utf-8")
    refresh = '<meta http-equiv="refresh" content="10">'
    assert [refresh in page for page in (*pages, last)] == [True, True, False]


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
