"""Editing benchmarks run with a model: turn after turn, killed anywhere, in any batches, the same images."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lavit_core.config import load_preset
from lavit_core.errors import InputError, UsageError
from lavit_evaluation.cli import evaluate
from lavit_evaluation.compute import Compute
from lavit_evaluation.editing.config import EditRunConfig
from lavit_evaluation.editing.run_edits import run_edits
from lavit_evaluation.options import Files, Weights
from lavit_scoring import find_benchmark
from lavit_scoring.errors import UsageError as ScoringUsageError
from PIL import Image
from typer.testing import CliRunner

SESSIONS = {"30": 1, "139": 3, "7": 2}
"""Session -> turns."""

EDITS = ["30_1", "139_1", "139_inde_2", "139_inde_3", "7_1", "7_inde_2", "139_iter_2", "7_iter_2", "139_iter_3"]
"""In the order in which they are drawn."""


def save(file: Path, shade: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 20), (shade, shade, shade)).save(file)


@pytest.fixture
def magicbrush(tmp_path: Path) -> Path:
    """The zip's folders: inputs 100, targets 100 + 10 k of turn k, instructions that name k."""
    root, sessions = tmp_path / "data" / "test", {}
    for name, turns in SESSIONS.items():
        save(root / "images" / name / f"{name}-input.png", 100)
        sessions[name] = []
        for k in range(1, turns + 1):
            save(root / "images" / name / f"{name}-output{k}.png", 100 + 10 * k)
            source = f"{name}-input.png" if k == 1 else f"{name}-output{k - 1}.png"
            output = f"{name}-output{k}.png"
            sessions[name].append({"input": source, "output": output, "instruction": f"lighter by {k} in {name}"})
    (root / "edit_sessions.json").write_text(json.dumps(sessions))
    return tmp_path / "data"


class Brush:
    """Makes an image lighter by ten and as many shades as the instruction says; dies at an image."""

    def __init__(self, deadline: int = 10**9) -> None:
        self.asked: list[str] = []
        self.loaded, self.deadline = 0, deadline
        self.metadata = {"model": {"llm": "0"}, "precision": {"llm": "made up", "detokenizer": "made up"}}

    @property
    def detokenizer(self) -> SimpleNamespace:
        self.loaded += 1
        return SimpleNamespace(config=SimpleNamespace(image_px=16))

    def generate(self, prompts: Sequence[Any], *, seeds: Sequence[int], **settings: Any) -> list[np.ndarray]:
        images = []
        for (source, instruction), seed in zip(prompts, seeds, strict=True):
            if len(self.asked) >= self.deadline:
                raise KeyboardInterrupt
            self.asked.append(instruction)
            shade = int(np.asarray(Image.open(source))[8, 8, 0]) + 10 + int(instruction.split()[2])
            image = np.full((16, 16, 3), shade, np.uint8)
            image[0, 0] = seed % 256
            images.append(image)
        return images


def run(data: Path, out: Path, brush: Brush, *, weights: Weights | None = None, name: str = "magicbrush", **more: Any):
    config = EditRunConfig(**more.pop("config", {}))
    files = Files(data=data, **{key: more.pop(key) for key in ("annotations", "images", "split") if key in more})
    compute = Compute(**{"batch_size": 16, **{key: more.pop(key) for key in ("batch_size", "device") if key in more}},
                      quiet=True)  # fmt: skip
    return run_edits(find_benchmark(name), brush, files, out, config, weights=weights or Weights(), compute=compute,
                     **more)  # fmt: skip


def shade(out: Path, name: str) -> int:
    return int(np.asarray(Image.open(out / "edited" / name.partition("_")[0] / f"{name}.png"))[8, 8, 0])


def images(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (out / "edited").rglob("*.png")}


