"""Replies as four scripts read them; each line was followed through the published code by hand."""

import pytest
from lavit_scoring.yes_no import has_yes_or_no, mme_harness_reply, mme_reply, pope_harness_reply, pope_reply

#                              POPE   its harness, MME    its harness
REPLIES = {
    "yes": ("yes", "yes", "yes", "yes"),
    "Yes.": ("yes", "other", "yes", "yes"),
    "no": ("no", "no", "no", "no"),
    "NO": ("yes", "no", "no", "no"),
    "No, there isn't": ("no", "other", "no", "no"),
    "There isn't": ("yes", "other", "other", "other"),
    "There is not a dog": ("no", "other", "other", "other"),
    "Yes. There is no doubt": ("yes", "other", "yes", "yes"),
    "maybe": ("yes", "other", "other", "other"),
    "": ("yes", "other", "other", "other"),
    "None": ("yes", "other", "no", "no"),
    "y": ("yes", "other", "other", "yes"),
    "N": ("yes", "other", "other", "no"),
    "  yes": ("yes", "yes", "other", "yes"),
    "A: no": ("no", "other", "other", "other"),
    "no\nmore": ("yes", "other", "no", "no"),
}


@pytest.mark.parametrize("text", REPLIES)
def test_replies(text: str) -> None:
    assert (pope_reply(text), pope_harness_reply(text), mme_reply(text), mme_harness_reply(text)) == REPLIES[text]


@pytest.mark.parametrize(("text", "found"), [("YES!", True), ("it's not", True), ("nothing", False), ("", False)])
def test_words_are_found_whatever_their_case(text: str, found: bool) -> None:
    assert has_yes_or_no(text) == found
