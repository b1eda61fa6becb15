"""Caption scores of whole files: what one image alone cannot have, references that are empty."""

import json
from pathlib import Path
from typing import Any

import pytest
from lavit_scoring.captions import score_captions
from lavit_scoring.errors import InputError
from lavit_scoring.task import ScoringResult, ScoringTask


def score(folder: Path, references: dict[str, Any], captions: list[str]) -> ScoringResult:
    """Score captions of the images 0, 1, ... against COCO references."""
    (folder / "references.json").write_text(json.dumps(references))
    rows = [{"image_id": number, "caption": caption} for number, caption in enumerate(captions)]
    (folder / "captions.json").write_text(json.dumps(rows))
    return score_captions(ScoringTask(results=folder / "captions.json", annotations=folder / "references.json"))


def coco(captions: list[list[str]], domains: str = "") -> dict[str, Any]:
    images = [
        {"id": number, "file_name": f"{number}.jpg", "domain": domain}
        for number, domain in enumerate(domains or [None] * len(captions))
    ]
    rows = [{"image_id": number, "caption": text} for number, texts in enumerate(captions) for text in texts]
    return {"images": images, "annotations": rows}


def test_cider_of_one_image_is_skipped_not_zero(tmp_path: Path) -> None:
    scored = score(tmp_path, coco([["a dog runs"]]), ["a dog runs"])
    assert "cider" not in scored.metrics
    assert "cider" not in scored.items
    assert scored.skipped["cider"].startswith("needs two images or more")
    assert scored.metrics["rouge_l"].value == 1.0


def test_cider_of_a_domain_with_one_image_is_skipped(tmp_path: Path) -> None:
    references = coco([["a dog runs"], ["a cat sleeps"], ["a red car"]], domains="iio")
    scored = score(tmp_path, references, ["a dog runs", "a cat sleeps", "a red car"])
    assert scored.metrics["cider"].value == pytest.approx(scored.metrics["cider.i"].value)
    assert "cider.o" not in scored.metrics
    assert "cider.o" in scored.skipped
    assert scored.metrics["bleu_4.o"].n == 1


def test_an_image_with_only_empty_references_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"references\.json: all captions of image 1 are empty"):
        score(tmp_path, coco([["a dog"], ["", " \n"]]), ["a dog", "a cat"])
    scored = score(tmp_path, coco([["a dog"], ["", "a cat"]]), ["a dog", "a cat"])
    assert scored.metrics["rouge_l"].value == 1.0
