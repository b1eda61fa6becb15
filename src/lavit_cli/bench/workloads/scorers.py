"""Scoring result files: answers by VQA accuracy, captions by CIDEr."""

import importlib.util
import random
from collections.abc import Iterator, Sequence

import numpy as np
from lavit_core.seeds import derive_seed
from lavit_scoring.metrics.answer_normalization import normalize_vqa, one_line
from lavit_scoring.metrics.cider import cider_d
from lavit_scoring.metrics.vqa_accuracy import official_accuracy

from lavit_cli.bench.comparison import Arm, BenchSettings, Comparison, Skipped, Unequal

WORDS = tuple(f"{first} {second}" for first in ("red", "t-shirt", "two", "the dog", "10:30") for second in range(400))
REFERENCES = 5


def compare(settings: BenchSettings) -> Iterator[Comparison | Skipped]:
    """Yield the scorers."""
    yield vqa(100_000 if settings.full else 10_000, settings)
    yield cider(5_000 if settings.full else 500, settings)


def vqa(count: int, settings: BenchSettings) -> Comparison:
    """Return VQA accuracy, against the server's loops."""
    draw = random.Random(derive_seed(settings.seed, "bench", "vqa"))
    questions = []
    for _ in range(count):
        pool = draw.sample(WORDS, 3) if draw.random() < 0.6 else [draw.choice(("yes", "no"))]
        questions.append((draw.choice(pool), [draw.choice(pool) for _ in range(10)]))

    def ours() -> np.ndarray:
        normalize_vqa.cache_clear()
        return np.array([official_accuracy(answer, truths) for answer, truths in questions])

    return Comparison(
        name="VQA accuracy",
        size=f"{count:,} questions, ten answers each",
        dtype="",
        baseline=Arm(
            name="the server's loops", run=lambda: np.array([_by_loops(answer, ten) for answer, ten in questions])
        ),
        ours=Arm(name="lavit_scoring", run=ours),
        equal=_same_scores,
        unit="answers",
        amount=count,
    )


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
