"""COCO's captions drawn and scored: which captions, what is skipped and when it is said, kills, a real model."""

import dataclasses
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lavit_core.errors import InputError, UsageError
from lavit_evaluation.benchmarks.text_to_image import image_seed
from lavit_evaluation.cli import evaluate
from lavit_evaluation.compute import Compute
from lavit_evaluation.image_metrics import clip_score, coco_fid, coco_plan, fid
from lavit_evaluation.image_metrics.clip_score import Clip
from lavit_evaluation.image_metrics.coco_fid import run_coco_fid
from lavit_evaluation.image_metrics.coco_plan import (
    PUBLISHED,
    PUBLISHED_CLIP,
    CocoFidConfig,
    is_published,
    plan_coco_fid,
)
from lavit_evaluation.image_metrics.coco_prompts import choose_prompts, find_captions, real_images
from lavit_evaluation.image_metrics.fid import FidConfig, evaluate_fid, statistics
from lavit_evaluation.options import Files, MetricFiles
from lavit_scoring.references import read_references
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("torch")
NUM = 12
QUIET = Compute(quiet=True)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve images in COCO's layout; image n has two captions, every third a third one."""
    folder = tmp_path / "downloads"
    (folder / "val2014").mkdir(parents=True)
    (folder / "annotations").mkdir()
    rng = np.random.default_rng(0)
    images, rows = [], []
    for n in range(NUM):
        name = f"COCO_val2014_{n:012d}.jpg"
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / "val2014" / name)
        images.append({"id": n, "file_name": name})
        texts = [f"first of {n}", f"second\nof {n} ", f"third of {n}"][: 3 if n % 3 == 0 else 2]
        rows += [{"id": 10 * n + k, "image_id": n, "caption": text} for k, text in enumerate(texts)]
    content = {"images": images, "annotations": rows}
    (folder / "annotations" / "captions_val2014.json").write_text(json.dumps(content))
    return folder


def captions(data: Path):
    return read_references(data / "annotations" / "captions_val2014.json")


def test_one_caption_a_image_before_any_has_two(data: Path) -> None:
    every = choose_prompts(captions(data), 30_000, 0)
    assert len(every) == 2 * NUM + NUM // 3
    assert [len({prompt.image for prompt in every[a:b]}) for a, b in ((0, 12), (12, 24), (24, 28))] == [12, 12, 4]
    assert len({prompt.text for prompt in every}) == len(every)
    assert sum("second of" in prompt.text for prompt in every) == NUM  # the line break is a space
    assert {prompt.text.split()[-1] for prompt in every if prompt.image.endswith("7.jpg")} == {"7"}
    # Fewer are the first of more: a quick look draws images of the whole run.
    assert choose_prompts(captions(data), 5, 0) == every[:5]
    assert choose_prompts(captions(data), 30_000, 1) != every
    assert [prompt.name for prompt in every[:2]] == ["000000.png", "000001.png"]


def test_real_images_are_those_of_the_captions(data: Path) -> None:
    prompts = choose_prompts(captions(data), 15, 0)
    side = real_images(prompts, data, None)
    assert (side.root, len(side.keys)) == (data / "val2014", NUM)
    assert real_images(prompts[:5], data, None).keys == sorted(prompt.image for prompt in prompts[:5])
    (data / "val2014" / side.keys[3]).unlink()
    with pytest.raises(InputError, match=r"1 of 12 images are missing, say COCO_val2014_000000000003\.jpg"):
        real_images(prompts, data, None)


