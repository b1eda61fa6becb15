"""The whole benchmark on models whose metrics are known beforehand."""

import copy
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lavit_core.errors import InputError, UsageError
from lavit_evaluation.compute import Compute
from lavit_evaluation.config import ShapesConfig
from lavit_evaluation.shapes.benchmark import eval_shapes
from lavit_evaluation.shapes.heldout import image_seeds
from PIL import Image

CONFIG = ShapesConfig(pictures=60, questions=300, token_pictures=100, random_pictures=40, samples=6, batch_size=16)


QUIET = Compute(quiet=True)


class Yes:
    """A model without images that always answers yes."""

    image_input, metadata = "none", {"model": {"llm": ""}}

    def answer(self, images: None, questions: Sequence[str], **decoding: Any) -> list[str]:
        return ["yes"] * len(questions)


def run(model: Any, data: Path, out: Path, config: ShapesConfig = CONFIG, **options: Any) -> dict:
    options = {"blind": Yes(), "compute": QUIET, **options}
    return eval_shapes(model, data, out / "score", config, **options)


def test_a_model_that_knows_the_scenes_gets_everything_right(oracle, shapes_data: Path, tmp_path: Path) -> None:
    result = run(oracle, shapes_data / "heldout", tmp_path)
    metrics = {name: metric["value"] for name, metric in result["figures"].items()}
    names = ("questions.all", "questions.kind.two_hop", "captions.everything", "real.everything",
             "reconstruction.everything", "reconstruction.everything.seen",
             "generation.everything", "generation.everything.unseen")  # fmt: skip
    for name in names:
        assert metrics[name] == 1.0, name
    assert metrics["blind.all"] < 0.35
    assert metrics["questions.above_blind"] == pytest.approx(metrics["questions.all"] - metrics["blind.all"])
    assert metrics["random.everything"] < 0.1
    assert metrics["reconstruction.psnr_db"] == 99.0
    assert metrics["reconstruction.centre_error_px"] < 0.7
    assert metrics["tokens.kept_on_shapes"] < 0.3
    assert metrics["tokens.kept_on_background"] == 0.0
    assert metrics["tokens.feature_error"] == 0.0
    assert 0.8 < metrics["tokens.feature_error_mean_predictor"] < 1.0
    assert metrics["tokens.code_usage"] == pytest.approx(101 / 300)
    assert result["skipped"] == {}
    assert result["figures"]["questions.all"]["count"] == 300
    assert result["figures"]["generation.everything.unseen"]["count"] == 30


