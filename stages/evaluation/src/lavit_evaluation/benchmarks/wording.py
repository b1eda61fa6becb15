"""What is asked, and what of the reply goes into the result file, by protocol."""

from collections.abc import Callable

ANSWERABLE = 'Is the question: "{}" answerable?'
"""LaVIT's first question on VizWiz; a reply with "no" in it makes the answer "unanswerable"."""

CLEANED = {
    ("vqa", "official"): "first line, lower case, no final full stop",
    ("caption", "official"): "outer spaces cut",
    ("vqa", "lavit"): "cut at a line break, `question:`, `Long answer:`, a comma and a full stop; lower case",
    ("caption", "lavit"): "cut at the first full stop",
}
"""What happens to a reply, for generation.json."""


def cleaner(kind: str, protocol: str) -> Callable[[str], str]:
    """Return what makes a result of a reply: `kind` is vqa or caption, `protocol` official or lavit."""
    if kind == "caption":
        return lavit_caption if protocol == "lavit" else str.strip
    return lavit_answer if protocol == "lavit" else plain_answer


def plain_answer(reply: str) -> str:
    """Return the first line of a reply in lower case, without the full stop at its end."""
    lines = reply.strip().splitlines()
    return lines[0].strip().lower().removesuffix(".").strip() if lines else ""


def lavit_answer(reply: str) -> str:
    """Return a reply cut as the released code cuts it (its lemmas are the scorer's matter)."""
    text = reply.strip()
    for end in ("\n", "question:", "Long answer:", ",", "."):
        text = text.split(end)[0]
    return text.lower()


def lavit_caption(reply: str) -> str:
    """Return a caption up to its first full stop, as the released code cuts it."""
    return reply.strip().split(".")[0]


def is_refused(reply: str) -> bool:
    """Return whether a reply to `ANSWERABLE` says no, as the released script reads it."""
    return "no" in reply.lower()
