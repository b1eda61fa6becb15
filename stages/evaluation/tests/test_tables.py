"""Benchmarks from data set folders: lmms-lab's columns become official files; what is scored is the same."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lavit_core import hub
from lavit_core.errors import InputError, UsageError
from lavit_evaluation.benchmarks.answers import AnswerConfig, run_answers
from lavit_evaluation.benchmarks.items import load_items
from lavit_evaluation.cli import evaluate
from lavit_evaluation.compute import Compute
from lavit_evaluation.options import QuestionFiles
from lavit_evaluation.tables.read import find_tables
from lavit_evaluation.tables.unpack import official_files
from lavit_scoring import find_benchmark
from lavit_scoring.references import read_references
from PIL import Image
from typer.testing import CliRunner

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def image(shade: int) -> dict:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 9), (shade,) * 3).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": f"{shade}.png"}


VQA = [
    {"question_type": "what", "multiple_choice_answer": "red", "image_id": 40 + n // 2, "answer_type": "other",
     "question_id": 1000 + n, "question": f"question {n}?", "image": image(40 + n // 2),
     "answers": [{"answer": "red" if k < n else "blue", "answer_confidence": "yes", "answer_id": k + 1}
                 for k in range(10)]}
    for n in range(6)
]  # fmt: skip
OKVQA = [
    {**row, "question_id": str(row["question_id"]), "answers": [one["answer"] for one in row["answers"]]} for row in VQA
]
VIZWIZ = [
    {"question_id": f"VizWiz_val_{n:08d}", "image": image(n), "question": f"what is {n}?", "category": "other",
     "answers": ["pen"] * 10}
    for n in range(3)
]  # fmt: skip
GQA = [
    {"id": f"20{n}", "imageId": f"n{n // 2}", "question": f"is it {n}?", "answer": "yes", "isBalanced": True,
     "types": {"detailed": "d", "semantic": "attr", "structural": "verify"}, "semantic": None}
    for n in range(4)
]  # fmt: skip
GQA_IMAGES = [{"id": f"n{n}", "image": image(n)} for n in range(2)]
COCO = [
    {"question_id": f"COCO_val2014_{n:012d}.jpg", "image": image(n), "question": "Describe it.",
     "answer": [f"caption {k} of {n}" for k in range(3)], "id": 900 + n, "file_name": f"COCO_val2014_{n:012d}.jpg"}
    for n in range(3)
]  # fmt: skip
FLICKR = [
    {"image": image(n), "caption": [f"flickr {n}"], "filename": f"{1000 + n}.jpg", "img_id": str(n),
     "split": "test" if n else "train"}
    for n in range(3)
]  # fmt: skip
NOCAPS = [
    {"image": image(n), "image_id": n, "image_file_name": f"{n:016x}.jpg", "image_domain": "in-domain",
     "annotations_captions": [f"thing {n}", f"a thing {n}"]}
    for n in range(3)
]  # fmt: skip


def table(rows: list[dict], *files: Path) -> Path:
    """Write rows over several parquet files and return their folder."""
    for file, part in zip(files, np.array_split(np.arange(len(rows)), len(files)), strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pylist([rows[place] for place in part]), file)
    return files[0].parent


@pytest.fixture
def vqa(tmp_path: Path) -> Path:
    names = [tmp_path / "set" / "data" / f"validation-0000{n}-of-00002.parquet" for n in range(2)]
    table([VQA[0]], tmp_path / "set" / "data" / "testdev-00000-of-00001.parquet")
    table(VQA, *names)
    return tmp_path / "set"


def unpacked(name: str, data: Path, out: Path, **more):
    folder, split = official_files(find_benchmark(name), data, out, split=more.pop("split", None), quiet=True, **more)
    assert split is None
    return folder, load_items(find_benchmark(name), folder)


def test_tables_by_their_names(vqa: Path, tmp_path: Path) -> None:
    assert {name: one.num_rows for name, one in find_tables(vqa).items()} == {"testdev": 1, "validation": 6}
    table(GQA, tmp_path / "g" / "testdev_balanced_instructions" / "testdev-00000-of-00001.parquet")
    table(GQA, tmp_path / "g" / "default" / "testdev" / "0000.parquet")
    table(GQA, tmp_path / "g" / "mine.parquet")
    assert sorted(find_tables(tmp_path / "g")) == ["mine", "testdev", "testdev_balanced_instructions/testdev"]
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "val.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"val\.parquet: not readable as a table"):
        list(find_tables(tmp_path / "bad")["val"].rows())


def test_vqav2_becomes_the_official_files(vqa: Path, tmp_path: Path) -> None:
    folder, material = unpacked("vqav2", vqa, tmp_path / "out")
    assert material.has_truth
    assert [(item.id, item.question) for item in material.items] == [(1000 + n, f"question {n}?") for n in range(6)]
    assert len({item.image for item in material.items}) == 3  # an image of several questions is written once
    assert np.asarray(Image.open(material.items[5].image))[0, 0, 0] == 42
    written = json.loads((folder / "v2_mscoco_val2014_annotations.json").read_text())["annotations"][2]
    assert written["answers"] == VQA[2]["answers"]
    assert (written["question_type"], written["answer_type"]) == ("what", "other")


def test_a_test_split_has_no_answers(vqa: Path, tmp_path: Path) -> None:
    table([{**row, "answers": None} for row in VQA], vqa / "data" / "test-00000-of-00001.parquet")
    folder, material = unpacked("vqav2", vqa, tmp_path / "out", split="test")
    assert not material.has_truth
    assert sorted(file.name for file in folder.glob("*.json")) == [
        "source.json",
        "v2_OpenEnded_mscoco_val2014_questions.json",
    ]


def test_answers_that_are_text_get_an_id(tmp_path: Path) -> None:
    data = table(OKVQA, tmp_path / "set" / "val2014-00000-of-00001.parquet")
    folder, material = unpacked("okvqa", data, tmp_path / "out")
    assert material.items[0].id == 1000
    written = json.loads((folder / "mscoco_val2014_annotations.json").read_text())["annotations"][3]
    assert [one["answer_id"] for one in written["answers"]] == list(range(1, 11))


def test_vizwiz_and_gqa(tmp_path: Path) -> None:
    _, material = unpacked("vizwiz", table(VIZWIZ, tmp_path / "v" / "val.parquet"), tmp_path / "vout")
    assert [item.id for item in material.items] == [f"VizWiz_val_{n:08d}.jpg" for n in range(3)]
    root = tmp_path / "g"
    table(GQA, root / "testdev_balanced_instructions" / "testdev-00000-of-00001.parquet")
    table(GQA[:1], root / "testdev_all_instructions" / "testdev-00000-of-00001.parquet")
    with pytest.raises(UsageError, match="expected one with question and imageId and one with id and image"):
        unpacked("gqa", root, tmp_path / "gout")
    with pytest.raises(UsageError, match=r"gqa: found the tables .*; choose with --split"):
        unpacked("gqa", root, tmp_path / "gout", split="val")
    table(GQA_IMAGES, root / "testdev_balanced_images" / "testdev-00000-of-00001.parquet")
    folder, material = unpacked("gqa", root, tmp_path / "gout")
    assert [(item.id, item.image.name) for item in material.items] == [
        ("200", "n0.jpg"), ("201", "n0.jpg"), ("202", "n1.jpg"), ("203", "n1.jpg")]  # fmt: skip
    written = json.loads((folder / "testdev_balanced_questions.json").read_text())
    assert written["200"] == {key: value for key, value in GQA[0].items() if key not in ("id", "semantic")}


@pytest.mark.parametrize(
    ("name", "rows", "expected"),
    [
        ("coco-caption", COCO, {str(n): COCO[n]["answer"] for n in range(3)}),
        ("flickr30k-caption", FLICKR, {"1001": ["flickr 1"], "1002": ["flickr 2"]}),
        ("nocaps", NOCAPS, {str(n): NOCAPS[n]["annotations_captions"] for n in range(3)}),
    ],
)
def test_captions(name: str, rows: list[dict], expected: dict, tmp_path: Path) -> None:
    _, material = unpacked(name, table(rows, tmp_path / "set" / "some.parquet"), tmp_path / "out")
    references = read_references(material.files["annotations"])
    assert next(iter(references.by_kind.values())) == expected
    assert [str(item.id) for item in material.items] == list(expected)
    if name == "nocaps":
        assert set(references.domains.values()) == {"in-domain"}


class Sees:
    """Answers with the shade of the image's first pixel."""

    image_px, image_input, metadata = 8, "made up", {"model": {"llm": "0"}, "precision": {"llm": "made up"}}

    def answer(self, images: Sequence[np.ndarray], questions: Sequence[str], **decoding: Any) -> list[str]:
        return ["red" if image.mean() > 40.5 else "blue" for image in images]


