"""Scoring result files: answers by VQA accuracy, captions by CIDEr."""

import importlib.util
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from lavit_core.seeds import derive_seed
from lavit_scoring import ScoringTask, find_benchmark, score_results
from lavit_scoring.metrics.answer_normalization import normalize_vqa, one_line
from lavit_scoring.metrics.cider import cider_d

from lavit_cli.bench.comparison import Arm, BenchSettings, Comparison, Skipped, Unequal

WORDS = tuple(f"{first} {second}" for first in ("red", "t-shirt", "two", "the dog", "10:30") for second in range(400))
REFERENCES = 5


def compare(settings: BenchSettings) -> Iterator[Comparison | Skipped]:
    """Yield the scorers."""
    with tempfile.TemporaryDirectory() as folder:
        yield vqa(Path(folder), 100_000 if settings.full else 10_000, settings)
    yield cider(5_000 if settings.full else 500, settings)


def vqa(folder: Path, count: int, settings: BenchSettings) -> Comparison:
    """Return files of answers scored by VQA accuracy with intervals, against the server's loops without."""
    truths, results = write_answers(folder, count, settings.seed)
    task = ScoringTask(results=results, annotations=truths)

    def theirs() -> np.ndarray:
        answers = {one["question_id"]: one["answer"] for one in json.loads(results.read_text())}
        asked = json.loads(truths.read_text())["annotations"]
        return np.array(
            [_by_loops(answers[one["question_id"]], [t["answer"] for t in one["answers"]]) for one in asked]
        )

    def ours() -> np.ndarray:
        normalize_vqa.cache_clear()
        return np.asarray(score_results(find_benchmark("vqav2"), task).items["accuracy"])

    return Comparison(
        name="VQA result files",
        size=f"{count:,} answers, ten by people each; ours with intervals",
        dtype="",
        baseline=Arm(name="the server's loops", run=theirs),
        ours=Arm(name="lavit_scoring", run=ours),
        equal=_same_scores,
        unit="answers",
        amount=count,
    )


def write_answers(folder: Path, count: int, seed: int) -> tuple[Path, Path]:
    """Write annotations (ten answers a question, 65 question types, five questions an image) and results."""
    draw = random.Random(derive_seed(seed, "bench", "vqa"))
    asked, answered = [], []
    for number in range(count):
        pool = draw.sample(WORDS, 3) if draw.random() < 0.6 else [draw.choice(("yes", "no"))]
        ten = [{"answer": draw.choice(pool), "answer_confidence": "yes", "answer_id": i + 1} for i in range(10)]
        asked.append(
            {
                "question_id": number,
                "image_id": number // 5,
                "question_type": f"type {number % 65}",
                "answer_type": "yes/no" if len(pool) == 1 else "other",
                "multiple_choice_answer": pool[0],
                "answers": ten,
            }
        )
        answered.append({"question_id": number, "answer": draw.choice(pool)})
    truths, results = folder / "annotations.json", folder / "results.json"
    truths.write_text(json.dumps({"annotations": asked}))
    results.write_text(json.dumps(answered))
    return truths, results


def _by_loops(answer: str, truths: Sequence[str]) -> float:
    """Return one answer's accuracy as `vqaEval.py` computes it: all is normalized anew, each human left out in turn."""
    answer, ten = one_line(answer), [{"answer": one_line(truth), "answer_id": i} for i, truth in enumerate(truths)]
    if len({str(one["answer"]) for one in ten}) > 1:
        answer = normalize_vqa.__wrapped__(answer)
        for one in ten:
            one["answer"] = normalize_vqa.__wrapped__(str(one["answer"]))
    shares = []
    for left in ten:
        others = [one for one in ten if one != left]
        shares.append(min(1.0, len([one for one in others if one["answer"] == answer]) / 3))
    return float(sum(shares)) / len(shares)


def cider(count: int, settings: BenchSettings) -> Comparison | Skipped:
    """Return CIDEr-D, against pycocoevalcap's Python part where it is installed."""
    if importlib.util.find_spec("pycocoevalcap") is None:
        return Skipped(name="CIDEr", why="needs pycocoevalcap; `pip install pycocoevalcap`")
    from pycocoevalcap.cider.cider import Cider

    draw = np.random.default_rng(derive_seed(settings.seed, "bench", "captions"))
    words = [f"word{i}" for i in range(2000)]
    ranks = draw.zipf(1.3, size=(count, REFERENCES + 1, 12)) % len(words)
    texts = [[[words[rank] for rank in row] for row in rows] for rows in ranks.tolist()]
    captions, references = [rows[0] for rows in texts], [rows[1:] for rows in texts]
    theirs = (
        {i: [" ".join(row) for row in rows] for i, rows in enumerate(references)},
        {i: [" ".join(row)] for i, row in enumerate(captions)},
    )
    return Comparison(
        name="CIDEr",
        size=f"{count:,} captions of 12 words, {REFERENCES} references each",
        dtype="",
        baseline=Arm(name="pycocoevalcap", run=lambda: np.asarray(Cider().compute_score(*theirs)[1])),
        ours=Arm(name="lavit_scoring", run=lambda: cider_d(captions, references)),
        equal=_same_scores,
        unit="captions",
        amount=count,
        goal=3.0,
    )


def _same_scores(theirs: np.ndarray, ours: np.ndarray) -> str:
    difference = float(np.abs(theirs - ours).max())
    if not difference <= 1e-9:
        raise Unequal(f"scores differ by up to {difference:.2g}, expected at most 1e-9")
    return f"scores differ by at most {difference:.0e}, mean {ours.mean():.3f}"
