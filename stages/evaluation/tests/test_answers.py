"""Benchmarks run with a model: official layouts, kills at any instant, batch sizes, the server's files, test splits."""

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lavit_core.errors import InputError, Interrupted, UsageError
from lavit_evaluation.benchmarks.answers import AnswerConfig, run_answers
from lavit_evaluation.benchmarks.wording import cleaner
from lavit_evaluation.cli import evaluate
from lavit_evaluation.compute import Compute
from lavit_evaluation.options import QuestionFiles
from lavit_evaluation.stores import AnswerLog
from lavit_scoring import find_benchmark
from lavit_scoring.errors import UsageError as ScoringUsageError
from PIL import Image
from typer.testing import CliRunner

NUM_IMAGES, PER_IMAGE = 5, 3
SHADES = [20, 60, 100, 140, 180]


def shade_of(image: np.ndarray) -> int:
    return min(range(NUM_IMAGES), key=lambda n: abs(SHADES[n] - int(image.mean())))


class Fake:
    """Answers with the image's number and the question's last word; dies after `deadline` calls."""

    def __init__(self, deadline: int = 10**9) -> None:
        self.asked: list[str] = []
        self.calls, self.deadline = 0, deadline

    image_px, image_input, metadata = 16, "made up", {"model": {"llm": "0"}, "precision": {"llm": "made up"}}

    def answer(self, images: Sequence[np.ndarray], questions: Sequence[str], **decoding: Any) -> list[str]:
        self.calls += 1
        if self.calls > self.deadline:
            raise KeyboardInterrupt
        self.asked += questions
        return [f"{shade_of(image)} {q.split()[-1]}." for image, q in zip(images, questions, strict=True)]

    def caption(self, images: Sequence[np.ndarray], **decoding: Any) -> list[str]:
        return [f"Shade {shade_of(one)} . And more" for one in images]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "val2014"
    folder.mkdir(parents=True)
    for n, shade in enumerate(SHADES):
        Image.new("RGB", (24, 16), (shade, shade, shade)).save(folder / f"COCO_val2014_{n:012d}.jpg")
    return folder


@pytest.fixture
def vqa(tmp_path: Path, images: Path) -> Path:
    data = tmp_path / "data"
    rows = [
        {"question_id": 100 * n + k, "image_id": n, "question": f"what of {'abc'[k]}"}
        for n in range(NUM_IMAGES)
        for k in range(PER_IMAGE)
    ]
    truths = [
        {**row, "question_type": "what", "answer_type": "other",
         "answers": [{"answer": f"{row['image_id']} {row['question'][-1]}", "answer_id": i} for i in range(10)]}
        for row in rows
    ]  # fmt: skip
    for row in truths:
        del row["question"]
    (data / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(
        json.dumps({"questions": rows, "data_subtype": "val2014"})
    )
    (data / "v2_mscoco_val2014_annotations.json").write_text(json.dumps({"annotations": truths}))
    return data


Runs = Callable[..., dict[str, Any]]


@pytest.fixture
def runs() -> Runs:
    def run(
        name: str, data: Path, out: Path, fake: Fake, config: AnswerConfig | None = None, *, batch_size: int = 32,
        precision: str = "auto", images: Path | None = None, split: str | None = None, **more: Any,
    ) -> dict[str, Any]:  # fmt: skip
        files, compute = (
            QuestionFiles(data=data, images=images, split=split),
            Compute(batch_size=batch_size, precision=precision, quiet=True),
        )
        return run_answers(
            find_benchmark(name), fake, files, out, config or AnswerConfig(), compute=compute, **more
        )  # fmt: skip

    return run


@pytest.mark.parametrize("image", ["img1", None, 1.5, -1])
def test_an_image_without_cocos_number_is_named(runs: Runs, vqa: Path, tmp_path: Path, image: Any) -> None:
    file = vqa / "v2_OpenEnded_mscoco_val2014_questions.json"
    content = json.loads(file.read_text())
    content["questions"][1]["image_id"] = image
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"questions.json: image_id of question 1 is .*, expected COCO's number"):
        runs("vqav2", vqa, tmp_path / "out", Fake())


def test_vqav2_from_official_files(runs: Runs, vqa: Path, tmp_path: Path) -> None:
    result = runs("vqav2", vqa, tmp_path / "out", Fake())
    assert result["figures"]["accuracy"]["value"] == 100.0
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert rows[4] == {"question_id": 101, "answer": "1 b"}  # the full stop of the reply is gone
    assert result["generation"]["decoding"] == "greedy, at most 10 tokens"
    assert result["generation"]["image_input"] == "made up"
    assert set(result["generation"]["model"]) == {"llm"}
    assert json.loads((tmp_path / "out" / "score.json").read_text()) == result
    # The same file scored later knows how it was made; changed by a byte it does not.
    line = ["score", "vqav2", "--results", str(tmp_path / "out" / "results.json"), "--json"]
    line += ["--annotations", str(vqa / "v2_mscoco_val2014_annotations.json")]
    again = json.loads(CliRunner().invoke(evaluate, line).stdout)
    assert again["figures"] == result["figures"]
    assert again["generation"] == result["generation"]
    (tmp_path / "out" / "results.json").write_text(json.dumps(rows))
    assert json.loads(CliRunner().invoke(evaluate, line).stdout)["generation"].startswith("not known")


