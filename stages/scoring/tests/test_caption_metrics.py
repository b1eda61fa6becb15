"""BLEU, ROUGE-L, CIDEr-D and the tokenizer against numbers of pycocoevalcap 1.2 (Java 17), frozen here."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from lavit_scoring.captions import caption_metrics
from lavit_scoring.metrics.cider import cider_d
from lavit_scoring.metrics.ptb_tokenizer import tokenize

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
    metrics = caption_metrics([caption for caption, _ in INVENTED], [truth for _, truth in INVENTED], seed=0)
    expected = {"bleu_1": 0.6617999840179645, "bleu_2": 0.5173528458133926, "bleu_3": 0.3045191978735727,
                "bleu_4": 0.18873920161286892, "rouge_l": 0.558747424046513, "cider": 1.6711431062920763}  # fmt: skip
    for name, value in expected.items():
        assert metrics.metrics[name].value == pytest.approx(value, abs=1e-9), name
    assert metrics.items["cider"] == pytest.approx(
        [2.415448701852154, 2.1601822443780527, 2.0415204678831342, 1.7066781584391446, 0.0, 1.70302906519997]
    )
    assert metrics.items["rouge_l"] == pytest.approx(
        [0.75, 0.6288659793814433, 0.5865384615384615, 0.7093023255813954, 0.0, 0.6777777777777778]
    )


def test_cider_depends_on_the_set() -> None:
    said, truths = tokenize([c for c, _ in INVENTED]), [tokenize(truth) for _, truth in INVENTED]
    whole = cider_d(said, truths)
    half = np.concatenate([cider_d(said[:3], truths[:3]), cider_d(said[3:], truths[3:])])
    assert abs(whole.mean() - half.mean()) > 0.01


def test_cider_of_empty_texts_is_zero() -> None:
    assert cider_d([], []).shape == (0,)
    assert cider_d([[], ["a"], []], [[[]], [[], ["b"]], [["a", "b"], []]]).tolist() == [0, 0, 0]


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
    metrics = caption_metrics(captions[:count], references[:count], seed=0).metrics
    assert [metrics[f"bleu_{n}"].value for n in (1, 2, 3, 4)] == pytest.approx(bleu, abs=1e-6)
    assert metrics["rouge_l"].value == pytest.approx(rouge, abs=1e-6)
    assert metrics["cider"].value == pytest.approx(cider, abs=1e-6)
    for name in ("bleu_4", "rouge_l", "cider"):
        metric = metrics[name]
        assert metric.low is not None
        assert metric.high is not None
        assert metric.low < metric.value < metric.high


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
