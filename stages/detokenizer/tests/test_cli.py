"""The commands of the stage."""

import json

from lavit_detokenizer import cli

from .conftest import NUM_IMAGES


def test_dry_runs_count_and_do_nothing(world, trained, tmp_path, capsys):
    out = tmp_path / "out"
    cli.train_detokenizer(tokens=world / "tokens", model=world / "model", out=out, as_json=True, dry_run=True)
    planned = json.loads(capsys.readouterr().out)
    assert planned["images"] == NUM_IMAGES
    assert planned["unet_parameters"] > 1_000_000
    cli.detokenize(tokens=world / "tokens", model=trained, out=out, num_steps=3, as_json=True, dry_run=True)
    assert json.loads(capsys.readouterr().out)["config"]["num_steps"] == 3
    assert not out.exists()


def test_the_last_line_names_the_next_command(world, trained, tmp_path, capsys):
    out, run = tmp_path / "out", tmp_path / "run"
    cli.detokenize(tokens=world / "tokens", model=trained, out=out, num_steps=1, quiet=True, device="cpu")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"{NUM_IMAGES} images in {out / 'images'}; next: lavit data inspect {out}"
    cli.train_detokenizer(
        tokens=world / "tokens", images=world / "data", model=world / "model", out=run, quiet=True, device="cpu",
        sets=["num_steps=1", "batch_size=2", "image_px=16", "unshuffle=2"],
    )  # fmt: skip
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(
        f"detokenizer in {run / 'model' / 'detokenizer'}; next: lavit detokenize {world / 'tokens'} "
    )