def test_a_finished_run_answers_at_once(runs: Runs, vqa: Path, tmp_path: Path) -> None:
    first = runs("vqav2", vqa, tmp_path / "out", Fake())
    again = Fake(deadline=0)
    assert runs("vqav2", vqa, tmp_path / "out", again, batch_size=1) == first
    with pytest.raises(UsageError, match=r"started with config.max_answer_tokens = 10, now it is 3"):
        runs("vqav2", vqa, tmp_path / "out", Fake(), AnswerConfig(max_answer_tokens=3))
    with pytest.raises(UsageError, match=r"started with config.precision = 'auto', now it is 'bf16'"):
        runs("vqav2", vqa, tmp_path / "out", Fake(), precision="bf16")


@pytest.mark.parametrize("torn", ["", '{"id": 2', '{"id": 201, "answer": "x"}'])
def test_killed_and_resumed_is_the_same_and_asks_nothing_twice(
    runs: Runs, vqa: Path, tmp_path: Path, torn: str
) -> None:
    runs("vqav2", vqa, tmp_path / "whole", Fake())
    dying = Fake(deadline=2)
    with pytest.raises(KeyboardInterrupt):
        runs("vqav2", vqa, tmp_path / "out", dying, batch_size=4)
    with open(tmp_path / "out" / "answers.jsonl", "a") as handle:
        handle.write(torn)  # a line without its end was not finished
    resumed = Fake()
    runs("vqav2", vqa, tmp_path / "out", resumed, batch_size=3)
    assert (len(dying.asked), len(resumed.asked)) == (8, 7)
    for name in ("results.json", "items.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_broken_line_inside_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    for line, message in (
        ("nonsense", "not valid JSON"),
        ('{"answer": "b"}', "not an answer"),
        ("[1]", "not an answer"),
    ):
        file.write_text(f'{{"id": 1, "answer": "a"}}\n{line}\n')
        with pytest.raises(InputError, match=rf"answers.jsonl:2: {message} .* delete the file"):
            AnswerLog(file)


def test_stop_signal_keeps_what_is_there(runs: Runs, vqa: Path, tmp_path: Path) -> None:
    import signal

    fake = Fake()
    plain = fake.answer

    def interrupting(images: Sequence[np.ndarray], questions: Sequence[str], **decoding: Any) -> list[str]:
        os.kill(os.getpid(), signal.SIGINT)
        return plain(images, questions)

    fake.answer = interrupting  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match="after 4 of 15 questions; run the same command to go on"):
        runs("vqav2", vqa, tmp_path / "out", fake, batch_size=4)
    assert len((tmp_path / "out" / "answers.jsonl").read_text().splitlines()) == 4


def test_limit_is_partial(runs: Runs, vqa: Path, tmp_path: Path) -> None:
    fake = Fake()
    result = runs("vqav2", vqa, tmp_path / "out", fake, AnswerConfig(limit=4))
    assert len(fake.asked) == 4
    assert (result["complete"], result["figures"]) == (False, {})
    assert result["partial"]["figures"]["accuracy"]["value"] == 100.0


def test_a_test_split_is_written_not_scored(runs: Runs, vqa: Path, tmp_path: Path) -> None:
    (vqa / "v2_mscoco_val2014_annotations.json").unlink()
    result = runs("vqav2", vqa, tmp_path / "out", Fake())
    assert result["figures"] == {}
    assert "submit results.json to the benchmark's server" in result["skipped"]["score"]
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == NUM_IMAGES * PER_IMAGE


def test_without_a_score_the_command_says_why(models: dict[str, Path], vqa: Path, tmp_path: Path) -> None:
    line = ["vqav2", "--model", str(models["seeing"]), "--data", str(vqa), "--device", "cpu", "--limit", "3"]
    said = "score: skipped: the files hold no answers; submit results.json"
    (vqa / "v2_mscoco_val2014_annotations.json").rename(tmp_path / "away.json")
    shown = CliRunner().invoke(evaluate, [*line, "--out", str(tmp_path / "test")]).stdout
    assert said in shown
    assert "score.json: why there is no score" in shown
    (tmp_path / "away.json").rename(vqa / "v2_mscoco_val2014_annotations.json")
    shown = CliRunner().invoke(evaluate, [*line, "--out", str(tmp_path / "val")]).stdout
    assert said not in shown
    assert "PARTIAL: 3 of 15 items." in shown.splitlines()[1]
    assert "score.json: the score" in shown


