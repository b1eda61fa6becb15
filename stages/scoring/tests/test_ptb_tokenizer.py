"""Captions are cut into the words that Stanford's tokenizer gives."""

import pytest
from lavit_scoring.metrics.ptb_tokenizer import tokenize, words


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("He doesn't know it's raining .", "he does n't know it 's raining"),
        ("The dogs' toys, the dog's bone!", "the dogs toys the dog 's bone"),
        ("A man (left) [right] {x}", "a man -lrb- left -rrb- -lsb- right -rsb- -lcb- x -rcb-"),
        ("Mr. Smith drives a U.S. truck.", "mr. smith drives a u.s. truck"),
        ("$5.99 or 1,000 dollars at 10:30", "$ 5.99 or 1,000 dollars at 10:30"),
        ("He said \"hello\" to the 'boy'", "he said hello to the boy"),
        ("a man w/ a hat & tie #1", "a man w / a hat & tie # 1"),
        ("a cat -- black - sits... there;", "a cat black sits there"),
        ("what?! really?", "what ?! really"),
        ("cannot gonna can't won't", "can not gon na ca n't wo n't"),
        ("a tri-colored 5-year-old's t-shirt", "a tri-colored 5-year-old 's t-shirt"),
        ("a caf\u00e9 \u2014 \u201copen\u201d", "a caf\u00e9 open"),
        ("No. 5 says no.", "no. 5 says no"),
        ("a girls ' shirt", "a girls shirt"),
        ("", ""),
        (" . ", ""),
    ],
)
def test_words_are_cut_as_by_stanford_3_4_1(caption: str, expected: str) -> None:
    assert " ".join(words(caption)) == expected


@pytest.mark.parametrize("separator", ["\r", "\r\n", "\n", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_a_line_separator_inside_a_caption_does_not_split_it(separator: str) -> None:
    captions = [f"a dog{separator}runs", "a cat"]
    assert tokenize(captions) == [["a", "dog", "runs"], ["a", "cat"]]
