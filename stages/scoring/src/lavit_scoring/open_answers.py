"""MMMU's open questions: what counts as the answer in a free reply. Source: lmms-eval's copy of MMMU's eval_utils."""

import re
from collections.abc import Sequence

_KEYS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBERS = (
    r"-?\b\d{1,3}(?:,\d{3})+\b",
    r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
    r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
)
Value = str | float


def answers_open(reply: str, truths: Sequence[str]) -> bool:
    """Return whether a reply has one of the answers: as text in its last part of a sentence, or as an equal number."""
    wanted = [value for truth in truths for value in _normalised(truth)]
    for found in _candidates(reply):
        if isinstance(found, str):
            if any(isinstance(value, str) and value in found for value in wanted):
                return True
        elif found in wanted:
            return True
    return False


def _candidates(reply: str) -> list[Value]:
    """Return what stands after the words that announce an answer, or the whole reply, and the numbers in it."""
    text = reply.strip().strip(".").lower()
    # The script splits before capitals after it lowered the text, so it splits at line ends alone.
    sentences = text.split("\n")
    parts = []
    for number, sentence in enumerate(sentences, 1):
        keys = (*_KEYS, "=") if number == len(sentences) else _KEYS
        ends = [sentence.split(key)[-1].strip() for key in keys if key in sentence]
        shortest = ""
        for end in ends:
            if not shortest or len(end) < len(shortest):
                shortest = end
        if shortest and shortest not in (":", ",", ".", "!", "?", ";", "'"):
            parts.append(shortest)
    parts = parts or [text]
    numbers = [number for part in parts for pattern in _NUMBERS for number in re.findall(pattern, part)]
    return [value for one in (*parts, *numbers) for value in _normalised(one)]


def _normalised(text: str) -> list[Value]:
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        low = text.lower()
        return [f" {low}", f"{low} "] if len(low) == 1 else [low]
