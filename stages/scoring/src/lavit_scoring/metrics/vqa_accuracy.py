"""VQA accuracy of one question: the mean over its humans of min(1, others who gave the answer / 3)."""

from collections.abc import Hashable, Sequence

from lavit_scoring.metrics.answer_normalization import (
    normalize_lavit,
    normalize_lavit_truth,
    normalize_vizwiz,
    normalize_vqa,
    one_line,
)


def agreement(answer: str, truths: Sequence[str], records: Sequence[Hashable] | None = None) -> float:
    """Return the leave-one-out accuracy of one answer. Source: Antol et al. 2015 and the servers' code.

    Each human is left out in turn. Some scripts leave out every record that equals the human's: for these, `records`
    has what each record contains beside the answer, and equal records are left out together (ten equal ones leave
    nobody: 0). Without `records` each human counts as a person of their own.
    """
    hits = [truth == answer for truth in truths]
    total = sum(hits)
    if records is None:
        left = [min(1.0, (total - hit) / 3) for hit in hits]
    else:
        people = list(zip(truths, records, strict=True))
        left = [
            min(1.0, sum(hit for hit, other in zip(hits, people, strict=True) if other != person) / 3)
            for person in people
        ]
    return sum(left) / len(left)


def official_accuracy(answer: str, truths: Sequence[str], records: Sequence[Hashable] | None = None) -> float:
    """Return one answer's accuracy as VQAv2's and OK-VQA's server counts it: unanimous truths are compared as typed."""
    answer, truths = one_line(answer), [one_line(truth) for truth in truths]
    if len(set(truths)) > 1:
        answer, truths = normalize_vqa(answer), [normalize_vqa(truth) for truth in truths]
    return agreement(answer, truths, records)


def lavit_accuracy(answer: str, truths: Sequence[str], records: Sequence[Hashable] | None = None) -> float:
    """Return one answer's accuracy as LaVIT's release counts it: the answer is always normalized."""
    if len(set(truths)) > 1:
        truths = [normalize_lavit_truth(truth) for truth in truths]
    return agreement(normalize_lavit(answer), truths, records)


def vizwiz_accuracy(answer: str, truths: Sequence[str]) -> float:
    """Return one answer's accuracy as the VizWiz server counts it: truths are never normalized."""
    # Humans are told apart by position, so there are no records of theirs.
    return agreement(normalize_vizwiz(answer), truths)
