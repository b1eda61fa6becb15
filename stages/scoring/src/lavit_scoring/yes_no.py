"""Yes-or-no replies as the scripts of POPE, of MME and of the lmms-eval harness read them, quirks included."""

from typing import Literal

Reply = Literal["yes", "no", "other"]


def pope_reply(text: str) -> Reply:
    """Return what POPE's script makes of a reply: no if its first sentence has the word No, no or not, else yes.

    So `NO`, `isn't`, `maybe` and an empty reply are yes. Source: RUCAIBox/POPE, evaluate.py.
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def pope_harness_reply(text: str) -> Reply:
    """Return what lmms-eval makes of a POPE reply: the bare word, whatever its case; `Yes.` is neither."""
    word = text.lower().strip()
    return "yes" if word == "yes" else "no" if word == "no" else "other"


def mme_reply(text: str) -> Reply:
    """Return what MME's script makes of a reply: yes or no if its first four characters have that word.

    So `None` is no and `The answer is yes` is neither. Source: MME's eval_tool, calculation.py.
    """
    start = text.lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"


def mme_harness_reply(text: str) -> Reply:
    """Return what lmms-eval makes of an MME reply: as MME without spaces before it and full stops, or `y`, `n`."""
    bare = text.lower().strip().replace(".", "")
    if bare in ("y", "n"):
        return "yes" if bare == "y" else "no"
    return mme_reply(bare)


def has_yes_or_no(text: str) -> bool:
    """Return whether a reply has the word yes, no or not anywhere, whatever its case and the marks beside it."""
    letters = "".join(letter if letter.isalpha() else " " for letter in text.lower())
    return bool({"yes", "no", "not"} & set(letters.split()))
