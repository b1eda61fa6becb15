"""Images of the generation benchmarks: the official layouts, equal bytes after any kill, other words for prompts."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lavit_core.errors import InputError, Interrupted, UsageError
from lavit_evaluation.cli import evaluate
from lavit_evaluation.compute import Compute
from lavit_evaluation.generation import run_generation as module
from lavit_evaluation.generation.config import GenerationConfig
from lavit_evaluation.generation.layouts import compose
from lavit_evaluation.generation.run_generation import plan_generation, run_generation
from lavit_scoring import ScoringTask, find_benchmark, score_file
from PIL import Image
from typer.testing import CliRunner

GENEVAL, DPG = find_benchmark("geneval"), find_benchmark("dpg-bench")
ROWS = [
    {"tag": "single_object", "include": [{"class": "dog", "count": 1}], "prompt": "a photo of a dog"},
    {"tag": "counting", "include": [{"class": "cat", "count": 2}], "exclude": [{"class": "cat", "count": 3}],
     "prompt": "a photo of two cats"},
    {"tag": "colors", "include": [{"class": "car", "count": 1, "color": "red"}], "prompt": "a photo of a red car"},
]  # fmt: skip
SIX_PX = (6, 6, 3)


def put_lines(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The prompts of both benchmarks."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    put_lines(folder / "evaluation_metadata.jsonl", ROWS)
    with (folder / "dpg_bench.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "text", "proposition_id", "dependency", "tuple", "question_natural_language"])
        for name, text in (("COCOval2014000000000368", "A dog, and\na sofa."), ("midjourney1", "Two cats.")):
            for number in (1, 2):
                writer.writerow([name, text, number, "0", f"entity - whole ({number})", f"Is {number} there?"])
    return folder


class Painter:
    """Noise of a prompt and its seed, with one level that depends on who else is in the batch, as floating-point sums
    do; ends after `deadline` images."""

    image_px = 6

    def __init__(self, deadline: int = 10**9) -> None:
        self.batches: list[list[str]] = []
        self.deadline = deadline

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        if sum(map(len, self.batches)) + len(prompts) > self.deadline:
            raise KeyboardInterrupt
        self.batches.append(list(prompts))
        images = []
        for place, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            pixels = np.random.default_rng([seed, *prompt.encode()]).integers(0, 200, SIX_PX, dtype=np.uint8)
            pixels[0, 0] = 10 * len(prompts) + place
            images.append(pixels)
        return images


@pytest.fixture
def painter(monkeypatch: pytest.MonkeyPatch) -> Painter:
    """Takes the place of what opens a model and draws with it."""
    one = Painter()
    monkeypatch.setattr(module, "find_drawing_parts", lambda model, highres: {"model.llm": "1" * 64})
    monkeypatch.setattr(module, "open_model", lambda *given, **options: None)
    monkeypatch.setattr(module, "drawer", lambda *given: (one.draw, lambda: {"sample": {}, "draw": {}, "image_px": 6}))
    return one


def run(benchmark: Any, data: Path, out: Path, *, batch_size: int = 5, rewritten: Path | None = None, **settings: Any):
    config = GenerationConfig.model_validate(settings)
    plan = plan_generation(benchmark, data, config, rewritten=rewritten)
    compute = Compute(batch_size=batch_size, quiet=True)
    return run_generation(benchmark, Path("M"), plan, out, config, compute=compute)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_geneval_has_the_official_layout(painter: Painter, data: Path, tmp_path: Path) -> None:
    result = run(GENEVAL, data, tmp_path / "o")
    images = files(tmp_path / "o" / "images")
    expected = {f"{row:05d}/samples/{image:04d}.png" for row in range(3) for image in range(4)}
    assert set(images) == expected | {f"{row:05d}/metadata.jsonl" for row in range(3)}
    # evaluate_images.py reads the whole file as one object, and hands it on as `metadata`.
    assert [json.loads(images[f"{row:05d}/metadata.jsonl"]) for row in range(3)] == ROWS
    assert len({content for name, content in images.items() if name.endswith("png")}) == 12
    assert painter.batches[0] == ["a photo of a dog"] * 4 + ["a photo of two cats"]
    assert (result["complete"], result["images_per_prompt"], result["prompts"]["words"]) == (True, 4, "original")


def test_a_dpg_image_is_a_square_of_four(painter: Painter, data: Path, tmp_path: Path) -> None:
    run(DPG, data, tmp_path / "four", batch_size=4)
    run(DPG, data, tmp_path / "one", images_per_prompt=1)
    images = tmp_path / "four" / "images"
    assert sorted(files(images)) == ["COCOval2014000000000368.png", "midjourney1.png"]
    whole = np.asarray(Image.open(images / "midjourney1.png"))
    assert whole.shape == (12, 12, 3)
    # The script's crops: (0, 0), (px, 0), (0, px), (px, px) as left and top.
    assert [whole[top, left, 0] for left, top in ((0, 0), (6, 0), (0, 6), (6, 6))] == [40, 41, 42, 43]
    assert np.asarray(Image.open(tmp_path / "one" / "images" / "midjourney1.png")).shape == SIX_PX
    assert painter.batches[0] == ["A dog, and\na sofa."] * 4
    with pytest.raises(UsageError, match="images_per_prompt 5: the judge of this benchmark takes at most 4"):
        run(DPG, data, tmp_path / "five", images_per_prompt=5)
    assert compose([np.ones(SIX_PX, np.uint8)] * 3)[6:, 6:].max() == 0


@pytest.mark.parametrize("deadline", [0, 5, 7])
@pytest.mark.parametrize("benchmark", [GENEVAL, DPG], ids=["geneval", "dpg"])
def test_a_killed_run_ends_with_the_bytes_of_a_whole_one(
    painter: Painter, data: Path, tmp_path: Path, benchmark: Any, deadline: int
) -> None:
    run(benchmark, data, tmp_path / "whole")
    painter.batches.clear()
    painter.deadline = deadline
    with pytest.raises(KeyboardInterrupt):
        run(benchmark, data, tmp_path / "killed")
    painter.deadline = 10**9
    if images := sorted((tmp_path / "killed" / "images").rglob("*.png")):
        images[-1].unlink()  # a kill between two files of a batch
    run(benchmark, data, tmp_path / "killed")
    assert files(tmp_path / "killed" / "images") == files(tmp_path / "whole" / "images")
    for name in ("captions.jsonl", "generation.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    drawn = len(painter.batches)
    run(benchmark, data, tmp_path / "killed")
    assert len(painter.batches) == drawn  # a whole set asks no model


def test_a_stop_says_how_far_it_is(
    painter: Painter, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lavit_evaluation import evaluation_session

    class Signals:
        def __enter__(self) -> Any:
            return lambda: len(painter.batches) == 1

        def __exit__(self, *given: object) -> None: ...

    monkeypatch.setattr(evaluation_session, "stop_signals", Signals)
    with pytest.raises(Interrupted, match="eval geneval: after 5 of 12 images; run the same command to go on"):
        run(GENEVAL, data, tmp_path / "o")


def test_a_finished_set_keeps_the_versions_that_drew_it(
    painter: Painter, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run(GENEVAL, data, tmp_path / "o")
    before = files(tmp_path / "o")
    monkeypatch.setattr(module, "versions", lambda: {"lavit": "99"})
    assert run(GENEVAL, data, tmp_path / "o") == made
    assert files(tmp_path / "o") == before


def test_seeds_come_from_names(painter: Painter, data: Path, tmp_path: Path) -> None:
    run(GENEVAL, data, tmp_path / "whole")
    run(GENEVAL, data, tmp_path / "some", limit=1)
    [name] = [path.name for path in (tmp_path / "some" / "images").iterdir()]
    for image in ("0000.png", "0003.png"):
        one, other = (
            np.asarray(Image.open(tmp_path / run / "images" / name / "samples" / image)) for run in ("some", "whole")
        )
        assert np.array_equal(one[1:], other[1:])  # all but what depends on the batch
    record = json.loads((tmp_path / "some" / "generation.json").read_text())
    assert (record["complete"], record["prompts"]["drawn"], record["prompts"]["expected"]) == (False, 1, 3)


def test_other_words_are_drawn_and_told(painter: Painter, data: Path, tmp_path: Path) -> None:
    # As BAGEL's evaluation_metadata_long.jsonl: other words, everything else as it was; any order.
    longer = put_lines(tmp_path / "long.jsonl", [{**row, "prompt": f"{row['prompt']}, at noon"} for row in ROWS[::-1]])
    run(GENEVAL, data, tmp_path / "o", rewritten=longer)
    assert painter.batches[0][0] == "a photo of a dog, at noon"
    assert json.loads((tmp_path / "o" / "images" / "00000" / "metadata.jsonl").read_text()) == ROWS[0]
    judged = [
        {"filename": "", "tag": row["tag"], "prompt": row["prompt"], "correct": True, "metadata": json.dumps(row)}
        for row in ROWS
        for _ in range(4)
    ]
    task = ScoringTask(
        results=put_lines(tmp_path / "o" / "results.jsonl", judged), annotations=data / "evaluation_metadata.jsonl",
        judge="Mask2Former",
    )  # fmt: skip
    score = score_file(GENEVAL, task)
    assert score["notes"]["prompts"].startswith("rewritten, sha256 ")
    assert (score["notes"]["judge"], score["generation"]["images_per_prompt"]) == ("Mask2Former", 4)
    # Without the record, the results alone say what they say.
    put_lines(tmp_path / "results.jsonl", judged)
    alone = score_file(GENEVAL, ScoringTask(results=tmp_path / "results.jsonl", annotations=task.annotations))
    assert alone["notes"]["prompts"].startswith("original, sha256 ")
    put_lines(longer, ROWS[:2])
    with pytest.raises(InputError, match=r"--rewritten .*long.jsonl: 1 of 3 prompts are not in it .a photo of a red"):
        run(GENEVAL, data, tmp_path / "p", rewritten=longer)
    put_lines(longer, [*ROWS, {**ROWS[0], "tag": "position"}])
    with pytest.raises(InputError, match="1 prompts are not the benchmark's"):
        run(GENEVAL, data, tmp_path / "p", rewritten=longer)


def test_dpg_prompts_are_those_of_the_folder_where_it_is_there(painter: Painter, data: Path, tmp_path: Path) -> None:
    (data / "prompts").mkdir()
    (data / "prompts" / "midjourney1.txt").write_text("Two cats on a mat.\n")
    with pytest.raises(InputError, match=r"prompts: 1 of 2 prompts are missing .COCOval2014000000000368."):
        run(DPG, data, tmp_path / "o")
    (data / "prompts" / "COCOval2014000000000368.txt").write_text("A dog.")
    run(DPG, data, tmp_path / "o")
    assert {one for batch in painter.batches for one in batch} == {"A dog.", "Two cats on a mat."}


def test_wise_images_are_named_by_their_prompt(painter: Painter, data: Path, tmp_path: Path) -> None:
    parts = {"cultural_common_sense": [1, 2], "spatio-temporal_reasoning": [401], "natural_science": [1000]}
    for name, numbers in parts.items():
        rows = [{"prompt_id": number, "Prompt": f"thing {number}", "Explanation": ""} for number in numbers]
        (data / f"{name}.json").write_text(json.dumps(rows))
    run(find_benchmark("wise"), data, tmp_path / "o")
    assert sorted(files(tmp_path / "o" / "images")) == ["1.png", "1000.png", "2.png", "401.png"]
    scores = [
        {"prompt_id": number, "consistency": 2, "realism": 0, "aesthetic_quality": 0}
        for number in (1, 2, 401, 1000)
    ]  # fmt: skip
    results = put_lines(tmp_path / "o" / "scores.jsonl", scores)
    score = score_file(find_benchmark("wise"), ScoringTask(results=results, annotations=data))
    assert score["notes"]["prompts"].startswith("original, sha256 ")
    assert score["figures"]["score.time"]["value"] == 0.7


def test_t2i_compbench_names_images_by_their_prompts(painter: Painter, data: Path, tmp_path: Path) -> None:
    (data / "color_val.txt").write_text("a green bench\t1\na blue bowl.\n")
    (data / "other.txt").write_text("a bench that is green\na bowl that is blue\n")
    color = find_benchmark("t2i-compbench-color")
    run(color, data, tmp_path / "o", images_per_prompt=2, rewritten=data / "other.txt")
    samples = tmp_path / "o" / "images" / "samples"
    names = [f"a green bench_{n:06d}.png" for n in (0, 1)] + [f"a blue bowl._{n:06d}.png" for n in (2, 3)]
    assert sorted(files(samples)) == sorted(names)
    assert painter.batches[0] == ["a bench that is green"] * 2 + ["a bowl that is blue"] * 2
    # The judge's scripts write beside samples/.
    result = tmp_path / "o" / "images" / "annotation_blip" / "vqa_result.json"
    result.parent.mkdir()
    result.write_text(json.dumps([{"question_id": n, "answer": "0.5000"} for n in range(4)]))
    score = score_file(color, ScoringTask(results=result, annotations=data / "color_val.txt"))
    assert (score["figures"]["score"]["value"], score["notes"]["images_per_prompt"]) == (0.5, 2)
    assert score["notes"]["prompts"].startswith("rewritten, sha256 ")
    (data / "color_val.txt").write_text("a_b\n")
    with pytest.raises(InputError, match="prompt 'a_b': expected no / and no _"):
        run(color, data, tmp_path / "p")


def test_prompts_that_are_none_are_refused(data: Path, tmp_path: Path) -> None:
    for rows, words in (
        ([{"prompt": "a"}], "row 1 is .*, expected tag, include and prompt"),
        ([], "no prompts in it"),
        ([{**ROWS[0], "prompt": " "}], "is empty, expected text"),
        ([ROWS[0], {**ROWS[0], "prompt": "b"}], "1 prompts occur twice"),
    ):
        put_lines(data / "evaluation_metadata.jsonl", rows)
        with pytest.raises(InputError, match=words):
            plan_generation(GENEVAL, data, GenerationConfig())
    (data / "evaluation_metadata.jsonl").unlink()
    with pytest.raises(InputError, match=r"no evaluation_metadata.jsonl here; download it from https://github.com/djg"):
        plan_generation(GENEVAL, data, GenerationConfig())


def test_a_real_model_draws_by_the_command(models: dict[str, Path], data: Path, tmp_path: Path) -> None:
    line = ["geneval", "--model", str(models["whole"]), "--data", str(data), "--out", str(tmp_path / "o"), "--json"]
    line += ["--images-per-prompt", "2", "--set", "draw.num_steps=1", "--set", "sample.max_codes=4", "--device", "cpu"]
    planned = json.loads(CliRunner().invoke(evaluate, [*line, "--dry-run"], catch_exceptions=False).stdout)
    assert (planned["files"], planned["first"]) == (6, "00000/samples/0000.png")
    assert not (tmp_path / "o").exists()
    made = json.loads(CliRunner().invoke(evaluate, line, catch_exceptions=False).stdout)
    assert (made["sample"]["max_codes"], made["draw"]["num_steps"], made["image_px"]) == (4, 1, 64)
    images = files(tmp_path / "o" / "images")
    (tmp_path / "o" / "images" / "00001" / "samples" / "0001.png").unlink()
    CliRunner().invoke(evaluate, line, catch_exceptions=False)
    assert files(tmp_path / "o" / "images") == images
