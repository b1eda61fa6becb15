"""The whole path in miniature: every stage after the other, from drawn images to a report, and from one's own."""

import json
import os
import shlex
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from commandline import MINI, lavit, start, wait_for
from lavit_core.modeldir import check_made_with, part_digest
from lavit_core.tokens import open_tokens
from PIL import Image

PARTS = ("encoder", "tokenizer", "llm", "detokenizer")


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and modification time of every file."""
    return {
        str(f.relative_to(folder)): (f.stat().st_size, f.stat().st_mtime_ns)
        for f in folder.rglob("*")
        if f.is_file() and f.name != ".lock"
    }


def test_quickstart_leaves_a_whole_run(mini) -> None:
    summary = mini.summary
    steps = [row["step"] for row in summary["steps"]]
    assert steps[:4] == ["data", "encoder", "tokenizer", "tokens"]
    assert {"verify", "pretrain", "blind", "detokenizer", "evaluation", "tokenizer_evaluation", "report"} <= set(steps)
    assert all(row["finished"] and row["peak_memory_bytes"] > 0 for row in summary["steps"])
    for name in ("config.yaml", "run.json", "DONE", "report.html", "summary.json"):
        assert (mini.run / name).stat().st_size > 0
    for part in PARTS:
        assert summary["model"]["parts"][part] == part_digest(mini.model / part)
    check_made_with(mini.model, "llm")
    check_made_with(mini.model, "detokenizer")
    score = json.loads((mini.run / "evaluation" / "score.json").read_text())
    assert {"questions.all", "blind.all", "generation.everything", "tokens.code_usage"} <= score["figures"].keys()
    assert "lavit generate" in mini.done.out
    kept = json.loads((mini.run / "tokenizer_evaluation" / "score.json").read_text())
    assert {"selection.detail_kept", "selection.decided", "reconstruction.seam_ratio"} <= kept["figures"].keys()
    reported = {"figures": kept["figures"], "warnings": kept["notes"]["warnings"]}
    assert summary["tokenizer_evaluation"] == reported
    page = (mini.run / "report.html").read_text(encoding="utf-8")
    assert "What the tokenizer keeps" in page
    assert all(f"<b>{row['kind']}</b> (tokenizer_evaluation)" in page for row in kept["notes"]["warnings"])


def test_model_parts_are_links_not_copies(mini) -> None:
    first = next(file for file in (mini.model / "llm").rglob("*.safetensors"))
    assert first.stat().st_nlink > 1


def test_token_files_hold_every_image(mini) -> None:
    reader = open_tokens(mini.tokens)
    assert len(reader) == 96
    assert (reader.counts >= 1).all()
    assert open_tokens(mini.run / "tokens" / "heldout").keys(np.arange(2)) == ["images/000000.png", "images/000001.png"]


def test_a_finished_quickstart_changes_nothing_when_run_again(mini, here) -> None:
    before = snapshot(mini.run)
    again = here("quickstart", "--out", mini.run, "--config", MINI, "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out) == json.loads((mini.run / "DONE").read_text())
    assert snapshot(mini.run) == before


def test_deleted_outputs_are_made_again(mini, here, tmp_path: Path) -> None:
    run = tmp_path / "demo"
    shutil.copytree(mini.run, run, symlinks=True)
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "evaluation")
    shutil.rmtree(run / "tokenizer_evaluation")
    done = here("quickstart", "--out", run, "--config", MINI, "--json")
    assert done.code == 0, done.err
    before, again = mini.summary, json.loads(done.out)
    assert again["model"]["parts"] == before["model"]["parts"]
    assert again["headline"] == before["headline"]
    assert (run / "DONE").exists()
    score = run / "evaluation" / "score.json"
    scored = score.read_bytes()
    score.unlink()
    again = json.loads(here("quickstart", "--out", run, "--config", MINI, "--json").out)
    assert again["headline"] == before["headline"]
    assert score.read_bytes() == scored


def test_another_seed_is_refused_there(mini, here) -> None:
    done = here("quickstart", "--out", mini.run, "--config", MINI, "--seed", "1")
    assert done.code == 2
    assert "config.seed = 0, now it is 1" in done.last_error


def test_generate_writes_a_png_that_records_its_settings(mini, here, tmp_path: Path) -> None:
    prompt = "a red circle above a blue square, größer"
    done = here(
        "generate", prompt, "--model", mini.model, "--out", tmp_path / "a.png", "--seed", "3", "--num-steps", "2"
    )
    assert done.code == 0, done.err
    image = Image.open(tmp_path / "a.png")
    assert image.info["prompt"] == prompt
    assert image.info["seed"] == "3"
    assert json.loads(image.info["model"])["llm"] == part_digest(mini.model / "llm")
    several = tmp_path / "b.png"
    options = ["--num-images", "4", "--seed", "1", "--num-steps", "2", "--json"]
    done = here("generate", prompt, "--model", mini.model, "--out", several, *options)
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert len(made["num_codes"]) == 4
    grid = np.asarray(Image.open(several))
    # Image 2 of seed 1 is the image of seed 3, bottom left of the 2 x 2 grid.
    side = (grid.shape[0] - 8) // 2
    height, width = made["size_px"]
    factor = side // width
    corner = grid[side + 8 :: factor, :side:factor][:height]
    assert (np.abs(corner.astype(int) - np.asarray(image).astype(int)) <= 2).all()


def test_reconstruct_draws_three_panels_an_image(mini, here, tmp_path: Path) -> None:
    images = [mini.heldout / f"images/00000{index}.png" for index in range(3)]
    made, sheets = [], []
    for name, given in (("all", images), ("last", images[2:])):
        out = tmp_path / f"{name}.png"
        done = here("reconstruct", *given, "--model", mini.model, "--out", out, "--json")
        assert done.code == 0, done.err
        made.append(json.loads(done.out)["images"])
        sheets.append(np.asarray(Image.open(out)).astype(int))
    assert [row["image"] for row in made[0]] == [str(image) for image in images]
    assert all(row["kept"] == len(row["codes"]) >= 1 for row in made[0])
    assert made[0][2:] == made[1]
    high, wide, _ = sheets[1].shape
    assert wide == 3 * high + 16
    assert sheets[0].shape[:2] == (3 * high + 16, wide)
    # Each is drawn as alone, from the same seed; in another batch products round otherwise.
    assert np.abs(sheets[0][-high:] - sheets[1]).max() <= 2


def test_caption_ask_and_report_work_on_the_model(mini, here) -> None:
    image = mini.heldout / "images/000000.png"
    assert len(json.loads(here("caption", image, "--model", mini.model, "--json").out)["captions"]) == 1
    done = here("ask", image, "how many shapes are there?", "--model", mini.model)
    assert done.code == 0, done.err
    assert here("report", mini.run, "--out", mini.run.parent / "r.html").code == 0


def test_quickstart_splits_and_trains_on_own_images(mini, here, tmp_path: Path) -> None:
    data = tmp_path / "own"
    (data / "photos").mkdir(parents=True)
    with open(data / "captions.jsonl", "w", encoding="utf-8") as handle:
        for number in range(48):
            name = f"photos/p{number:02d}.jpg"
            tint = np.random.default_rng(number).integers(0, 255, 3)
            pixels = np.full((50, 70, 3), tint, dtype=np.uint8)
            Image.fromarray(pixels).save(data / name)
            handle.write(json.dumps({"file_name": name, "captions": [f"an image of colour {number}"]}) + "\n")
    run = tmp_path / "run"
    done = here("quickstart", "--data", data, "--out", run, "--config", MINI, "--set", "heldout_share=0.2")
    assert done.code == 0, done.err
    keys = {}
    for split in ("train", "heldout"):
        lines = (run / "data" / split / "captions.jsonl").read_text().splitlines()
        keys[split] = {json.loads(line)["file_name"] for line in lines}
        assert (run / "data" / split / "photos").is_symlink()
    assert len(keys["train"] | keys["heldout"]) == 48
    assert not keys["train"] & keys["heldout"]
    assert 2 <= len(keys["heldout"]) <= 20
    assert not (run / "blind").exists()
    samples = json.loads((run / "evaluation" / "samples.json").read_text())
    assert len(samples["captions"]) == len(samples["generation"]) == min(4, len(keys["heldout"]))
    page = (run / "report.html").read_text()
    assert "Nothing judges these" in page
    assert "learned from your images" in page


@pytest.mark.slow
def test_a_stop_during_training_exits_75_and_resumes(tmp_path: Path) -> None:
    run = tmp_path / "demo"
    arguments = ["quickstart", "--out", str(run), "--config", str(MINI), "--set", "pretrain.num_steps=150"]
    arguments += ["--stop-after", "pretrain"]
    child = start(*arguments)
    wait_for(lambda: any((run / "pretrain" / "checkpoints").glob("step-*")), child)
    os.kill(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 75, err
    last = err.splitlines()[-1]
    assert last.startswith(f"stopped: {run}")
    assert last.endswith(f"run `lavit {shlex.join(arguments)}` to go on")
    again = lavit(*arguments)
    assert again.code == 0, again.err
    assert f"{run / 'tokenizer'}: already finished" in again.err
    assert "pretrain: resuming from step " in again.err
    assert (run / "pretrain" / "DONE").exists()
