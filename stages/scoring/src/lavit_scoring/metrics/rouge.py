"""ROUGE-L of a caption, as the COCO caption server counts it: best precision and best recall over the references."""

from collections.abc import Sequence

BETA = 1.2
"""Weight of recall against precision (the server's value)."""


def common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for place, candidate in enumerate(other, 1):
            above = row[place]
            row[place] = diagonal + 1 if word == candidate else max(above, row[place - 1])
            diagonal = above
    return row[-1]


def rouge_l(caption: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return ROUGE-L of one caption; precision and recall may come from different references. Source: Lin 2004."""
    # The server splits "" into one empty word, so nothing is ever divided by zero and "" equals an empty reference.
    said = caption or [""]
    pairs = [(common_length(said, truth or [""]), len(truth or [""])) for truth in references]
    precision = max(common / len(said) for common, _ in pairs)
    recall = max(common / length for common, length in pairs)
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
