"""200 photographs in each of the twelve layouts, tokenized and read for pretraining: equal codes and texts in all."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import Mini
from lavit_core.data import open_data
from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.corpus import open_corpus
from lavit_pretrain.training_inputs import open_inputs
from lavit_tokenizer.config import TokenizeConfig
from lavit_tokenizer.tokenize_images import tokenize_images

sys.path.insert(0, str(Path(__file__).parents[1] / "stages" / "core" / "tests"))
import layout_writers as write

NUM_PHOTOS = 200
FIRST, SECOND = "what does the photo show?", "and in other words?"


def write_images(photos: write.Photos, out: Path) -> Path:
    write.link_images(photos, out)
    return out


def write_llava(photos: write.Photos, out: Path) -> Path:
    """Conversations of two turns: the first two captions are the answers."""
    write.link_images(photos, out)
    talks = []
    for name, texts in photos.captions.items():
        said = [f"<image>\n{FIRST}", texts[0], SECOND, texts[1]]
        turns = [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(said)]
        talks.append({"id": name, "image": f"images/{name}", "conversations": turns})
    (out / "talks.json").write_text(json.dumps(talks))
    return out


def write_vqa(photos: write.Photos, out: Path) -> Path:
    """VQAv2's two files; the first caption is the answer."""
    write.link_images(photos, out)
    asked = [
        {"question_id": number, "image_id": int(name[:12]), "question": FIRST}
        for number, name in enumerate(photos.captions)
    ]
    answers = [
        {**{key: one[key] for key in ("question_id", "image_id")}, "multiple_choice_answer": texts[0], "answers": []}
        for one, texts in zip(asked, photos.captions.values(), strict=True)
    ]
    (out / "v2_questions.json").write_text(json.dumps({"questions": asked}))
    (out / "v2_annotations.json").write_text(json.dumps({"annotations": answers}))
    return out


LAYOUTS: dict[str, Callable[[write.Photos, Path], Path]] = {
    "lavit": write.write_own,
    "imagefolder": write.write_metadata_jsonl,
    "tars": write.write_tars,
    "saved dataset": write.write_saved,
    "parquet": write.write_parquet,
    "coco": write.write_coco,
    "karpathy": write.write_karpathy,
    "llava": write_llava,
    "vqa": write_vqa,
    "table": write.write_csv,
    "sidecars": write.write_txt,
    "images": write_images,
}

TURNS = {"llava": 2, "vqa": 1}
"""Questions that a layout has about each photograph."""


@pytest.fixture(name="photos", scope="module")
def photos_fixture(tmp_path_factory: pytest.TempPathFactory) -> write.Photos:
    """Photographs of Flickr8k with their captions, under names of twelve digits as COCO's."""
    root = os.environ.get("LAVIT_TEST_DATA")
    source = Path(root or "") / "flickr8k_600"
    if root is None or not source.is_dir():
        pytest.skip("set LAVIT_TEST_DATA to the folder that holds flickr8k_600 (photos with captions, not shipped)")
    folder = tmp_path_factory.mktemp("photos")
    (folder / "images").mkdir()
    captions = {}
    for number, record in enumerate(open_data(source).records[:NUM_PHOTOS]):
        name = f"{number:012d}.jpg"
        (folder / "images" / name).write_bytes(record.image.read_bytes())
        captions[name] = list(record.captions)
    rows: list[dict[str, object]] = [{"file_name": f"images/{name}", "captions": own} for name, own in captions.items()]
    (folder / "captions.jsonl").write_text(write.json_lines(rows), encoding="utf-8")
    return write.Photos(folder, captions)


def read_for_training(data: Path, mini: Mini, out: Path) -> dict[str, tuple[Any, ...]]:
    """Return codes, captions and questions of each photograph as pretraining reads them."""
    tokenize_images(data, mini.model, out, TokenizeConfig(workers=0, batch_size=50), device="cpu", quiet=True)
    config = PretrainConfig(image_input="codes")
    questions = [data] if open_data(data).questions else []
    found = open_inputs(config, [out], mini.model, questions=questions, text=[], llm=None, data=None)
    corpus = open_corpus(found.reader, questions=questions, text=[])
    everything = np.arange(len(found.reader))
    codes, counts = found.reader.codes(everything)
    parts: Iterator[np.ndarray] = iter(np.split(codes, np.cumsum(counts)[:-1]))
    return {
        key.rpartition("/")[2]: (next(parts).tolist(), texts, corpus.questions.get(place, []))
        for place, (key, texts) in enumerate(
            zip(found.reader.keys(everything), found.reader.texts(everything), strict=True)
        )
    }


@pytest.mark.slow
def test_codes_captions_and_questions_are_the_same_in_all(photos: write.Photos, mini: Mini, tmp_path: Path) -> None:
    expected = read_for_training(photos.root, mini, tmp_path / "expected")
    assert len(expected) == NUM_PHOTOS
    assert {name: list(captions) for name, (_, captions, _) in expected.items()} == photos.captions
    assert len({tuple(codes) for codes, _, _ in expected.values()}) > NUM_PHOTOS / 4
    for layout, writer in LAYOUTS.items():
        folder = writer(photos, tmp_path / layout / "data")
        assert open_data(folder).layout == layout
        found = read_for_training(folder, mini, tmp_path / layout / "tokens")
        for name, (codes, captions, _) in expected.items():
            own_codes, own_captions, asked = found[name]
            assert own_codes == codes, (layout, name)
            assert own_captions == (() if layout in ("llava", "vqa", "images") else captions), (layout, name)
            first, second = photos.captions[name][:2]
            turns = [(FIRST, first), (FIRST, first, SECOND, second)][: TURNS.get(layout, 0)]
            assert asked == turns, (layout, name)
        assert len(found) == NUM_PHOTOS
