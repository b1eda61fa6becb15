"""Questions about images: exact answers by kind, beside a blind model's and the majority's."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lavit_scoring import Estimate
from lavit_scoring.estimate import by_combination, mean


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One question with everything its score needs."""

    question_id: int | str
    """Number of the question in the data."""
    key: str
    """The image's file name."""
    question: str
    expected: str
    """The right answer."""
    kind: str
    """What is asked for (colour, count, ...), or "any" where the data does not say."""
    combination: str
    """"seen", "unseen", or "" where the data does not say."""
    earlier: tuple[tuple[str, str], ...] = ()
    """Questions and answers of the conversation before it."""


def normalise(answer: str) -> str:
    """Return an answer as it is compared: lower case, single spaces, no full stop at the end."""
    return " ".join(answer.lower().split()).removesuffix(".").strip()


def is_right(answer: str, expected: str) -> bool:
    """Return whether an answer is the expected one, word for word."""
    return normalise(answer) == normalise(expected)


def score_answers(name: str, asked: Sequence[Asked], answers: Sequence[str]) -> dict[str, Estimate]:
    """Return `name.all` and `name.kind.<kind>`, each also for seen and unseen combinations apart."""
    hits = [is_right(answer, one.expected) for one, answer in zip(asked, answers, strict=True)]
    metrics = by_combination(f"{name}.all", hits, [one.combination for one in asked])
    for kind in sorted({one.kind for one in asked}):
        mine = [index for index, one in enumerate(asked) if one.kind == kind]
        here = [hits[index] for index in mine]
        metrics |= by_combination(f"{name}.kind.{kind}", here, [asked[index].combination for index in mine])
    return metrics


def above(asked: Sequence[Asked], answers: Sequence[str], others: Sequence[str]) -> Estimate:
    """Return how much more of the questions `answers` has right than `others`: paired, question by question."""
    pairs = zip(asked, answers, others, strict=True)
    return mean(
        float(is_right(mine, one.expected)) - float(is_right(other, one.expected)) for one, mine, other in pairs
    )


def majority_of_training(asked: Sequence[Asked], training: Iterable[tuple[str, str]]) -> list[str]:
    """Return for each question the most frequent answer of its kind among the training (kind, answer) pairs."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for kind, answer in training:
        counts[kind][normalise(answer)] += 1
    return [_most_frequent(counts[one.kind]) for one in asked]


def majority_leave_one_out(asked: Sequence[Asked]) -> list[str]:
    """Return for each question the most frequent answer of its kind among the *other* evaluated questions."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in asked:
        counts[one.kind][normalise(one.expected)] += 1
    return [_most_frequent(counts[one.kind] - Counter([normalise(one.expected)])) for one in asked]


def _most_frequent(counts: Counter[str]) -> str:
    """Return the most frequent answer, the alphabetically first of several, "" without any."""
    return min(counts, key=lambda answer: (-counts[answer], answer), default="")