def test_what_is_missing_is_said_before_anything_is_loaded(runs: Runs, vqa: Path, images: Path, tmp_path: Path) -> None:
    never = Fake(deadline=0)
    with pytest.raises(UsageError, match="a model writes words: give --lemmatizer rules"):
        runs("vqav2", vqa, tmp_path / "o", never, protocol="lavit", lemmatizer="given")
    with pytest.raises(ScoringUsageError, match="--split val: vqav2 keeps its splits in files of their own"):
        runs("vqav2", vqa, tmp_path / "o", never, split="val")
    next(images.glob("*3.jpg")).unlink()
    with pytest.raises(InputError, match=r"1 of 5 images are missing, say COCO_val2014_000000000003.jpg"):
        runs("vqav2", vqa, tmp_path / "o", never)
    (vqa / "v2_OpenEnded_mscoco_val2014_questions.json").unlink()
    with pytest.raises(InputError, match=r"no v2_OpenEnded_mscoco_val2014_questions.json here; download it from https"):
        runs("vqav2", vqa, tmp_path / "o", never)
    assert not (tmp_path / "o").exists()


def test_vizwiz_in_two_passes(runs: Runs, images: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows = [
        {"image": f"COCO_val2014_{n:012d}.jpg", "question": f"is it {'no' if n == 3 else 'yes'}", "answerable": 1,
         "answer_type": "other", "answers": [{"answer": f"{n} yes"}] * 10}
        for n in range(NUM_IMAGES)
    ]  # fmt: skip
    (data / "val.json").write_text(json.dumps(rows))
    fake = Fake()
    fake.answer = lambda images, questions, **decoding: [  # type: ignore[method-assign]
        ("no" if "is it no" in text else "sure") if "answerable" in text else f"{shade_of(image)} yes, maybe"
        for image, text in zip(images, questions, strict=True)
    ]
    more = {"images": images, "protocol": "lavit", "lemmatizer": "rules"}
    result = runs("vizwiz", data, tmp_path / "out", fake, **more)
    said = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["answer"] for row in said] == ["0 yes", "1 yes", "2 yes", "unanswerable", "4 yes"]
    assert result["figures"]["accuracy"]["value"] == 80.0
    assert result["generation"]["two_passes"] is True
    assert result["lemmatizer"] == "rules-1"


def test_gqa_and_captions(runs: Runs, images: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "images").mkdir()
    for n, file in enumerate(sorted(images.iterdir())):
        (data / "images" / f"n{n}.jpg").write_bytes(file.read_bytes())
    questions = {
        str(n): {"question": f"what of {n}", "imageId": f"n{n}", "answer": f"{n} {n}", "isBalanced": n < 4}
        for n in range(NUM_IMAGES)
    }
    (data / "testdev_balanced_questions.json").write_text(json.dumps(questions))
    result = runs("gqa", data, tmp_path / "gqa", Fake())
    assert result["figures"]["accuracy"]["value"] == 100.0
    rows = json.loads((tmp_path / "gqa" / "results.json").read_text())
    assert rows[3] == {"questionId": "3", "prediction": "3 3"}
    assert len(rows) == 4
    karpathy = [
        {"cocoid": n, "split": "test", "filepath": "val2014", "filename": f"COCO_val2014_{n:012d}.jpg",
         "sentences": [{"raw": f"Shade {n}."}]}
        for n in range(NUM_IMAGES)
    ]  # fmt: skip
    (data / "dataset_coco.json").write_text(json.dumps({"images": karpathy}))
    result = runs("coco-caption", data, tmp_path / "captions", Fake(), protocol="lavit")
    rows = json.loads((tmp_path / "captions" / "results.json").read_text())
    assert rows[2] == {"image_id": 2, "caption": "Shade 2 "}  # cut at the first full stop
    assert result["figures"]["bleu_2"]["value"] == pytest.approx(1.0)
    result = runs("coco-caption", data, tmp_path / "official", Fake())
    assert result["figures"]["bleu_2"]["value"] < 0.9


@pytest.mark.parametrize(
    ("kind", "protocol", "reply", "expected"),
    [
        ("vqa", "official", " Two dogs.\nQuestion: x", "two dogs"),
        ("vqa", "official", "", ""),
        ("vqa", "lavit", "Red, and blue. Long answer: x", "red"),
        ("vqa", "lavit", "3.5", "3"),
        ("caption", "official", " A dog. It runs. ", "A dog. It runs."),
        ("caption", "lavit", " A dog. It runs. ", "A dog"),
    ],
)
def test_replies_become_results(kind: str, protocol: str, reply: str, expected: str) -> None:
    assert cleaner(kind, protocol)(reply) == expected