def test_turns_follow_each_other(magicbrush: Path, tmp_path: Path) -> None:
    brush, out = Brush(), tmp_path / "out"
    result = run(magicbrush, out, brush)
    assert sorted(images(out)) == sorted(f"{name}.png" for name in EDITS)
    # Turn 1: 100 + 10 + 1. Single-turn: from the target before. Multi-turn: from the image before.
    assert [shade(out, name) for name in ("139_1", "139_inde_2", "139_inde_3")] == [111, 110 + 12, 120 + 13]
    assert [shade(out, name) for name in ("139_iter_2", "139_iter_3")] == [111 + 12, 111 + 12 + 13]
    assert result["figures"]["all_turn.l1"]["count"] == 6
    assert result["figures"]["final_turn.l1"]["count"] == 3
    # The target of turn 3 is 130; a corner pixel is the seed's.
    rows = {row["id"]: row for row in map(json.loads, (out / "items.jsonl").read_text().splitlines())}
    assert rows["139_iter_3"]["l1"] == pytest.approx(6 / 255, abs=0.01)
    assert brush.asked[0] == "lighter by 1 in 30"
    assert len(brush.asked) == len(EDITS)
    assert brush.loaded == 1
    assert result["generation"]["decoding"]["image_px"] == 16
    assert result["skipped"]["clip_i"] == "no CLIP weights given (--clip-model DIR)"
    assert json.loads((out / "score.json").read_text()) == result


@pytest.mark.parametrize(("deadline", "batch_size"), [(0, 4), (4, 2), (7, 1), (8, 5)])
def test_killed_and_resumed_is_the_same_and_draws_nothing_twice(
    magicbrush: Path, tmp_path: Path, deadline: int, batch_size: int
) -> None:
    whole = run(magicbrush, tmp_path / "whole", Brush(), batch_size=16)
    dying, rest, out = Brush(deadline), Brush(), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(magicbrush, out, dying, batch_size=batch_size)
    kept = len(images(out)) if (out / "edited").exists() else 0
    result = run(magicbrush, out, rest, batch_size=3)
    assert len(rest.asked) == len(EDITS) - kept
    assert images(out) == images(tmp_path / "whole")
    assert result["figures"] == whole["figures"]
    assert (out / "items.jsonl").read_bytes() == (tmp_path / "whole" / "items.jsonl").read_bytes()


