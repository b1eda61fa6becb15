"""Prompts as callers give them."""

from pathlib import Path

import numpy as np
import pytest
from lavit.prompts import prompt_list
from lavit_core.errors import UsageError
from PIL import Image

A, B = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 3), np.uint8)


def same(found: list, expected: list) -> bool:
    return len(found) == len(expected) and all(one is other or (isinstance(one, str) and one == other)
                                               for one, other in zip(found, expected, strict=True))  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red circle", ["a red circle"]),
        ("", [""]),
        ([A, "in winter"], [A, "in winter"]),
        (["<image> in winter", A], [A, "in winter"]),
        ([A, "<image> in winter"], [A, "in winter"]),
        (["make <image> look like <image>", A, B], ["make", A, "look like", B]),
        (["<image><image>", A, B], [A, B]),
        (["<image> and", A, "then <image>", B], [A, "and", "then", B]),
        ([A], [A]),
        (" a red circle ", ["a red circle"]),
        (["", A], [A]),
        ([A, " in winter\n", "  "], [A, "in winter"]),
        (["red ", "blue"], ["red", "blue"]),
        (["  ", ""], [""]),
    ],
)
def test_placeholders_are_filled_in_order(prompt, expected: list) -> None:
    assert same(prompt_list([prompt])[0], expected)


def test_one_text_is_one_prompt() -> None:
    assert prompt_list("red") == [["red"]]
    assert prompt_list(["red", "blue"]) == [["red"], ["blue"]]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "prompts: found none"),
        (["red", "<image> in winter"], r"prompts\[1\]: 1 <image> but 0 images, expected as many"),
        ([["<image> or <image>", A]], r"prompts\[0\]: 2 <image> but 1 images"),
        ([3], r"prompts\[0\]: found int, expected a text"),
        ([["red", 3]], r"prompts\[0\]: found int in it"),
        ([["red", np.zeros(3)]], r"prompts\[0\]: found ndarray in it"),
    ],
)
def test_other_things_are_refused(prompts, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prompt_list(prompts)


@pytest.mark.parametrize("prompts", [None, 5, Path("cat.png"), A, Image.new("RGB", (4, 4))])
def test_what_is_no_prompt_is_refused(prompts) -> None:
    with pytest.raises(UsageError, match=f"prompts: found {type(prompts).__name__}, expected a text, or texts"):
        prompt_list(prompts)