def test_images_that_are_drawn_wide_are_judged_as_the_squares_they_show(
    oracle, shapes_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = oracle.decode

    def wide(*given: Any) -> list[Image.Image]:
        return [Image.fromarray(np.asarray(image)).resize((128, 64)) for image in decode(*given)]

    monkeypatch.setattr(oracle, "decode", wide)
    result = run(oracle, shapes_data / "heldout", tmp_path)
    metrics = {name: metric["value"] for name, metric in result["figures"].items()}
    assert metrics["reconstruction.everything"] == metrics["generation.everything"] == 1.0
    assert metrics["reconstruction.psnr_db"] > 30
    assert metrics["reconstruction.centre_error_px"] < 0.7


def test_a_guessing_model_is_near_chance(guesser: Any, shapes_data: Path, tmp_path: Path) -> None:
    result = run(guesser, shapes_data / "heldout", tmp_path, train_data=shapes_data / "train", blind=None)
    metrics = {name: metric["value"] for name, metric in result["figures"].items()}
    assert metrics["questions.all"] < 0.2
    assert metrics["captions.everything"] < 0.1
    assert metrics["generation.everything"] < 0.1
    assert metrics["majority.all"] > metrics["questions.all"]
    assert result["notes"]["majority"] == "training questions"
    assert set(result["skipped"]) == {"blind"}


def test_of_several_drawings_the_one_that_reads_as_the_prompt_is_kept(
    oracle, scene_rows: list[dict], shapes_data: Path, tmp_path: Path
) -> None:
    firsts = set(image_seeds([row["file_name"] for row in scene_rows], "sample", 0))

    class Candidates(type(oracle)):
        """The first drawing of each prompt shows another scene."""

        def sample(self, prompts: Sequence[str], seeds: Sequence[int], settings: Any, batch_size: int) -> list:
            right = [self.by_prompt[prompt] for prompt in prompts]
            return [np.array([(own + (seed in firsts)) % 200]) for own, seed in zip(right, seeds, strict=True)]

        def score(self, images: Sequence[np.ndarray], texts: Sequence[str]) -> np.ndarray:
            shown = [self.row_of(image)["prompt"] for image in images]
            return np.array([0.0 if one == text else -9.0 for one, text in zip(shown, texts, strict=True)])

    model = Candidates(shapes_data / "heldout", oracle.rows, oracle.images)
    result = run(model, shapes_data / "heldout", tmp_path, CONFIG.model_copy(update={"best_of": 3}))
    metrics = {name: metric["value"] for name, metric in result["figures"].items()}
    assert metrics["generation_first.everything"] < 0.1
    assert metrics["generation.everything"] == 1.0
    assert result["figures"]["generation.everything"]["count"] == 60


def test_score_file_says_what_was_measured_and_samples_lie_beside_it(oracle, shapes_data: Path, tmp_path: Path) -> None:
    result = run(oracle, shapes_data / "heldout", tmp_path)
    assert json.loads((tmp_path / "score" / "score.json").read_text()) == result
    assert result["protocol"] == {"name": "lavit-shapes", "version": 1}
    assert result["settings"] == {**CONFIG.model_dump(), "precision": "auto", "seed": 0}
    assert len(result["inputs"]["data"]) == 64
    assert "numpy" in result["versions"]
    for metric in result["figures"].values():
        assert set(metric) == {"value", "count", "low", "high"}
        assert metric["low"] is None or metric["low"] <= metric["value"] <= metric["high"]
    samples = json.loads((tmp_path / "score" / "samples.json").read_text())
    assert set(samples) == {"questions", "captions", "reconstruction", "generation", "random"}
    assert [row["combination"] for row in samples["generation"][:2]] == ["seen", "unseen"]
    row = samples["reconstruction"][0]
    assert np.asarray(Image.open(tmp_path / "score" / row["original"])).shape == (64, 64, 3)
    assert len(row["kept"]) == 64
    assert len({row["kind"] for row in samples["questions"]}) == 6


def test_the_same_command_again_returns_the_finished_score(oracle, shapes_data: Path, tmp_path: Path) -> None:
    first = run(oracle, shapes_data / "heldout", tmp_path)
    assert run(Dying(oracle, 0), shapes_data / "heldout", tmp_path) == first
    with pytest.raises(UsageError, match="seed"):
        run(oracle, shapes_data / "heldout", tmp_path, seed=1)
    with pytest.raises(UsageError, match="precision"):
        run(oracle, shapes_data / "heldout", tmp_path, compute=Compute(quiet=True, precision="bf16"))


class Dying:
    """Counts the images, texts or codes that a model is asked for, and is killed before it answers more than `most`."""

    def __init__(self, model: Any, most: int = sys.maxsize) -> None:
        self.model, self.left, self.most = model, most, most

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.model, name)
        if name not in ("encode", "answer", "caption", "sample", "decode", "score"):
            return value

        def method(*arguments: Any, **options: Any) -> Any:
            self.left -= len(arguments[-1] if name == "answer" else arguments[0])
            if self.left < 0:
                raise KeyboardInterrupt
            return value(*arguments, **options)

        return method


@pytest.mark.parametrize("most", [40, 170, 330, 390, 450, 510, 560])
def test_killed_in_any_section_and_resumed_is_the_same_and_asks_nothing_twice(
    oracle, shapes_data: Path, tmp_path: Path, most: int
) -> None:
    small = CONFIG.model_copy(update={"questions": 200})
    every = Dying(oracle)
    whole = run(every, shapes_data / "heldout", tmp_path / "whole", small)
    asked = every.most - every.left
    assert asked > 560  # else the last kill would come too late
    with pytest.raises(KeyboardInterrupt):
        run(Dying(oracle, most), shapes_data / "heldout", tmp_path, small)
    rest = Dying(oracle, asked - most + small.batch_size)
    result = run(rest, shapes_data / "heldout", tmp_path, small)
    assert result["figures"] == whole["figures"]
    for name in ("samples.json", "samples/generation-000-picture.png"):
        assert (tmp_path / "score" / name).read_bytes() == (tmp_path / "whole" / "score" / name).read_bytes()
    assert not (tmp_path / "score" / "unfinished").exists()


def test_wrong_inputs_do_not_claim_the_run_directory(oracle, shapes_data: Path, tmp_path: Path) -> None:
    seeing = type("Seeing", (Yes,), {"image_input": "codes"})()
    with pytest.raises(InputError, match="expected 'none'"):
        run(oracle, shapes_data / "heldout", tmp_path, blind=seeing)
    with pytest.raises(InputError, match=r"m: no such directory; `lavit train-tokenizer` makes"):
        run(tmp_path / "m", shapes_data / "heldout", tmp_path, blind=None)
    (tmp_path / "m").mkdir()
    with pytest.raises(InputError, match="no tokenizer/ here"):
        run(tmp_path / "m", shapes_data / "heldout", tmp_path, blind=None)
    assert not (tmp_path / "score").exists()