def test_killed_while_comparing_measures_nothing_twice(
    magicbrush: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lavit_evaluation.editing import score_edits
    from lavit_evaluation.editing.judges import Measure

    measured: list[str] = []
    plain = Measure.networks

    def counting(self: Measure, edit: Any, edited: Path) -> dict[str, float]:
        if len(measured) == 5:
            raise KeyboardInterrupt
        measured.append(edit.id)
        return plain(self, edit, edited)

    monkeypatch.setattr(score_edits, "CHUNK", 2)
    monkeypatch.setattr(Measure, "networks", counting)
    with pytest.raises(KeyboardInterrupt):
        run(magicbrush, tmp_path / "out", Brush())
    monkeypatch.setattr(Measure, "networks", plain)
    assert len(next((tmp_path / "out").glob("measured-*.jsonl")).read_text().splitlines()) == 4
    never = Brush(deadline=0)
    result = run(magicbrush, tmp_path / "out", never)
    assert never.loaded == 0
    assert result["figures"] == run(magicbrush, tmp_path / "whole", Brush())["figures"]


def test_a_finished_run_answers_at_once(magicbrush: Path, tmp_path: Path) -> None:
    first = run(magicbrush, tmp_path / "out", Brush())
    never = Brush(deadline=0)
    assert run(magicbrush, tmp_path / "out", never, batch_size=1) == first
    assert never.loaded == 0
    with pytest.raises(UsageError, match=r"started with config.seed = 0, now it is 1"):
        run(magicbrush, tmp_path / "out", never, seed=1)


def test_weights_given_later_draw_nothing_again(magicbrush: Path, tiny_clip: Path, tmp_path: Path) -> None:
    first, never = run(magicbrush, tmp_path / "out", Brush()), Brush(deadline=0)
    both = run(magicbrush, tmp_path / "out", never, weights=Weights(clip=tiny_clip), device="cpu")
    assert never.loaded == 0
    assert set(both["skipped"]) == {"clip_t", "dino", "lpips"}
    assert both["figures"]["final_turn.l1"] == first["figures"]["final_turn.l1"]
    assert both["figures"]["final_turn.clip_i"]["count"] == 3
    assert json.loads((tmp_path / "out" / "score.json").read_text())["figures"] == both["figures"]
    assert run(magicbrush, tmp_path / "out", never)["figures"] == first["figures"]


def test_the_folder_is_what_eval_score_reads(magicbrush: Path, tmp_path: Path) -> None:
    result = run(magicbrush, tmp_path / "out", Brush())
    line = ["score", "magicbrush", "--results", str(tmp_path / "out" / "edited"), "--json"]
    line += ["--annotations", str(magicbrush / "test" / "edit_sessions.json")]
    again = json.loads(CliRunner().invoke(evaluate, line, catch_exceptions=False).stdout)
    assert again["figures"] == result["figures"]
    assert again["generation"] == result["generation"]
    save(tmp_path / "out" / "edited" / "30" / "30_1.png", 1)
    other = json.loads(CliRunner().invoke(evaluate, line, catch_exceptions=False).stdout)
    assert other["generation"].startswith("not known")


def test_limit_draws_whole_sessions_and_is_partial(magicbrush: Path, tmp_path: Path) -> None:
    brush = Brush()
    result = run(magicbrush, tmp_path / "out", brush, config={"limit": 2})
    assert len({text.split()[-1] for text in brush.asked}) == 2
    assert (result["complete"], result["figures"]) == (False, {})
    assert result["partial"]["figures"]["final_turn.l1"]["count"] == 2
    assert result["items"] | {"digest": ""} == {"scored": len(brush.asked), "expected": len(EDITS), "digest": ""}


def test_single_turn_alone(magicbrush: Path, tmp_path: Path) -> None:
    brush = Brush()
    result = run(magicbrush, tmp_path / "out", brush, config={"turns": "single"})
    assert len(brush.asked) == 6
    assert not list((tmp_path / "out" / "edited").rglob("*iter*"))
    assert result["complete"]


def test_what_is_wrong_is_said_before_any_image(magicbrush: Path, tmp_path: Path) -> None:
    never = Brush(deadline=0)
    with pytest.raises(InputError, match=r"--clip-model .*none: nothing there"):
        run(magicbrush, tmp_path / "a", never, weights=Weights(clip=tmp_path / "none"))
    with pytest.raises(ScoringUsageError, match="--split dev: magicbrush keeps its splits in files of their own"):
        run(magicbrush, tmp_path / "s", never, split="dev")
    (tmp_path / "clip").mkdir()
    with pytest.raises(InputError, match=r"--clip-model .*no config\.json here"):
        run(magicbrush, tmp_path / "b", never, weights=Weights(clip=tmp_path / "clip"))
    assert not (tmp_path / "b").exists()
    (magicbrush / "test" / "images" / "7" / "7-output2.png").unlink()
    with pytest.raises(InputError, match=r"1 images are missing, say 7/7-output2\.png"):
        run(magicbrush, tmp_path / "c", never)
    (magicbrush / "test" / "edit_sessions.json").rename(magicbrush / "other.json")
    with pytest.raises(InputError, match=r"no edit_sessions\.json here; download it from https"):
        run(magicbrush, tmp_path / "d", never)
    assert never.loaded == 0
    assert not list(tmp_path.glob("?/edited"))


def test_ma5k(tmp_path: Path) -> None:
    data = tmp_path / "FiveK"
    for name, tone in (("0001_O", 100), ("0001_A", 111), ("0001_B", 112), ("0002_O", 10), ("0002_C", 23)):
        save(data / "images" / f"{name}.jpg", tone)
    rows = [{"input": f"{n}_O.jpg", "output": f"{n}_{e}.jpg", "request": f"lighter by {k} please"}
            for n, e, k in (("0001", "A", 1), ("0001", "B", 2), ("0002", "C", 3))]  # fmt: skip
    (data / "annotations").mkdir()
    (data / "annotations" / "test_sess_1.json").write_text(json.dumps(rows))
    result = run(data, tmp_path / "out", Brush(), name="ma5k")
    assert sorted(images(tmp_path / "out")) == ["0001_A.png", "0001_B.png", "0002_C.png"]
    assert result["figures"]["l1"]["value"] == pytest.approx(0, abs=0.01)  # JPEG, and the seed's corner
    assert set(result["skipped"]) == {"clip_i", "clip_t", "dino", "lpips"}


def test_a_data_set_folder_is_unpacked_and_then_the_same(magicbrush: Path, tmp_path: Path) -> None:
    """The same sessions as their authors publish train and dev: two files, any order of rows."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    hub, originals = tmp_path / "hub", magicbrush / "test" / "images"
    rows: list[dict[str, Any]] = []
    for name, turns in json.loads((magicbrush / "test" / "edit_sessions.json").read_text()).items():
        for number, turn in enumerate(turns, 1):
            cells = {f"{kind}_img": {"bytes": (originals / name / turn[key]).read_bytes(), "path": turn[key]}
                     for kind, key in (("source", "input"), ("target", "output"))}  # fmt: skip
            rows.append({"img_id": name, "turn_index": number, "instruction": turn["instruction"], **cells})
    rows.append(rows.pop(2))
    (hub / "data").mkdir(parents=True)
    for number, some in enumerate((rows[:4], rows[4:])):
        parquet.write_table(pyarrow.Table.from_pylist(some), hub / "data" / f"dev-0000{number}-of-00002-ab.parquet")
    result = run(hub, tmp_path / "out", Brush(), batch_size=4)
    whole = run(magicbrush, tmp_path / "whole", Brush())
    assert images(tmp_path / "out") == images(tmp_path / "whole")
    assert result["figures"]["final_turn.l1"]["value"] == pytest.approx(whole["figures"]["final_turn.l1"]["value"])
    assert run(hub, tmp_path / "out", Brush(deadline=0)) == result
    line = ["score", "magicbrush", "--results", str(tmp_path / "out" / "edited"), "--json"]
    line += ["--annotations", str(tmp_path / "out" / "data" / "edit_sessions.json")]
    assert json.loads(CliRunner().invoke(evaluate, line, catch_exceptions=False).stdout)["figures"] == result["figures"]
    parquet.write_table(pyarrow.Table.from_pylist(rows[-1:]), hub / "data" / "train-00000-of-00001.parquet")
    with pytest.raises(InputError, match=r"session 139 has the turns \[2\], expected 1 to 1"):
        run(hub, tmp_path / "o", Brush(), split="train")
    assert not (tmp_path / "o" / "data").exists()
    with pytest.raises(UsageError, match="ma5k: reads the official files only"):
        run(hub, tmp_path / "o", Brush(), name="ma5k")


def test_settings_on_the_command_line(magicbrush: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ["magicbrush", "--model", str(tmp_path / "none"), "--data", str(magicbrush), "--out", str(tmp_path / "o")]
    pytest.importorskip("lavit_pretrain")
    with pytest.raises(InputError, match="tokenizer"):
        CliRunner().invoke(evaluate, [*line, "--dry-run"], catch_exceptions=False)
    with monkeypatch.context() as patched:
        patched.setattr("lavit_evaluation.model.find_drawing_parts", lambda model, highres: {})
        with pytest.raises(InputError, match="no-clip"):
            CliRunner().invoke(evaluate, [*line, "--dry-run", "--clip-model", "no-clip"], catch_exceptions=False)
        shown = CliRunner().invoke(evaluate, [*line, "--set", "sample.top_k=3", "--dry-run", "--json"])
    plan = json.loads(shown.stdout)
    assert (plan["edits"], plan["expected"], set(plan["skipped"])) == (9, 9, {"clip_i", "clip_t", "dino", "lpips"})
    config = plan["config"]
    assert config["sample"] == {**load_preset("lavit_pretrain", "sample", "tiny"), "top_k": 3}
    assert config["draw"] == load_preset("lavit_detokenizer", "detokenize", "tiny")
    with pytest.raises(UsageError, match="unknown setting topk; did you mean top_k"):
        CliRunner().invoke(evaluate, [*line, "--set", "sample.topk=3"], catch_exceptions=False)
    with pytest.raises(InputError, match="tokenizer"):
        CliRunner().invoke(evaluate, line, catch_exceptions=False)
    assert not (tmp_path / "o").exists()


@pytest.fixture(scope="session")
def lpips_files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Random AlexNet weights and heads, in torchvision's and lpips' files."""
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("lpips")
    torch.manual_seed(0)
    layers = ((0, 64, 3, 11), (3, 192, 64, 5), (6, 384, 192, 3), (8, 256, 384, 3), (10, 256, 256, 3))
    trunk = {f"features.{n}.weight": torch.randn(out, inside, k, k) * 0.02 for n, out, inside, k in layers}
    trunk |= {f"features.{n}.bias": torch.zeros(out) for n, out, _, _ in layers}
    heads = {f"lin{n}.model.1.weight": torch.rand(1, row[1], 1, 1) for n, row in enumerate(layers)}
    torch.save(trunk, folder / "trunk.pth")
    torch.save(heads, folder / "heads.pth")
    return ["--lpips-trunk", str(folder / "trunk.pth"), "--lpips-heads", str(folder / "heads.pth")]


def test_a_real_model_with_real_metrics(
    models: dict[str, Path], tiny_clip: Path, lpips_files: list[str], shapes_data: Path, tmp_path: Path
) -> None:
    """Two sessions of drawn images, edited by a model of a few steps, in batches of one and of five."""
    data, files = tmp_path / "data", sorted((shapes_data / "heldout" / "images").iterdir())
    sessions: dict[str, list[dict[str, str]]] = {}
    for name, turns in (("1", 1), ("2", 2)):
        (data / "images" / name).mkdir(parents=True)
        sessions[name] = []
        for k in range(turns + 1):
            known = f"{name}-output{k}.png" if k else f"{name}-input.png"
            (data / "images" / name / known).write_bytes(files[int(name) + k].read_bytes())
            if k:
                before = f"{name}-output{k - 1}.png" if k > 1 else f"{name}-input.png"
                sessions[name].append({"input": before, "output": known, "instruction": "a red circle"})
    (data / "edit_sessions.json").write_text(json.dumps(sessions))
    texts = {n: {row["output"]: "a dog" for row in rows} for n, rows in sessions.items()}
    (data / "local_descriptions.json").write_text(json.dumps(texts))
    line = [
        "magicbrush",
        "--model",
        str(models["whole"]),
        "--data",
        str(data),
        "--clip-model",
        str(tiny_clip),
        "--json",
    ]
    line += [*lpips_files, "--set", "any_lpips=true", "--set", "sample.max_codes=6", "--set", "draw.num_steps=2"]
    line += ["--device", "cpu"]
    results = []
    for size in ("1", "5"):
        done = CliRunner().invoke(
            evaluate, [*line, "--batch-size", size, "--out", str(tmp_path / size)], catch_exceptions=False
        )
        results.append(json.loads(done.stdout))
    one, five = results
    names = sorted(images(tmp_path / "1"))
    assert names == sorted(images(tmp_path / "5")) == ["1_1.png", "2_1.png", "2_inde_2.png", "2_iter_2.png"]
    assert len(set(images(tmp_path / "1").values())) == 4
    for name in names:
        drawn = (Image.open(tmp_path / size / "edited" / name.partition("_")[0] / name) for size in ("1", "5"))
        first, other = (np.asarray(image).astype(int) for image in drawn)
        # Sums over other batches differ in their last bits: a value that lies between two may be rounded either way.
        assert np.abs(first - other).max() <= 1
        assert (first != other).mean() < 0.001
    for name, metric in one["figures"].items():
        assert metric["value"] == pytest.approx(five["figures"][name]["value"], abs=1e-3)
    metrics = {name.rpartition(".")[2] for name in one["figures"]}
    assert metrics == {"l1", "l2", "ssim", "clip_i", "clip_t", "clip_t_oracle", "lpips_other"}
    assert one["skipped"] == {"dino": "no DINO weights given (--dino DIR)"}
    assert one["protocol"]["name"] == "custom"
    assert one["generation"]["decoding"]["sample"]["max_codes"] == 6
    assert set(one["generation"]["model"]) == {"tokenizer", "llm", "detokenizer"}
    assert one["figures"]["final_turn.lpips_other"]["value"] > 0
    assert -1 <= one["figures"]["all_turn.clip_t"]["value"] <= 1
