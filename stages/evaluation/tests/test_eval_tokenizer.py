"""`lavit eval tokenizer` on a model of a few steps: other ways to the same numbers, kills, masks, warnings."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lavit_core.errors import InputError, UsageError
from lavit_evaluation.cli import evaluate
from lavit_evaluation.compute import Compute
from lavit_evaluation.config import EvalTokenizerConfig
from lavit_evaluation.shapes.tokens_report import encode
from lavit_evaluation.tokenizing import job
from lavit_evaluation.tokenizing.benchmark import eval_tokenizer
from lavit_scoring.metrics.pixels import psnr
from PIL import Image
from typer.testing import CliRunner

QUIET = Compute(quiet=True)
CONFIG = EvalTokenizerConfig(
    images=30, reconstructions=6, batch_size=8, selection="topk", decoder_steps=2,
)  # fmt: skip


@pytest.fixture(scope="session")
def heldout(shapes_data: Path) -> Path:
    return shapes_data / "heldout"


@pytest.fixture(scope="session")
def whole(models: dict[str, Path], heldout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("tokenizer") / "score"
    return out, eval_tokenizer(models["whole"], heldout, out, CONFIG, compute=QUIET)


def test_the_numbers_are_those_of_the_models_own_methods(
    whole: tuple[Path, dict], models: dict[str, Path], heldout: Path
) -> None:
    from lavit import LaVIT

    out, result = whole
    metrics = result["figures"]
    model = LaVIT.from_pretrained(models["whole"], selection="topk")
    samples = json.loads((out / "samples.json").read_text())["reconstruction"]
    assert len(samples) == 6
    files = [heldout / row["key"] for row in samples]
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    tokens = model.encode(pixels)
    assert [row["kept"] for row in samples] == tokens.keep_mask.astype(int).tolist()
    assert metrics["tokens.kept_min"]["value"] == metrics["tokens.kept_max"]["value"] == tokens.counts[0] > 3
    drawn = np.stack([np.asarray(Image.open(out / row["picture"])) for row in samples])
    assert metrics["reconstruction.psnr_db"]["value"] == pytest.approx(psnr(drawn, pixels).mean())
    assert metrics["reconstruction.psnr_db"]["count"] == 6
    assert metrics["tokens.kept"]["count"] == 30
    # The benchmark of shapes encodes by another way.
    own_selection = {"images": 6, "reconstructions": 0, "selection": None}
    alone = eval_tokenizer(model, heldout, None, CONFIG.model_copy(update=own_selection))
    assert alone["skipped"]["reconstruction"] == "no reconstructions were asked for"
    errors = np.stack([one.errors for one in encode(model, pixels)])
    assert alone["figures"]["tokens.feature_error"]["value"] == pytest.approx(errors.mean(), rel=1e-5)


def test_images_that_are_drawn_wide_are_scored_as_the_squares_they_show(
    whole: tuple[Path, dict], models: dict[str, Path], heldout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lavit import LaVIT

    decode = LaVIT.decode

    def wide(self: LaVIT, *given: Any) -> list[Image.Image]:
        return [image.resize((image.width * 2, image.height)) for image in decode(self, *given)]

    monkeypatch.setattr(LaVIT, "decode", wide)
    found = eval_tokenizer(models["whole"], heldout, None, CONFIG, compute=QUIET)["figures"]
    expected = whole[1]["figures"]["reconstruction.psnr_db"]["value"]
    assert found["reconstruction.psnr_db"]["value"] == pytest.approx(expected, abs=1.0)


@pytest.mark.parametrize("limit", [1, 3, 4])
def test_killed_and_resumed_is_the_same_and_computes_nothing_twice(
    whole: tuple[Path, dict], models: dict[str, Path], heldout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    calls: Any, limit: int,
) -> None:  # fmt: skip
    from lavit import LaVIT

    monkeypatch.setattr(job, "tokenize", calls.counted(job.tokenize))
    monkeypatch.setattr(LaVIT, "decode", calls.counted(LaVIT.decode))
    calls.limit = limit
    with pytest.raises(KeyboardInterrupt):
        eval_tokenizer(models["whole"], heldout, tmp_path / "o", CONFIG, compute=QUIET)
    calls.limit = 4 + 1
    result = eval_tokenizer(models["whole"], heldout, tmp_path / "o", CONFIG, compute=QUIET)
    assert calls.made == calls.limit
    assert result["figures"] == whole[1]["figures"]
    assert not (tmp_path / "o" / "unfinished").exists()
    assert eval_tokenizer(models["whole"], heldout, tmp_path / "o", CONFIG, compute=QUIET) == result


def test_masks_are_read_before_the_run_directory_is_made(
    models: dict[str, Path], heldout: Path, tmp_path: Path
) -> None:
    config = EvalTokenizerConfig(images=10, reconstructions=0, selection="topk")
    folder, out = tmp_path / "masks", tmp_path / "o"
    folder.mkdir()
    with pytest.raises(InputError, match="no mask for 10 of 10 images"):
        eval_tokenizer(models["whole"], heldout, out, config, masks=folder, compute=QUIET)
    assert not out.exists()
    for file in (heldout / "images").iterdir():
        mask = np.zeros((32, 32), np.uint8)
        mask[:16] = 255
        Image.fromarray(mask).save(folder / f"{file.stem}.png")
    metrics = eval_tokenizer(models["whole"], heldout, out, config, masks=folder, compute=QUIET)["figures"]
    assert metrics["selection.kept_of_object"]["count"] == metrics["selection.kept_of_ground"]["count"] == 320
    assert metrics["selection.kept_of_object_edge"] == {"value": None, "count": 0, "low": None, "high": None}
    both = [metrics[f"selection.kept_of_{name}"]["value"] for name in ("object", "ground")]
    assert np.mean(both) == pytest.approx(metrics["tokens.kept"]["value"] / 64)
    with pytest.raises(UsageError, match="masks"):
        eval_tokenizer(models["whole"], heldout, out, config, compute=QUIET)


def kinds(result: dict) -> set[str]:
    return {row["kind"] for row in result["notes"]["warnings"]}


def test_warnings_follow_the_tokens(models: dict[str, Path], heldout: Path) -> None:
    # Three steps of training: by the threshold nearly nothing is kept.
    config = EvalTokenizerConfig(images=40, reconstructions=0)
    few = eval_tokenizer(models["seeing"], heldout, None, config, compute=QUIET)
    assert few["figures"]["tokens.fewer_than_3"]["value"] > 0.5
    assert "one-patch images" in kinds(few)
    assert few["skipped"]["reconstruction"] == "no detokenizer" or few["data"]["reconstructions"] == 0
    many = eval_tokenizer(models["seeing"], heldout, None, config.model_copy(update={"selection": "topk"}))
    assert "one-patch images" not in kinds(many)
    for result in (few, many):
        values = [result["figures"][f"selection.detail_{name}"]["value"] for name in ("kept", "dropped")]
        assert ("empty patches kept" in kinds(result)) == (values[0] < values[1])


def test_a_folder_of_images_of_any_size_and_a_model_that_can_not_draw(models: dict[str, Path], tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for index, size in enumerate([(40, 90, 3), (200, 120, 3), (64, 64, 3)]):
        Image.fromarray(draw.integers(0, 256, size, dtype=np.uint8)).save(tmp_path / f"{index}.png")
    result = eval_tokenizer(
        models["seeing"], tmp_path, tmp_path.parent / "o", EvalTokenizerConfig(selection="topk", tokens=5)
    )
    assert result["skipped"]["reconstruction"] == "no detokenizer"
    assert result["figures"]["tokens.kept_min"]["value"] == result["figures"]["tokens.kept_max"]["value"] == 5
    rows = json.loads((tmp_path.parent / "o" / "samples.json").read_text())["reconstruction"]
    assert [set(row) for row in rows] == [{"key", "kept", "grid", "original"}] * 3


def test_the_command(models: dict[str, Path], heldout: Path, tmp_path: Path) -> None:
    line = ["tokenizer", "--model", str(models["whole"]), "--data", str(heldout), "--images", "12"]
    line += ["--reconstructions", "2", "--set", "decoder_steps=1"]
    shown = json.loads(CliRunner().invoke(evaluate, [*line, "--dry-run", "--json"]).stdout)
    assert (shown["config"]["images"], shown["config"]["reconstructions"]) == (12, 2)
    done = CliRunner().invoke(evaluate, [*line, "--json"])
    result = json.loads(done.stdout)
    assert result["data"] == {"path": str(heldout), "images": 12, "reconstructions": 2}
    assert f"warning: {heldout}: 100% of the images have fewer than 3 tokens" in done.stderr
    table = CliRunner().invoke(evaluate, [*line, "--out", str(tmp_path / "o")]).stdout
    assert "seam ratio originals" in table


def test_an_open_model_keeps_its_selection_and_another_one_is_refused(models: dict[str, Path], heldout: Path) -> None:
    from lavit import LaVIT

    config = EvalTokenizerConfig(images=10, reconstructions=0, selection="topk")
    with pytest.raises(UsageError, match=r"the model is open; give them to LaVIT\.from_pretrained"):
        eval_tokenizer(LaVIT.from_pretrained(models["whole"]), heldout, None, config, compute=QUIET)


def test_linear_probes_are_those_of_their_own_command(models: dict[str, Path], heldout: Path, tmp_path: Path) -> None:
    from lavit_evaluation.config import ProbeConfig
    from lavit_evaluation.probing.probe import eval_probe

    data = tmp_path / "data"
    data.mkdir()
    rows = []
    for number, file in enumerate(sorted((heldout / "images").iterdir())[:44]):
        shutil.copy(file, data)
        rows.append({"file_name": file.name, "label": "even" if number % 2 == 0 else "odd", "kind": "parity"})
    (data / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = EvalTokenizerConfig(images=4, reconstructions=0, selection="topk", probe=True)
    found = eval_tokenizer(models["whole"], data, tmp_path / "o", config, compute=QUIET)
    alone = eval_probe(models["whole"], data, None, ProbeConfig(), compute=QUIET)
    probes = {name: metric for name, metric in found["figures"].items() if name.startswith("probe.")}
    assert any(name.startswith("probe.parity.") for name in probes)
    assert probes == alone["figures"]
    assert (tmp_path / "o" / "probe" / "score.json").is_file()
    assert eval_tokenizer(models["whole"], data, tmp_path / "o", config, compute=QUIET) == found
    (data / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[::-1]))
    with pytest.raises(UsageError, match="labels"):
        eval_tokenizer(models["whole"], data, tmp_path / "o", config, compute=QUIET)


def test_a_probe_without_labels_is_refused_before_anything_is_written(models: dict[str, Path], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 64), (80 * number, 0, 0)).save(data / f"{number}.png")
    config = EvalTokenizerConfig(images=3, reconstructions=0, selection="topk", probe=True)
    with pytest.raises(InputError, match="nothing to probe for; write labels"):
        eval_tokenizer(models["whole"], data, tmp_path / "o", config, compute=QUIET)
    assert not (tmp_path / "o").exists()
    without = config.model_copy(update={"probe": False})
    assert eval_tokenizer(models["whole"], data, tmp_path / "o", without, compute=QUIET)["data"]["images"] == 3