def test_a_missing_stage_is_named_with_its_pip_line(
    shapes_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lavit_tokenizer.api", None)
    (tmp_path / "m" / "tokenizer").mkdir(parents=True)
    with pytest.raises(InputError, match=r"needs lavit-tokenizer, which is not installed; run `pip install"):
        eval_shapes(tmp_path / "m", shapes_data / "heldout", tmp_path / "score", CONFIG, compute=QUIET)


def test_metrics_do_not_depend_on_the_batch_size(oracle, shapes_data: Path, tmp_path: Path) -> None:
    small = ShapesConfig(pictures=20, questions=50, token_pictures=20, random_pictures=10, batch_size=7)
    one = run(oracle, shapes_data / "heldout", tmp_path / "a", small)
    other = run(oracle, shapes_data / "heldout", tmp_path / "b", small.model_copy(update={"batch_size": 20}))
    same = {name for name in one["figures"] if one["figures"][name] == other["figures"][name]}
    assert same >= {name for name in one["figures"] if not name.startswith("tokens.feature_error")}


def test_photos_without_scenes_get_what_can_be_said_of_them(oracle, shapes_data: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "images").symlink_to(shapes_data / "heldout" / "images")
    for name in ("captions.jsonl", "questions.jsonl"):
        (photos / name).write_text((shapes_data / "heldout" / name).read_text())
    result = run(oracle, photos, tmp_path)
    assert set(result["skipped"]) == {"captions", "real", "generation", "random"}
    assert result["figures"]["questions.all"]["value"] == 1.0
    assert result["figures"]["reconstruction.psnr_db"]["count"] == 60
    assert "reconstruction.everything" not in result["figures"]
    assert "captions.everything" not in result["figures"]
    samples = json.loads((tmp_path / "score" / "samples.json").read_text())
    assert len(samples["generation"]) == len(samples["captions"]) == 6
    assert samples["generation"][0]["prompt"] == samples["captions"][0]["expected"]
    assert "right" not in samples["generation"][0]
    assert (tmp_path / "score" / samples["generation"][0]["picture"]).exists()


class Remembers:
    """Answers what was answered in the turn before."""

    def __init__(self) -> None:
        self.images: list[int] = []
        """How many images each call had, the same object counted once: as often as `LaVIT.answer` encodes one."""

    def answer(self, images: Any, questions: Sequence[str], *, earlier: Sequence[Any], **decoding: Any) -> list[str]:
        self.images.append(len({id(image) for image in images or ()}))
        return [turns[-1][1] for turns in earlier]


def test_earlier_turns_reach_the_models(oracle, shapes_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "images").symlink_to(shapes_data / "heldout" / "images")
    row = {"question": "and now?", "answer": "word", "file_name": "images/000000.png"}
    asked = [
        {**row, "question_id": number, "answer": f"word {number}", "earlier": [["say it", f"word {number}"]]}
        for number in range(4)
    ]
    (data / "questions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
    model, blind = copy.copy(oracle), Yes()
    seeing = Remembers()
    model.answer, blind.answer = seeing.answer, Remembers().answer  # type: ignore[method-assign]
    found = run(model, data, tmp_path, blind=blind)["figures"]
    assert (found["questions.all"]["value"], found["questions.all"]["count"]) == (1.0, 4)
    assert found["blind.all"]["value"] == 1.0
    assert set(seeing.images) == {1}, "an image is encoded once for all of its questions"


def test_a_model_without_a_detokenizer_is_scored_on_what_it_has(oracle, shapes_data: Path, tmp_path: Path) -> None:
    model = copy.copy(oracle)
    model.metadata = {"model": {"tokenizer": ""}}
    result = run(model, shapes_data / "heldout", tmp_path, blind=None)
    assert set(result["skipped"]) == {"blind", "questions", "captions", "reconstruction", "generation", "random"}
    assert result["figures"]["real.everything"]["value"] == 1.0


def test_a_broken_scene_is_named(oracle, shapes_data: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "images").symlink_to(shapes_data / "heldout" / "images")
    (broken / "captions.jsonl").write_text((shapes_data / "heldout" / "captions.jsonl").read_text())
    (broken / "scenes.jsonl").write_text('{"file_name": "images/000000.png"}\n')
    with pytest.raises(InputError, match=r"scenes.jsonl:1: not a scene"):
        run(oracle, broken, tmp_path)
