"""Retrieval on a planted matrix with known ranks, killed and resumed, and on a real model."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from lavit_evaluation.benchmarks import retrieval as module
from lavit_evaluation.benchmarks.ranking import ranks_by_codes, ranks_by_text, recalls
from lavit_evaluation.benchmarks.retrieval import RetrievalConfig, run_retrieval
from lavit_evaluation.cli import evaluate
from lavit_evaluation.compute import Compute
from lavit_evaluation.options import Files
from PIL import Image
from typer.testing import CliRunner

NUM = 20


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twenty images of a shade each; every caption is two words, the second tells which."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    rows = []
    for n in range(NUM):
        Image.new("RGB", (16, 16), (10 * n + 5,) * 3).save(folder / "images" / f"{n:02d}.png")
        rows.append({"file_name": f"images/{n:02d}.png", "captions": [f"shade {n}", f"grey {n}", "left out"]})
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


class Planted:
    """Right captions get 0, others -1; caption of image 3 is likely after anything. The same of codes: image n has
    n + 1 of them, and a longer image is less likely after anything."""

    def __init__(self, deadline: int = 10**9) -> None:
        self.seen, self.deadline = 0, deadline

    image_px, image_input, metadata = 16, "made up", {"model": {"llm": "0"}, "precision": {"llm": "made up"}}

    def count_tokens(self, texts: Sequence[str]) -> np.ndarray:
        return np.full(len(texts), 3)

    def encode(self, images: Sequence[np.ndarray]) -> SimpleNamespace:
        return SimpleNamespace(codes=[np.full(int(one.mean()) // 10 + 1, 7) for one in images])

    def score_codes(
        self, texts: Sequence[str], codes: Sequence[np.ndarray], *, all_pairs: bool, batch_size: int
    ) -> np.ndarray:
        return np.stack(list(self.code_likelihoods(texts, codes)))

    def score(
        self, images: Sequence[np.ndarray], texts: Sequence[str], *, all_pairs: bool, batch_size: int
    ) -> np.ndarray:
        return np.stack(list(self.likelihoods(images, texts)))

    def code_likelihoods(self, texts: Sequence[str], images: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        prior = np.array([-5.0 * len(codes) for codes in images])
        for text in texts:
            self.seen += 1
            if self.seen > self.deadline:
                raise KeyboardInterrupt
            right = np.array([text.endswith(f" {len(codes) - 1}") for codes in images])
            yield prior + (np.where(right, 1.0, -1.0) if text else 0.0)

    def likelihoods(self, pixels: Sequence[np.ndarray], texts: Sequence[str]) -> Iterator[np.ndarray]:
        for image in pixels:
            self.seen += 1
            if self.seen > self.deadline:
                raise KeyboardInterrupt
            number = int(image.mean()) // 10
            means = [int(text.split()[1]) for text in texts]
            yield np.array([(0.0 if n == number else -1.0) + 5.0 * (n == 3) for n in means])


def run(data: Path, out: Path, planted: Planted, **more: int | float | str) -> dict:
    config = RetrievalConfig(captions_per_image=2, **more)
    files, compute = Files(data=data, annotations=data / "captions.jsonl"), Compute(batch_size=64, quiet=True)
    name = "flickr30k-retrieval"
    return run_retrieval(name, planted, files, out, config, compute=compute)


def test_planted_likelihoods(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "out", Planted())
    values = {name: metric["value"] for name, metric in result["figures"].items()}
    assert values["text_to_image.r@1"] == 100.0
    # Two captions of image 3 stand before all others' until what every image says is taken away.
    assert values["image_to_text.r@1"] == 5.0
    assert values["image_to_text.r@5"] == 100.0
    assert values["image_to_text.debiased.r@1"] == 100.0
    assert result["figures"]["text_to_image.r@1"]["count"] == 2 * NUM
    assert result["gallery"] == {"pictures": NUM, "captions": 2 * NUM}
    assert result["complete"] is True


def test_ties_count_against_the_model() -> None:
    ranks = ranks_by_text(np.zeros((4, 4)), np.arange(4), np.ones(4))
    ranks |= ranks_by_codes(np.zeros((4, 4)), np.zeros(4), np.arange(4), 1.0)
    metrics = recalls(ranks, np.arange(4), list("abcd"), 0)
    assert {metric.value for name, metric in metrics.items() if name.endswith("r@1")} == {0.0}


def test_debiasing_by_hand() -> None:
    # Image 0 is likely after anything; less what a bare [IMG] makes of it, each caption finds its own.
    log_p_MI = np.array([[-1.0, -9.0, -10.0], [-2.0, -6.0, -10.0], [-2.0, -9.0, -7.0]])
    prior_I = np.array([-2.0, -9.0, -10.0])
    ranks = ranks_by_codes(log_p_MI, prior_I, np.arange(3), 1.0)
    assert ranks["text_to_image.codes"].tolist() == [0, 1, 1]
    assert ranks["text_to_image.codes.debiased"].tolist() == [0, 0, 0]
    assert ranks["image_to_text.codes"].tolist() == [0, 0, 0]
    undone = ranks_by_codes(log_p_MI, prior_I, np.arange(3), 0.0)
    assert np.array_equal(undone["text_to_image.codes.debiased"], ranks["text_to_image.codes"])


def test_killed_and_resumed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD", 4)
    whole = run(data, tmp_path / "whole", Planted())
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "out", Planted(deadline=10))
    rest = Planted(deadline=NUM - 8)
    assert run(data, tmp_path / "out", rest)["figures"] == whole["figures"]


def test_planted_codes(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "out", Planted(), likelihood="codes")
    values = {name: metric["value"] for name, metric in result["figures"].items()}
    # The shorter image wins until its length is taken away: only image 0 is found.
    assert values["text_to_image.codes.r@1"] == 5.0
    assert values["text_to_image.codes.r@10"] == 50.0
    assert values["text_to_image.codes.debiased.r@1"] == 100.0
    assert values["image_to_text.codes.r@1"] == 100.0
    assert not any(name.startswith("text_to_image.r") for name in values)
    weaker = run(data, tmp_path / "half", Planted(), likelihood="codes", eta=0.5)
    assert weaker["figures"]["text_to_image.codes.debiased.r@1"]["value"] == 5.0


def test_both_are_the_two_together(data: Path, tmp_path: Path) -> None:
    parts = {name: run(data, tmp_path / name, Planted(), likelihood=name)["figures"] for name in ("text", "codes")}
    assert run(data, tmp_path / "both", Planted(), likelihood="both")["figures"] == parts["text"] | parts["codes"]


def test_codes_killed_and_resumed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD", 4)
    whole = run(data, tmp_path / "whole", Planted(), likelihood="codes")
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "out", Planted(deadline=10), likelihood="codes")
    rest = Planted(deadline=2 * NUM + 1 - 8)
    assert run(data, tmp_path / "out", rest, likelihood="codes")["figures"] == whole["figures"]
    assert rest.seen == rest.deadline


def test_fewer_images_are_partial(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "out", Planted(), limit=5)
    assert (result["complete"], result["figures"]) == (False, {})
    assert result["partial"]["figures"]["text_to_image.r@1"]["value"] == 100.0


def test_a_real_model(models: dict[str, Path], data: Path, tmp_path: Path) -> None:
    line = ["flickr30k-retrieval", "--model", str(models["seeing"]), "--data", str(data), "--device", "cpu", "--json"]
    line += ["--annotations", str(data / "captions.jsonl"), "--limit", "4", "--out", str(tmp_path / "o")]
    done = CliRunner().invoke(evaluate, line)
    assert done.exit_code == 0, done.exception
    metrics = json.loads(done.stdout)["partial"]["figures"]
    assert metrics["text_to_image.r@10"] == {"value": 100.0, "count": 12, "low": 100.0, "high": 100.0}
    assert 0 <= metrics["image_to_text.r@1"]["value"] <= 100
    assert "text_to_image.codes.r@1" not in metrics
    done = CliRunner().invoke(evaluate, [*line[:-1], str(tmp_path / "both"), "--likelihood", "both"])
    assert done.exit_code == 0, done.exception
    both = json.loads(done.stdout)["partial"]["figures"]
    assert both.items() >= metrics.items()
    assert both["text_to_image.codes.debiased.r@10"]["value"] == 100.0