def scored(data: Path, out: Path) -> dict:
    files, compute = QuestionFiles(data=data), Compute(quiet=True)
    return run_answers(find_benchmark("vqav2"), Sees(), files, out, AnswerConfig(), compute=compute)


def test_the_score_is_that_of_the_official_files(vqa: Path, tmp_path: Path) -> None:
    found = scored(vqa, tmp_path / "out")
    # Questions 0, 1 show shade 40, so "blue"; 10 and 9 of ten people say blue. Then "red": 2, 3, 4, 5 of ten.
    assert found["figures"]["accuracy"]["value"] == round(100 * (1 + 1 + 0.6 + 0.9 + 1 + 1) / 6, 2)
    again = scored(tmp_path / "out" / "data", tmp_path / "again")
    assert again["figures"] == found["figures"]
    assert again["inputs"] == found["inputs"]
    # The same command again reads no table.
    for file in vqa.rglob("*.parquet"):
        file.write_bytes(b"x" * file.stat().st_size)
    assert scored(vqa, tmp_path / "out") == found
    table(VQA[:4], vqa / "data" / "validation-00000-of-00002.parquet")
    with pytest.raises(UsageError, match=r"unpacked from another data set \(files differs\); give another --out"):
        scored(vqa, tmp_path / "out")


def test_a_kill_leaves_nothing_half(vqa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lavit_evaluation.tables.layouts import Official, Row

    save_image, seen = Official.save_image, []

    def dying(self: Official, name: str, row: Row, *where: object) -> str:
        seen.append(name)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return save_image(self, name, row, *where)

    monkeypatch.setattr(Official, "save_image", dying)
    with pytest.raises(KeyboardInterrupt):
        unpacked("vqav2", vqa, tmp_path / "out")
    assert not (tmp_path / "out" / "data").exists()
    monkeypatch.undo()
    assert len(unpacked("vqav2", vqa, tmp_path / "out")[1].items) == 6


def test_save_to_disk_of_the_library(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{**row, "image": Image.new("RGB", (12, 9), (40 + n // 2,) * 3)} for n, row in enumerate(VQA)]
    saved = {
        split: datasets.Dataset.from_list(some).cast_column("image", datasets.Image())
        for split, some in (("validation", rows), ("test", rows[:1]))
    }
    datasets.DatasetDict(saved).save_to_disk(str(tmp_path / "saved"), num_shards={"validation": 2, "test": 1})
    _, material = unpacked("vqav2", tmp_path / "saved", tmp_path / "out")
    assert [item.id for item in material.items] == [1000 + n for n in range(6)]
    assert np.asarray(Image.open(material.items[5].image))[0, 0, 0] == 42
    assert len(unpacked("vqav2", tmp_path / "saved" / "test", tmp_path / "one")[1].items) == 1


def test_reading_stays_out_of_the_home_directory_and_off_the_network(vqa: Path, tmp_path: Path) -> None:
    code = (
        "import socket, sys\nfrom pathlib import Path\n"
        "def shut(*words): raise AssertionError('the network is shut')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = shut\n"
        "from lavit_evaluation.tables.read import find_tables\n"
        f"rows = list(find_tables(Path({str(vqa)!r}))['validation'].rows())\n"
        "assert len(rows) == 6 and 'datasets' in sys.modules"
    )
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    scratch.mkdir()
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    env = {**plain, "HOME": str(home), "TMPDIR": str(scratch)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(home.iterdir()) == list(scratch.iterdir()) == []


def test_a_name_needs_leave_to_use_the_network(vqa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict = {}

    def snapshot_download(name: str, **more: object) -> str:
        asked.update(more, name=name)
        return str(vqa)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    line = ["vqav2", "--data", "lmms-lab/VQAv2", "--model", "m", "--out", str(tmp_path / "o")]
    with pytest.raises(InputError, match=r"lmms-lab/VQAv2: no such folder; .* give --allow-network too"):
        unpacked("vqav2", Path("lmms-lab/VQAv2"), tmp_path / "out")
    assert asked == {}
    _, material = unpacked("vqav2", Path("lmms-lab/VQAv2@abc"), tmp_path / "out", allow_network=True)
    assert len(material.items) == 6
    assert asked == {
        "name": "lmms-lab/VQAv2", "revision": "abc", "repo_type": "dataset",
        "allow_patterns": ["*validation-*.parquet"],
    }  # fmt: skip
    # What is there needs no network.
    unpacked("vqav2", Path("lmms-lab/VQAv2@abc"), tmp_path / "out")
    assert "--allow-network" in CliRunner().invoke(evaluate, ["vqav2", "--help"], env={"COLUMNS": "120"}).stdout
    assert isinstance(CliRunner().invoke(evaluate, line).exception, InputError)

    def fails(name: str, **more: object) -> str:
        raise OSError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fails)
    with pytest.raises(InputError, match=r"--data a/b: not downloaded \(no route to host\)"):
        hub.download("a/b", ["*"])


def test_wrong_tables_are_told_in_a_line(vqa: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"found the splits testdev, validation, expected one 'train'; choose with --split"
    ):
        unpacked("vqav2", vqa, tmp_path / "out", split="train")

    def of(row: dict, name: str = "vqav2") -> Path:
        return table([row], tmp_path / name / f"{len(list(tmp_path.iterdir()))}" / "one.parquet")

    lacking = {key: value for key, value in VQA[0].items() if key != "question_id"}
    with pytest.raises(InputError, match=r"one, row 0: column `question_id`: found no such column, .*; columns: quest"):
        unpacked("vqav2", of(lacking), tmp_path / "out")
    with pytest.raises(InputError, match=r"column `image_id`: found 'x1', expected a number"):
        unpacked("vqav2", of({**VQA[0], "image_id": "x1"}), tmp_path / "out")
    with pytest.raises(InputError, match="no image in column `image`"):
        unpacked("vqav2", of({**VQA[0], "image": {"bytes": None, "path": "a.jpg"}}), tmp_path / "out")
    with pytest.raises(InputError, match=r"found the image's name '\.\./n\.jpg', expected letters"):
        unpacked("gqa", of({**GQA[0], "imageId": "../n", "image": image(1)}), tmp_path / "out")
    with pytest.raises(InputError, match=r"row 0: answers is 'cat', expected a list"):
        unpacked("vqav2", of({**VQA[0], "answers": "cat"}), tmp_path / "out")
    with pytest.raises(InputError, match=r"answers is .*, expected lists of one length"):
        unpacked("vqav2", of({**VQA[0], "answers": {"answer": ["a", "b"], "answer_id": [1]}}), tmp_path / "out")
    empty = of({**GQA[0], "image": image(1)}, "gqa") / "one.parquet"
    parquet.write_table(parquet.read_table(empty).slice(0, 0), empty)
    with pytest.raises(UsageError, match="gqa: found the tables one, expected one with question and imageId"):
        unpacked("gqa", empty.parent, tmp_path / "out")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "state.json").write_text('{"_data_files": ["data.arrow"]}')
    with pytest.raises(InputError, match=r"saved: not readable as a table \(.*\)"):
        unpacked("vqav2", tmp_path / "saved", tmp_path / "out")
    with pytest.raises(InputError, match="holds no row of flickr30k-caption"):
        unpacked("flickr30k-caption", of(FLICKR[0]), tmp_path / "out")
    others = [VQA[0], {**VQA[1], "image": image(99)}]
    assert others[0]["image_id"] == others[1]["image_id"]
    with pytest.raises(InputError, match=r"row 1: an earlier row has another image named 000000000040\.jpg"):
        unpacked("vqav2", table(others, tmp_path / "others" / "two.parquet"), tmp_path / "out")
    assert not (tmp_path / "out" / "data").exists()


def test_one_image_in_two_encodings_is_one(tmp_path: Path) -> None:
    again = io.BytesIO()
    Image.open(io.BytesIO(VQA[0]["image"]["bytes"])).save(again, "BMP")
    rows = [VQA[0], {**VQA[1], "image": {"bytes": again.getvalue(), "path": "same.bmp"}}]
    data, _ = unpacked("vqav2", table(rows, tmp_path / "rows" / "two.parquet"), tmp_path / "out")
    assert len(list(data.rglob("*.jpg"))) == 1


def test_official_files_beside_a_data_set_are_meant(vqa: Path, tmp_path: Path) -> None:
    folder, _ = unpacked("vqav2", vqa, tmp_path / "out")
    (vqa / "v2_mscoco_val2014_annotations.json").write_bytes(
        (folder / "v2_mscoco_val2014_annotations.json").read_bytes()
    )
    assert official_files(find_benchmark("vqav2"), vqa, tmp_path / "o", split="x") == (vqa, "x")
    assert (
        official_files(find_benchmark("vqav2"), tmp_path / "none", tmp_path / "o", split=None)[0] == tmp_path / "none"
    )
