"""Reference captions in every published layout: the same scores, and refusals that name images."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lavit_scoring.errors import InputError, UsageError
from lavit_scoring.references import read_references

Put = Callable[[str, Any], Path]
Score = Callable[..., dict[str, Any]]

COCO = {
    "images": [
        {"id": n, "file_name": f"COCO_val2014_{n:012d}.jpg", "domain": "in" if n < 2 else "out"} for n in range(4)
    ],
    "annotations": [
        {"image_id": n, "caption": text}
        for n in range(4)
        for text in (f"a dog number {n} runs", "two \u2028 dogs run .")
    ],
}
CAPTIONS = [{"image_id": n, "caption": f"a dog number {n}\u2028runs"} for n in range(4)]


@pytest.mark.parametrize("layout", ["karpathy", "lavis", "jsonl"])
def test_layouts_give_the_same_references_and_scores(layout: str, score: Score, put: Put, tmp_path: Path) -> None:
    texts = {n: [row["caption"] for row in COCO["annotations"] if row["image_id"] == n] for n in range(4)}
    files = {row["id"]: row["file_name"] for row in COCO["images"]}
    karpathy = [
        {"cocoid": n, "split": "test", "filename": files[n], "sentences": [{"raw": text} for text in texts[n]]}
        for n in range(4)
    ]
    karpathy.append({"cocoid": 9, "split": "train", "filename": "x.jpg", "sentences": [{"raw": "x"}]})
    if layout == "jsonl":
        file = tmp_path / "captions.jsonl"
        lines = [json.dumps({"file_name": str(n), "captions": texts[n]}) for n in range(4)]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        lavis = [{"image": f"val2014/{files[n]}", "caption": texts[n]} for n in range(4)]
        file = put("truth.json", {"karpathy": {"images": karpathy}, "lavis": lavis}[layout])
    numbers = [str(n) for n in range(4)]
    expected = read_references(put("coco.json", COCO)).keyed_like(numbers)
    assert read_references(file).keyed_like(numbers) == expected
    result = score("coco-caption", CAPTIONS, None, file=file)
    coco = score("coco-caption", CAPTIONS, COCO)
    assert result["figures"]["bleu_4"]["value"] == pytest.approx(1.0)
    assert result["figures"]["cider"] == coco["figures"]["cider"]
    assert "cider.out" in coco["figures"]
    assert "cider.out" not in result["figures"]
    assert result["notes"]["captions_with_line_separators"] == 4
    assert "--java" in result["skipped"]["meteor"]


@pytest.mark.parametrize("suffix", [".jpg", ""])
def test_captions_by_file_name_are_scored_as_by_id(suffix: str, score: Score) -> None:
    named = [{"image": f"COCO_val2014_{row['image_id']:012d}{suffix}", "caption": row["caption"]} for row in CAPTIONS]
    by_name, by_id = score("nocaps", named, COCO), score("nocaps", CAPTIONS, COCO)
    assert "cider.out" in by_name["figures"]
    assert by_name["figures"] == by_id["figures"]
    assert by_name["items"]["digest"] == by_id["items"]["digest"]


def test_captions_that_do_not_match_are_named(score: Score) -> None:
    with pytest.raises(InputError, match=r"1 of 4 images have no result \(3\)"):
        score("coco-caption", CAPTIONS[:3], COCO)
    with pytest.raises(InputError, match=r"belong to no image of .*\(77\)"):
        score("coco-caption", [*CAPTIONS, {"image_id": 77, "caption": "x"}], COCO)


def test_a_split_is_one_of_a_karpathy_file(put: Put) -> None:
    karpathy = {"images": [{"cocoid": 1, "split": "test", "sentences": [{"raw": "x"}]}]}
    with pytest.raises(InputError, match="no split 'val', expected one of test"):
        read_references(put("k.json", karpathy), "val")
    with pytest.raises(UsageError, match=r"--split val: .*truth\.json has one split, and only Karpathy's files"):
        read_references(put("truth.json", COCO), "val")


def test_rows_of_another_layout_are_shown(tmp_path: Path, put: Put) -> None:
    (tmp_path / "captions.jsonl").write_text('"a dog"\n')
    with pytest.raises(InputError, match='found "a dog", expected an image with an id'):
        read_references(tmp_path / "captions.jsonl")
    with pytest.raises(InputError, match="no kind of id in common"):
        read_references(put("mixed.json", [{"img_id": 1, "caption": "a"}, {"image": "x.jpg", "caption": "b"}]))
