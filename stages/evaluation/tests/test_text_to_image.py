"""Images drawn into a folder: killed at any image, in any batches, the same bytes; nothing drawn twice."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lavit_core.errors import InputError, Interrupted, UsageError
from lavit_evaluation import stores
from lavit_evaluation.benchmarks.text_to_image import draw_images, image_seed, write_captions
from lavit_evaluation.compute import Compute
from lavit_evaluation.evaluation_session import EvaluationSession
from lavit_evaluation.model import drawer, find_drawing_parts, open_model
from PIL import Image

PROMPTS = {f"{n:02d}.png": f"image {n}" for n in range(10)}


class Painter:
    """Noise of a prompt and its seed; remembers what it drew."""

    def __init__(self, deadline: int = 10**9) -> None:
        self.drawn: list[str] = []
        self.calls, self.deadline = 0, deadline

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        self.calls += 1
        images = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            if len(self.drawn) >= self.deadline:
                raise KeyboardInterrupt
            self.drawn.append(prompt)
            rng = np.random.default_rng([seed, *prompt.encode()])
            images.append(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        return images


def fill(folder: Path, painter: Painter, *, seed: int = 0, batch_size: int = 16, stop: Any = lambda: False) -> int:
    """Draw what is missing and return how many that were."""
    before = len(painter.drawn)
    draw_images(EvaluationSession(None, "t", stop, quiet=True), folder, PROMPTS, painter.draw, seed=seed,
                batch_size=batch_size)  # fmt: skip
    return len(painter.drawn) - before


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    painter = Painter()
    assert fill(tmp_path / "whole", painter, batch_size=10) == 10
    assert painter.drawn == list(PROMPTS.values())
    return tmp_path / "whole"


def test_every_image_is_its_own_draw(whole: Path) -> None:
    assert sorted(contents(whole)) == sorted(PROMPTS)
    assert len(set(contents(whole).values())) == 10
    expected = Painter().draw(["image 7"], [image_seed(0, "07.png")])[0]
    assert np.array_equal(np.asarray(Image.open(whole / "07.png")), expected)


@pytest.mark.parametrize(("deadline", "batch_size"), [(0, 4), (3, 2), (7, 1), (9, 3)])
def test_a_killed_job_goes_on_with_the_next_image(whole: Path, tmp_path: Path, deadline: int, batch_size: int):
    out, killed, rest = tmp_path / "out", Painter(deadline), Painter()
    with pytest.raises(KeyboardInterrupt):
        fill(out, killed, batch_size=batch_size)
    kept = len(contents(out)) if out.exists() else 0
    assert kept == deadline // batch_size * batch_size
    assert fill(out, rest, batch_size=4) == 10 - kept == len(rest.drawn)
    assert contents(out) == contents(whole)


def test_killed_between_two_files_of_a_batch(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    write = stores.write_bytes

    def dying(path: Path, content: bytes) -> None:
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(path)
        write(path, content)

    monkeypatch.setattr(stores, "write_bytes", dying)
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "out", Painter(), batch_size=4)
    monkeypatch.undo()
    rest = Painter()
    fill(tmp_path / "out", rest, batch_size=4)
    assert rest.drawn == list(PROMPTS.values())[5:]
    assert contents(tmp_path / "out") == contents(whole)


def test_a_stop_reports_how_far_the_job_is(tmp_path: Path) -> None:
    painter = Painter()
    with pytest.raises(Interrupted, match=r"t: after 4 of 10 images; run the same command to go on"):
        fill(tmp_path / "out", painter, batch_size=4, stop=lambda: len(painter.drawn) >= 4)
    assert len(contents(tmp_path / "out")) == 4


def test_a_full_folder_asks_no_model(whole: Path) -> None:
    painter = Painter()
    assert fill(whole, painter) == 0
    assert painter.calls == 0


def test_another_seed_is_another_image(whole: Path, tmp_path: Path) -> None:
    fill(tmp_path / "other", Painter(), seed=1)
    assert not set(contents(tmp_path / "other").values()) & set(contents(whole).values())


def test_captions_are_what_the_scorers_read(whole: Path) -> None:
    from lavit_core.data import open_data
    from lavit_evaluation.image_metrics.clip_score import read_prompts

    write_captions(whole, PROMPTS, {"03.png": {"image": "COCO_val2014_000000000042.jpg"}})
    assert read_prompts(whole / "captions.jsonl") == PROMPTS
    assert [record.captions for record in open_data(whole).records] == [(text,) for text in PROMPTS.values()]
    assert json.loads((whole / "captions.jsonl").read_text().splitlines()[3])["image"].endswith("42.jpg")


def test_a_real_model_draws_a_prompt_alone_as_among_others(models: dict[str, Path], shapes_data: Path) -> None:
    assert sorted(find_drawing_parts(models["whole"])) == ["model.detokenizer", "model.llm", "model.tokenizer"]
    with pytest.raises(InputError, match="no detokenizer/ here"):
        find_drawing_parts(models["seeing"])
    lavit = open_model(models["whole"], None, Compute(device="cpu"))
    draw, record = drawer(lavit, {"top_k": 300, "guidance_scale": 1.5, "max_codes": 9}, {"num_steps": 2})
    image = next((shapes_data / "train" / "images").glob("*.png"))
    prompts = ["a red circle", [image, "make it green and much larger"], "a blue square above it"]
    together = list(map(np.asarray, draw(prompts, [5, 6, 7])))
    for place, prompt in enumerate(prompts):
        alone = np.asarray(draw([prompt], [5 + place])[0])
        assert (alone.shape, alone.dtype) == ((64, 64, 3), np.uint8)
        # The order of floating-point additions may turn a last bit.
        assert np.abs(alone.astype(int) - together[place].astype(int)).max() <= 1
    assert not np.array_equal(together[0], np.asarray(draw(prompts[:1], [8])[0]))
    assert record()["sample"]["top_k"] == 300
    assert record()["precision"] == {"llm": "fp32", "detokenizer": "fp32"}
    with pytest.raises(UsageError, match="unknown setting guidance"):
        drawer(lavit, {"guidance": 1}, {})
