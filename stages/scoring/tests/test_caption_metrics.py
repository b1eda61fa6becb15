"""BLEU, ROUGE-L, CIDEr-D and the word cutter against numbers of pycocoevalcap 1.2 (Java 17), frozen here."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from lavit_scoring.bootstrap import interval_of_mean, resampled_sums
from lavit_scoring.captions import caption_metrics
from lavit_scoring.metrics.bleu import bleu_of, bleu_parts
from lavit_scoring.metrics.cider import cider_d
from lavit_scoring.metrics.ptb_tokenizer import tokenize, words
from lavit_scoring.metrics.recall import first_hits, recall_at
from lavit_scoring.metrics.rouge import common_length, rouge_l

INVENTED: list[tuple[str, list[str]]] = [
    ("a brown dog runs across the wet grass",
     ["A brown dog is running across wet grass .", "The dog runs through the grass.", "A dog, brown and wet, runs."]),
    ("two men play chess",
     ["Two old men are playing chess in a park", "Men playing a board game outside",
      "Two men play chess on a stone table."]),
    ("a woman's red t-shirt (wet)",
     ["A woman wearing a red T-shirt.", "The woman's t-shirt is red!", "a woman (laughing) in a red shirt"]),
    ("the the the cat", ["A cat sleeps on the sofa", "The cat is asleep.", "cat"]),
    ("", ["An empty street at night", "Nobody is on the street.", "A dark street with no people"]),
    ("a man doesn't look at the 3 birds",
     ["A man who doesn't see three birds", "Three birds behind a man.", "A man and 3 birds"]),
]  # fmt: skip
"""Captions made up for this test, with their references."""


def test_against_pycocoevalcap_on_made_up_captions() -> None:
    figures = caption_metrics([caption for caption, _ in INVENTED], [truth for _, truth in INVENTED], seed=0)
    expected = {"bleu_1": 0.6617999840179645, "bleu_2": 0.5173528458133926, "bleu_3": 0.3045191978735727,
                "bleu_4": 0.18873920161286892, "rouge_l": 0.558747424046513, "cider": 1.6711431062920763}  # fmt: skip
    for name, value in expected.items():
        assert figures.metrics[name].value == pytest.approx(value, abs=1e-9), name
    assert figures.items["cider"] == pytest.approx(
        [2.415448701852154, 2.1601822443780527, 2.0415204678831342, 1.7066781584391446, 0.0, 1.70302906519997]
    )
    assert figures.items["rouge_l"] == pytest.approx(
        [0.75, 0.6288659793814433, 0.5865384615384615, 0.7093023255813954, 0.0, 0.6777777777777778]
    )


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
def test_a_line_separator_inside_a_caption_moves_nothing(separator: str) -> None:
    captions = [f"a dog{separator}runs", "a cat"]
    assert tokenize(captions) == [["a", "dog", "runs"], ["a", "cat"]]


def test_longest_common_subsequence() -> None:
    assert common_length(["a", "b", "c", "d"], ["b", "x", "d"]) == 2
    assert common_length([], ["a"]) == 0
    assert rouge_l(["a"], [["b"]]) == 0.0


def test_cider_depends_on_the_set() -> None:
    said, truths = tokenize([c for c, _ in INVENTED]), [tokenize(truth) for _, truth in INVENTED]
    whole = cider_d(said, truths)
    half = np.concatenate([cider_d(said[:3], truths[:3]), cider_d(said[3:], truths[3:])])
    assert abs(whole.mean() - half.mean()) > 0.01


def test_bleu_of_nothing_is_nothing() -> None:
    assert bleu_of(bleu_parts([], [["a"]])).max() == 0.0


def test_ties_count_against_retrieval() -> None:
    scores = np.array([[0.5, 0.5, 0.1], [0.9, 0.2, 0.3]])
    ranks = first_hits(scores, [[0], [1, 2]])
    assert ranks.tolist() == [1, 1]
    assert recall_at(ranks)["r@1"].tolist() == [False, False]
    assert recall_at(ranks)["r@5"].tolist() == [True, True]
    with pytest.raises(ValueError, match="finite"):
        first_hits(np.array([[np.nan]]), [[0]])


def test_bootstrap_draws_pictures_not_questions() -> None:
    values, pictures = [1.0] * 100 + [0.0] * 100, [0] * 100 + [1] * 100
    assert interval_of_mean(values, pictures, 0, "x") == (0.0, 1.0)  # two pictures: anything is possible
    low, high = interval_of_mean(values, range(200), 0, "x")
    assert 0.42 < low < 0.45 < 0.55 < high < 0.58  # 200 pictures: 0.5 +- 0.069
    assert interval_of_mean(values, range(200), 0, "x") == (low, high)


def test_bootstrap_of_equal_rows_is_that_of_rows() -> None:
    parts = np.array([[1.0, 1.0]] * 30 + [[0.0, 1.0]] * 70)
    drawn = resampled_sums(parts, 0, "x", resamples=4000)
    rng = np.random.default_rng(1)
    plain = np.array([parts[rng.integers(0, 100, 100)].sum(0) for _ in range(4000)])
    assert drawn[:, 1].tolist() == [100.0] * 4000
    # Standard error of the mean of 4,000 draws with deviation 4.6 is 0.07; of the deviation 0.05.
    assert abs(drawn[:, 0].mean() - plain[:, 0].mean()) < 0.4
    assert abs(drawn[:, 0].std() - plain[:, 0].std()) < 0.3


def photos() -> tuple[list[str], list[list[str]]]:
    root = os.environ.get("LAVIT_TEST_DATA")
    file = Path(root or "") / "flickr8k_600" / "captions.jsonl"
    if root is None or not file.is_file():
        pytest.skip("set LAVIT_TEST_DATA to the folder that holds flickr8k_600 (captions of photos, not shipped)")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    return [row["captions"][4] for row in rows], [row["captions"][:4] for row in rows]


@pytest.mark.parametrize(
    ("count", "bleu", "rouge", "cider"),
    [
        (600, [0.6190548548851816, 0.4191008936525357, 0.28510894527221764, 0.19278221003396906],
         0.4612262416551455, 0.7844903649205371),
        (100, [0.6507444766347987, 0.4461657626803888, 0.3077631308738824, 0.20660899376780056],
         0.45696964190535516, 0.8436428516468634),
    ],
)  # fmt: skip
def test_against_pycocoevalcap_on_photos(count: int, bleu: list[float], rouge: float, cider: float) -> None:
    """Candidates are the fifth captions, references the first four; numbers of pycocoevalcap 1.2."""
    captions, references = photos()
    figures = caption_metrics(captions[:count], references[:count], seed=0).metrics
    assert [figures[f"bleu_{n}"].value for n in (1, 2, 3, 4)] == pytest.approx(bleu, abs=1e-6)
    assert figures["rouge_l"].value == pytest.approx(rouge, abs=1e-6)
    assert figures["cider"].value == pytest.approx(cider, abs=1e-6)
    for name in ("bleu_4", "rouge_l", "cider"):
        figure = figures[name]
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low < figure.value < figure.high


def test_live_against_pycocoevalcap() -> None:
    pytest.importorskip("pycocoevalcap", reason="pycocoevalcap is not installed: compared with frozen numbers only")
    if shutil.which("java") is None:
        pytest.skip("no Java: compared with frozen numbers only")
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    captions, references = photos()
    texts = [
        *captions,
        *(text for truth in references for text in truth),
        *(caption for caption, _ in INVENTED if caption),
    ]
    cut = PTBTokenizer().tokenize({index: [{"caption": text}] for index, text in enumerate(texts)})
    assert [" ".join(found) for found in tokenize(texts)] == [cut[index][0] for index in range(len(texts))]


def test_meteor_by_java_on_made_up_captions() -> None:
    pytest.importorskip("pycocoevalcap", reason="pycocoevalcap is not installed: METEOR is skipped")
    if shutil.which("java") is None:
        pytest.skip("no Java: METEOR is skipped")
    from lavit_scoring.metrics.java import java_scores

    perfect = java_scores(["a dog runs"], [["a dog runs"]], skip={"spice": "not here"})
    assert perfect["meteor"].value == pytest.approx(1.0, abs=0.05)