class Fake:
    """Draws noise of a prompt and its seed; remembers what it drew."""

    def __init__(self, deadline: int = 10**9) -> None:
        self.drawn: list[str] = []
        self.deadline = deadline
        self.metadata = {"precision": {"llm": "made up", "detokenizer": "made up"}}

    detokenizer = SimpleNamespace(config=SimpleNamespace(image_px=16))

    def generate(self, prompts: Sequence[str], *, seeds: Sequence[int], **settings: Any) -> list[np.ndarray]:
        if len(self.drawn) >= self.deadline:
            raise KeyboardInterrupt
        self.drawn += prompts
        rngs = (np.random.default_rng([seed, *prompt.encode()]) for prompt, seed in zip(prompts, seeds, strict=True))
        return [rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for rng in rngs]


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Files in the place of weights; what reads them is replaced by functions."""
    monkeypatch.setattr(coco_plan, "find_drawing_parts", lambda model, highres: {"model.llm": "0"})
    for module in (coco_plan, clip_score):
        monkeypatch.setattr(module, "load_clip", lambda folder, device, **options: clip())
    monkeypatch.setattr(fid, "load_network", lambda inception, config, device: simple)
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "model.safetensors").write_bytes(b"clip")
    (tmp_path / "weights.pth").write_bytes(b"inception")
    return {"inception": tmp_path / "weights.pth", "clip": tmp_path / "clip"}


def simple(images: list[np.ndarray]) -> np.ndarray:
    return np.stack([one.reshape(-1)[:8].astype(np.float32) / 255 for one in images])


def clip() -> Clip:
    def texts(said: Sequence[str]) -> np.ndarray:
        return np.array([[1.0, 0.0]] * len(said))

    metadata = {"clip_digests": {"model.safetensors": "0"}, "clip_shape": "small"}
    return Clip(images=lambda some: np.array([[0.6, 0.8]] * len(some)), texts=texts, image_px=8, metadata=metadata)


def run(data: Path, out: Path, fake: Fake, *, given: dict[str, Path] | None = None, quiet: bool = True, **more) -> dict:
    config = CocoFidConfig(any_inception=True, few=True, **more)
    plan = plan_coco_fid(out, Files(data=data), config, MetricFiles(**(given or {})))
    return run_coco_fid(plan, fake, out, config, compute=Compute(batch_size=5, device="cpu", quiet=quiet))


def test_drawn_and_scored(data: Path, weights: dict[str, Path], tmp_path: Path) -> None:
    fake = Fake()
    result = run(data, tmp_path / "out", fake, given=weights, prompts=14)
    assert len(fake.drawn) == 14
    assert list(result["figures"]) == ["fd", "kd", "clip_score", "clip_score.torchmetrics", "clip_score.cosine"]
    assert result["figures"]["clip_score"]["value"] == pytest.approx(1.5)
    assert result["pictures"] == {"generated": 14, "real": NUM}
    assert (result["complete"], result["skipped"]) == (True, {})
    assert result["notes"]["prompts"] == "14 captions; papers draw 30,000"
    assert result["generation"].items() >= {"image_px": 16, "best_of": 1, "best_of_clip": None}.items()
    assert result["generation"]["sample"]["guidance_scale"] == 1.5
    assert result["protocol"]["name"] == "custom"
    assert result["settings"]["llm_guidance"] == 1.5
    assert result["settings"]["preprocess"] == "torch-fidelity"
    assert result["inputs"]["inception"] == hashlib.sha256(b"inception").hexdigest()
    rows = [json.loads(line) for line in (tmp_path / "out/generated/captions.jsonl").read_text().splitlines()]
    assert [row["captions"][0] for row in rows] == fake.drawn
    assert (data / "val2014" / rows[0]["image"]).is_file()
    # The folder alone gives the same distance.
    again = evaluate_fid(
        tmp_path / "out" / "generated", tmp_path / "again", weights["inception"],
        FidConfig(any_inception=True, few=True), real=data / "val2014", compute=QUIET,
    )  # fmt: skip
    assert again["figures"]["fd"] == result["figures"]["fd"]


def test_what_is_skipped_is_said_before_anything_is_drawn(
    data: Path, weights: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "out", Fake(deadline=0), quiet=False)
    said = capsys.readouterr().err
    assert "fd: skipped: no Inception weights given (--inception FILE)" in said
    assert "clip_score: skipped: no CLIP given (--clip-model DIR)" in said
    config = CocoFidConfig(any_inception=True)
    few = plan_coco_fid(tmp_path, Files(data=data), config, MetricFiles(**weights))
    assert few.skipped == {"fd": "12 images, fewer than 2,048 features: the covariance has no full rank; "
                           "look at KID, or give --allow-small-sample"}  # fmt: skip
    drawn = Fake()
    result = run(data, tmp_path / "out", drawn)
    assert (len(drawn.drawn), result["figures"]) == (28, {})
    assert sorted(result["skipped"]) == ["clip_score", "fd", "kd"]


def test_weights_given_later_draw_nothing_again(data: Path, weights: dict[str, Path], tmp_path: Path) -> None:
    run(data, tmp_path / "out", Fake())
    rest = Fake(deadline=0)
    result = run(data, tmp_path / "out", rest, given=weights)
    assert rest.drawn == []
    assert list(result["figures"])[:3] == ["fd", "kd", "clip_score"]
    assert result["skipped"] == {}
    # A third time nothing is computed either.
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.safetensors")}
    assert run(data, tmp_path / "out", rest, given=weights)["figures"] == result["figures"]
    assert {file: file.stat().st_mtime_ns for file in files} == files


def test_killed_and_resumed(data: Path, weights: dict[str, Path], tmp_path: Path) -> None:
    whole = run(data, tmp_path / "whole", Fake(), given=weights)
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "out", Fake(deadline=10), given=weights)
    assert not (tmp_path / "out" / "generated" / "captions.jsonl").exists()
    rest = Fake()
    resumed = run(data, tmp_path / "out", rest, given=weights)
    assert len(rest.drawn) == 28 - 10
    assert resumed["figures"] == whole["figures"]
    images = {one: sorted((tmp_path / one / "generated").iterdir()) for one in ("whole", "out")}
    assert [file.read_bytes() for file in images["out"]] == [file.read_bytes() for file in images["whole"]]
    with pytest.raises(UsageError, match=r"started with config\.decoder_steps = 50, now it is 20"):
        run(data, tmp_path / "out", rest, given=weights, decoder_steps=20)


def test_fewer_are_partial(data: Path, weights: dict[str, Path], tmp_path: Path) -> None:
    result = run(data, tmp_path / "out", Fake(), given=weights, limit=4)
    assert (result["complete"], result["figures"]) == (False, {})
    assert result["partial"]["figures"]["clip_score"]["count"] == 4
    assert result["items"]["expected"] == 28


def test_statistics_instead_of_images(data: Path, weights: dict[str, Path], tmp_path: Path) -> None:
    config = FidConfig(any_inception=True, few=True)
    made = statistics(data / "val2014", weights["inception"], tmp_path / "s", config, compute=QUIET)
    given = {"inception": weights["inception"], "reference": Path(made["statistics"])}
    result = run(data, tmp_path / "out", Fake(), given=given)
    assert list(result["figures"]) == ["fd"]
    assert "give --real" in result["skipped"]["kd"]
    assert result["reference"]["size"] == 512


class Likes:
    """A CLIP that finds the brighter image nearer to any text."""

    def clip(self) -> Clip:
        def images(some: Sequence[np.ndarray]) -> np.ndarray:
            shade = np.array([one.mean() / 255 for one in some])
            return np.stack([shade, np.sqrt(1 - shade**2)], 1)

        metadata = {"clip_digests": {"m": "1"}, "clip_shape": "small"}
        return dataclasses.replace(clip(), images=images, image_px=16, metadata=metadata)


def test_the_best_of_four_is_kept(
    data: Path, weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lavit.reranking import candidate_seeds

    fake, config = Fake(), CocoFidConfig(prompts=6, best_of=4)
    plan = plan_coco_fid(tmp_path, Files(data=data), config, MetricFiles(rerank_clip=weights["clip"]))
    compute = Compute(batch_size=8, quiet=True)
    monkeypatch.setattr(coco_fid, "load_clip", lambda folder, device, **options: Likes().clip())
    result = run_coco_fid(plan, fake, tmp_path / "out", config, compute=compute)
    assert len(fake.drawn) == 4 * 6
    assert result["generation"]["best_of_clip"]["clip_shape"] == "small"
    assert result["inputs"]["best_of_clip.model.safetensors"] == "0"
    # Plainly: each candidate alone, the brightest stays; the first is the image that is drawn without candidates.
    for prompt in plan.prompts:
        seeds = candidate_seeds([image_seed(0, prompt.name)], 4)
        candidates = [Fake().generate([prompt.text], seeds=[seed])[0] for seed in seeds]
        kept = np.asarray(Image.open(tmp_path / "out" / "generated" / prompt.name))
        assert np.array_equal(kept, max(candidates, key=np.mean))
    for wrong in ({"best_of": 4}, {}):
        given = MetricFiles(rerank_clip=None if wrong else weights["clip"])
        with pytest.raises(UsageError, match=r"--best-of N .* and --rerank-clip-model DIR go together"):
            plan_coco_fid(tmp_path, Files(data=data), CocoFidConfig(**wrong), given)


def test_the_protocol_is_lavit_s_only_when_all_of_it_is(data: Path, weights: dict[str, Path], tmp_path: Path) -> None:
    metrics = MetricFiles(rerank_clip=weights["clip"])
    plan = plan_coco_fid(tmp_path, Files(data=data), PUBLISHED, metrics)
    assert not is_published(plan, PUBLISHED)
    whole = dataclasses.replace(plan, expected=30_000, chooser={"clip_shape": PUBLISHED_CLIP})
    assert is_published(whole, PUBLISHED)
    larger = dataclasses.replace(whole, settings={**whole.settings, "highres": True})
    assert not is_published(larger, PUBLISHED)  # the script draws with the smaller detokenizer
    assert not is_published(dataclasses.replace(whole, chooser={"clip_shape": "patch 32"}), PUBLISHED)
    for change in ({"top_k": 50}, {"best_of": 1}, {"preprocess": "clean-fid"}, {"prompts": 10_000}):
        assert not is_published(whole, PUBLISHED.model_copy(update=change))


def test_a_real_model_on_a_command_line(models: dict[str, Path], data: Path, tmp_path: Path) -> None:
    line = ["coco-fid", "--data", str(data), "--device", "cpu", "--limit", "3", "--set", "decoder_steps=2"]
    line += ["--model", str(models["whole"]), "--out", str(tmp_path / "out"), "--precision", "bf16"]
    plan = CliRunner().invoke(evaluate, [*line, "--dry-run", "--json"], catch_exceptions=False)
    assert json.loads(plan.stdout)["skipped"]["fid"] == "no Inception weights given (--inception FILE)"
    assert not (tmp_path / "out").exists()
    lacking = CliRunner().invoke(evaluate, [*line, "--highres", "--dry-run"]).exception
    assert "detokenizer-highres" in str(lacking)
    done = CliRunner().invoke(evaluate, [*line, "--json"], catch_exceptions=False)
    result = json.loads(done.stdout)
    assert result["partial"]["figures"] == {}
    assert result["generation"]["sample"]["top_k"] == 300
    assert result["generation"]["precision"] == {"llm": "bf16", "detokenizer": "bf16"}
    assert result["settings"].items() >= {"precision": "bf16", "highres": False}.items()
    assert result["generation"]["draw"].items() >= {"num_steps": 2, "guidance_scale": 1.5}.items()
    images = {file.name: file.read_bytes() for file in (tmp_path / "out" / "generated").glob("*.png")}
    assert sorted(images) == ["000000.png", "000001.png", "000002.png"]
    # One image that a kill left out is drawn again as it was.
    (tmp_path / "out" / "generated" / "000001.png").unlink()
    CliRunner().invoke(evaluate, line, catch_exceptions=False)
    again = np.asarray(Image.open(tmp_path / "out" / "generated" / "000001.png")).astype(int)
    assert np.abs(again - np.asarray(Image.open(io.BytesIO(images["000001.png"])))).max() <= 1


def test_a_folder_under_the_old_name_of_its_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--generated", str(tmp_path / "none"), "--out", str(tmp_path / "o")]
    done = CliRunner().invoke(evaluate, ["coco-fid", *line])
    assert "`coco-fid --generated` is now `fid --generated`" in done.stderr
    assert str(done.exception) == str(CliRunner().invoke(evaluate, ["fid", *line]).exception)
    assert "--inception is missing" in str(done.exception)


def test_options_that_do_not_go_together(data: Path, tmp_path: Path) -> None:
    def fails(*words: str) -> str:
        done = CliRunner().invoke(evaluate, [*words, "--out", str(tmp_path / "o")])
        assert done.exit_code == 2
        return " ".join(done.stderr.split())

    assert "--model" in fails("coco-fid")
    assert "--data" in fails("coco-fid", "--model", "m")
    assert "--generated" in fails("fid", "--inception", "i")
    for option in ("--clip-model", "--data", "--best-of"):
        assert f"No such option: {option}" in fails("fid", "--generated", "g", "--inception", "i", option, "1")
    assert "No such option: --highres" in fails("fid", "--generated", "g", "--highres", "--inception", "i")
    assert "No such option: --precision" in fails("fid", "--generated", "g", "--precision", "bf16", "--inception", "i")
    (data / "annotations" / "captions_val2014.json").unlink()
    with pytest.raises(InputError, match=r"no captions_val2014\.json or .*; download from"):
        find_captions(data, None)