@pytest.mark.parametrize(
    ("name", "protocol", "said"),
    [
        ("vqav2", "lavit", "5 beams, 2 to 10 tokens, length penalty 0"),
        ("vqav2", "official", "greedy, at most 10 tokens"),
    ],
)
def test_the_protocol_chooses_the_decoding(
    models: dict[str, Path], vqa: Path, tmp_path: Path, name: str, protocol: str, said: str
) -> None:
    line = [name, "--model", str(models["seeing"]), "--data", str(vqa), "--device", "cpu", "--json", "--limit", "3"]
    line += ["--out", str(tmp_path / "o"), "--protocol", protocol]
    done = CliRunner().invoke(evaluate, [*line, *(["--lemmatizer", "rules"] if protocol == "lavit" else [])])
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["generation"]["decoding"] == said


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_batch_size_changes_no_answer_of_a_real_model(
    models: dict[str, Path], vqa: Path, tmp_path: Path, batch_size: int
) -> None:
    """One model, barely trained, real arithmetic; the reference is a batch of its own for everything."""
    line = ["vqav2", "--model", str(models["seeing"]), "--data", str(vqa), "--device", "cpu", "--quiet", "--json"]
    for size, out in ((batch_size, "some"), (15, "all")):
        done = CliRunner().invoke(evaluate, [*line, "--out", str(tmp_path / out), "--batch-size", str(size)])
        assert done.exit_code == 0, done.exception
    assert (tmp_path / "some" / "results.json").read_bytes() == (tmp_path / "all" / "results.json").read_bytes()
    assert json.loads(done.stdout)["generation"]["decoding"] == "greedy, at most 10 tokens"


def test_daquar_in_the_official_layout(models: dict[str, Path], tmp_path: Path) -> None:
    """40 real questions about real photos, ten answers each, through the whole command."""
    root = os.environ.get("LAVIT_TEST_DATA")
    source = Path(root or "") / "daquar_300"
    if root is None or not (source / "questions.jsonl").is_file():
        pytest.skip("set LAVIT_TEST_DATA to the folder that holds daquar_300 (photos and questions, not shipped)")
    lines = (source / "questions.jsonl").read_text(encoding="utf-8").split("\n")[:40]
    rows = [json.loads(line) for line in lines]
    (tmp_path / "val2014").mkdir()
    numbers = [int(re.findall(r"\d+", row["file_name"])[-1]) for row in rows]
    for row, number in zip(rows, numbers, strict=True):
        link = tmp_path / "val2014" / f"COCO_val2014_{number:012d}.jpg"
        if not link.exists():
            link.symlink_to(source / row["file_name"])
    questions = [
        {"question_id": row["question_id"], "image_id": number, "question": row["question"]}
        for row, number in zip(rows, numbers, strict=True)
    ]
    truths = [
        {"question_id": row["question_id"], "image_id": number, "question_type": "what", "answer_type": "other",
         "answers": [{"answer": row["answer"], "answer_id": i + 1} for i in range(10)]}
        for row, number in zip(rows, numbers, strict=True)
    ]  # fmt: skip
    (tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(json.dumps({"questions": questions}))
    (tmp_path / "v2_mscoco_val2014_annotations.json").write_text(json.dumps({"annotations": truths}))
    line = ["vqav2", "--model", str(models["seeing"]), "--data", str(tmp_path), "--device", "cpu", "--json"]
    done = CliRunner().invoke(evaluate, [*line, "--out", str(tmp_path / "run")])
    result = json.loads(done.stdout)
    assert result["items"] == {**result["items"], "scored": 40, "expected": 40}
    # The truth itself, typed as the result file wants it, is right by the server's rules.
    perfect = tmp_path / "perfect.json"
    perfect.write_text(json.dumps([{"question_id": row["question_id"], "answer": row["answer"]} for row in rows]))
    line = ["score", "vqav2", "--results", str(perfect), "--json"]
    line += ["--annotations", str(tmp_path / "v2_mscoco_val2014_annotations.json")]
    assert json.loads(CliRunner().invoke(evaluate, line).stdout)["figures"]["accuracy"]["value"] == 100.0


def test_dry_run_and_wrong_settings(tmp_path: Path) -> None:
    line = ["gqa", "--model", "M", "--data", str(tmp_path), "--out", str(tmp_path / "o")]
    shown = json.loads(CliRunner().invoke(evaluate, [*line, "--dry-run", "--json", "--limit", "3"]).stdout)
    assert (shown["config"]["limit"], shown["protocol"]) == (3, "official")
    done = CliRunner().invoke(evaluate, [*line, "--set", "max_answer_token=3"])
    assert "did you mean max_answer_tokens" in str(done.exception)
    assert not (tmp_path / "o").exists()
