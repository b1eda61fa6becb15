"""The foreign development sets: what each script writes, that it writes the same again, and what it refuses."""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from lavit_core.data import find_images, open_data
from lavit_core.data_report import inspect_data
from PIL import Image

FOLDER = Path(__file__).parents[1] / "examples" / "foreign"
DRAWN = ("flat", "large", "texture")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts find their shared module as they do when they are run: beside them."""
    monkeypatch.syspath_prepend(str(FOLDER))


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"foreign_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, monkeypatch: pytest.MonkeyPatch, *options: object) -> None:
    module = loaded(name)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, options)])
    if name in DRAWN:
        module.draw_set(name, module.draw, module.__doc__)
    else:
        module.main()


def small(name: str, monkeypatch: pytest.MonkeyPatch, out: Path, *options: object) -> Path:
    run(name, monkeypatch, "--out", out, "--train", 8, "--heldout", 40, *options)
    return out


def digest(root: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(file for file in root.rglob("*") if file.is_file()):
        total.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def heldout(root: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return image [H, W, 3] and mask [H, W] of every held-out example."""
    return [
        (np.asarray(Image.open(record.image)), np.asarray(Image.open(root / "heldout_masks" / record.image.name)))
        for record in open_data(root / "heldout").records
    ]


def colours(pixels: np.ndarray) -> int:
    return len(np.unique(pixels, axis=0))


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize("name", DRAWN)
def test_a_drawn_set_is_whole_and_is_the_same_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = small(name, monkeypatch, tmp_path / "set", "--seed", 3)
    assert "8 training images, 40 held-out ones, 40 masks; written" in capsys.readouterr().out
    for split, images in (("train", 8), ("heldout", 40)):
        report = inspect_data(root / split, quiet=True)
        assert (report["images"], report["without_captions"], report["unlisted_images"]) == (images, 0, 0)
        assert report["questions"] >= 2 * images
        assert report["question_kinds"]["colour"] >= images
        assert report["sizes"]["width"] == [64, 64]
        assert not report["unreadable"] + report["missing"] + report["bad_lines"]
        # What every image shows stands in its captions and answers.
        answers = {(question.key, question.kind): question.answer for question in open_data(root / split).questions}
        for record in open_data(root / split).records:
            assert answers[record.key, "colour"] in " ".join(record.captions)
    assert digest(small(name, monkeypatch, tmp_path / "again", "--seed", 3)) == digest(root)
    assert digest(small(name, monkeypatch, tmp_path / "other", "--seed", 4)) != digest(root)
    # An image depends on no other one, and none is in both splits.
    run(name, monkeypatch, "--out", tmp_path / "fewer", "--train", 3, "--heldout", 2, "--seed", 3)
    for key in find_images(tmp_path / "fewer"):
        assert (tmp_path / "fewer" / key).read_bytes() == (root / key).read_bytes()
    drawn = [file.read_bytes() for split in ("train", "heldout") for file in (root / split / "images").iterdir()]
    assert len(set(drawn)) == 48


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize("name", ["flat", "large"])
def test_masks_lie_on_the_objects_of_plain_ground(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = small(name, monkeypatch, tmp_path / "set")
    edges = []
    for image, mask in heldout(root):
        assert mask.dtype == np.uint8
        assert colours(image[mask == 0]) == 1
        assert not (image[mask == 255] == image[mask == 0][0]).all(axis=-1).any()
        edges.append(((mask > 0) & (mask < 255)).sum())
        if name == "flat":
            assert colours(image[mask == 255]) == 1
            assert image[mask == 0].min() > 200, "pale"
            assert 0.005 < mask.mean() / 255 < 0.5
        else:
            assert mask.mean() / 255 >= 0.499
    assert np.mean(edges) > 10, "edges are smooth"


@pytest.mark.usefixtures("scripts")
def test_masks_lie_on_the_objects_of_textured_ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = small("texture", monkeypatch, tmp_path / "set")
    objects = {q.key: q.answer for q in open_data(root / "heldout").questions if q.kind == "count"}
    seen = set()
    for (image, mask), count in zip(heldout(root), objects.values(), strict=True):
        inner = {tuple(pixel) for pixel in image[mask == 255]}
        seen.add(len(inner))
        assert len(inner) == {"one": 1, "two": 2}[count]  # objects are flat
        assert inner.isdisjoint(tuple(pixel) for pixel in image[mask == 0])
        assert colours(image[mask == 0]) > 1
        assert mask.mean() / 255 < 0.15
    assert seen == {1, 2}


@pytest.mark.usefixtures("scripts")
def test_objects_lie_on_no_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "set"
    run("flat", monkeypatch, "--out", root, "--train", 1, "--heldout", 200)
    first = np.array([np.argmax(mask.max(axis=0) > 127) for _, mask in heldout(root)])
    assert set(first % 8) == set(range(8))


@pytest.mark.usefixtures("scripts")
def test_emoji_are_split_by_character_and_their_alpha_is_the_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emoji = loaded("emoji")
    if not any(Path(place).expanduser().is_file() for place in emoji.USUAL_PLACES):
        pytest.skip("no colour-emoji font here: apt install fonts-noto-color-emoji")
    # Looking at every character of the font takes seconds; a hundred are as good.
    few = [chr(code) for code in range(0x1F400, 0x1F464)]
    monkeypatch.setattr(sys, "argv", ["emoji.py", "--out", str(tmp_path / "set"), "--copies", "2"])
    monkeypatch.setattr(emoji, "named_characters", lambda: iter(few))
    emoji.main()
    root = tmp_path / "set"
    names = {split: [r.captions[0] for r in open_data(root / split).records] for split in ("train", "heldout")}
    assert len(set(names["train"])) * 2 == len(names["train"])
    assert len(set(names["heldout"])) == len(names["heldout"]) > 5
    assert not set(names["train"]) & set(names["heldout"])
    assert len(set(names["train"])) + len(names["heldout"]) == len(few)
    assert "tiger face" in names["train"] + names["heldout"]
    for image, mask in heldout(root):
        assert image.shape == (96, 96, 3)
        assert colours(image[mask == 0]) == 1
        assert image[mask == 0].min() > 210
        assert colours(image[mask == 255]) > 1
    before = digest(root)
    emoji.main()
    assert digest(root) == before


@pytest.mark.usefixtures("scripts")
def test_without_a_colour_font_one_line_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emoji = loaded("emoji")
    monkeypatch.setattr(emoji, "USUAL_PLACES", (str(tmp_path / "none.ttf"),))
    (tmp_path / "text.ttf").write_text("no font", encoding="utf-8")
    for options, message in (
        ([], "in none of the usual places"),
        (["--font", str(tmp_path / "none.ttf")], "no such file"),
        (["--font", str(tmp_path / "text.ttf")], "can't be used"),
    ):
        monkeypatch.setattr(sys, "argv", ["emoji.py", "--out", str(tmp_path / "set"), *options])
        with pytest.raises(SystemExit, match=rf"^error: [^\n]*{message}[^\n]*fonts-noto-color-emoji[^\n]*$"):
            emoji.main()
    assert not (tmp_path / "set").exists()


def photographs(folder: Path, count: int) -> dict[str, list[str]]:
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    named = {f"images/{index}.jpg": [f"scene {index}", f"number {index}"] for index in range(count)}
    for name in named:
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(folder / name)
    return named


@pytest.mark.usefixtures("scripts")
def test_photographs_of_the_user_are_split_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "photos", tmp_path / "set"
    named = photographs(folder, 40)
    left_out = named.pop("images/7.jpg")
    rows = [{"file_name": name, "captions": texts} for name, texts in named.items()]
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    lines = [f"{name}#{number}\t{text}" for name, texts in named.items() for number, text in enumerate(texts)]
    (tmp_path / "texts.tsv").write_text("\n".join(lines), encoding="utf-8")
    run("photos", monkeypatch, folder, "--out", out, "--share", 0.25, "--longest", 20)
    assert "1 photographs have no caption and were left out" in capsys.readouterr().out
    found: dict[str, list[str]] = {}
    held = set()
    for split in ("train", "heldout"):
        report = inspect_data(out / split, quiet=True)
        assert report["images"] == report["captions"] / 2 > 0
        assert report["sizes"]["width"] == [20, 20]
        assert report["sizes"]["height"] == [15, 15]
        for line in (out / split / "captions.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            assert row["source"] not in found
            found[row["source"]] = row["captions"]
            held |= {row["source"]} if split == "heldout" else set()
    assert found == named
    assert 4 <= len(held) <= 16
    assert not (out / "heldout_masks").exists()
    # Both forms of the captions say the same, and a photograph that is added moves none.
    run("photos", monkeypatch, folder, "--captions", tmp_path / "texts.tsv", "--out", tmp_path / "tsv", "--share", 0.25,
        "--longest", 20)  # fmt: skip
    assert digest(tmp_path / "tsv") == digest(out)
    rows.append({"file_name": "images/7.jpg", "captions": left_out})
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    run("photos", monkeypatch, folder, "--out", tmp_path / "more", "--share", 0.25)
    more = (tmp_path / "more" / "heldout" / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["source"] for line in more} - {"images/7.jpg"} == held


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("captions.jsonl", '{"file_name": "images/0.jpg", "captions": ["a"]}\nnonsense', r"captions\.jsonl:2: found"),
        ("captions.jsonl", '{"file_name": "images/0.jpg", "captions": [" "]}', r"captions\.jsonl:1: found"),
        ("captions.tsv", "images/0.jpg a", r"captions\.tsv:1: found"),
        ("captions.jsonl", '{"file_name": "0.jpg", "caption": "a"}', r"0\.jpg: no such photograph"),
        ("captions.jsonl", '{"file_name": "images/0.jpg", "caption": "a"}', "expected more of them"),
        ("captions.jsonl", "\n", "empty, expected captions"),
        ("captions.csv", "images/0.jpg,a", r"found \.csv, expected"),
    ],
)
def test_wrong_captions_are_one_line(
    name: str, content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs(tmp_path / "photos", 2)
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit, match=rf"^error: [^\n]*{message}[^\n]*$"):
        run("photos", monkeypatch, tmp_path / "photos", "--captions", tmp_path / name, "--out", tmp_path / "set")
    assert not (tmp_path / "set").exists()


@pytest.mark.usefixtures("scripts")
def test_a_photograph_that_is_none_leaves_no_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = photographs(tmp_path / "photos", 20)
    (tmp_path / "photos" / "images" / "3.jpg").write_bytes(b"text")
    lines = [f"{name}\t{texts[0]}" for name, texts in named.items()]
    (tmp_path / "captions.tsv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"^error: .*3\.jpg: not a readable image"):
        run("photos", monkeypatch, tmp_path / "photos", "--captions", tmp_path / "captions.tsv", "--out",
            tmp_path / "set")  # fmt: skip
    assert sorted(file.name for file in tmp_path.iterdir()) == ["captions.tsv", "photos"]


@pytest.mark.usefixtures("scripts")
def test_a_folder_with_other_content_is_refused_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"^error: .*other: holds other files, expected an empty folder"):
        small("flat", monkeypatch, other)
    with pytest.raises(SystemExit, match=r"^error: .*letter\.txt: a file, expected a folder"):
        small("flat", monkeypatch, other / "letter.txt")
    assert [file.name for file in other.iterdir()] == ["letter.txt"]

    root = small("flat", monkeypatch, tmp_path / "set")
    whole = digest(root)
    capsys.readouterr()
    small("flat", monkeypatch, root)
    assert "already there, file by file the same" in capsys.readouterr().out
    for name, options in (("flat", ("--seed", 1)), ("large", ())):
        with pytest.raises(SystemExit, match=r'^error: .*set: made as \{"set": "flat", "seed": 0.*expected'):
            small(name, monkeypatch, root, *options)
    assert digest(root) == whole
    (root / "train" / "images" / "00000.png").unlink()
    with pytest.raises(SystemExit, match=r"^error: .*set: its files are not what this command writes"):
        small("flat", monkeypatch, root)
    with pytest.raises(SystemExit) as wrong:
        run("flat", monkeypatch, "--out", tmp_path / "none", "--train", 0)
    assert wrong.value.code == 2
    assert "'0', expected a whole number of at least 1" in capsys.readouterr().err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other", "set"]


@pytest.mark.usefixtures("scripts")
def test_a_set_that_was_cut_short_is_not_there_and_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = digest(small("flat", monkeypatch, tmp_path / "whole"))
    flat = loaded("flat")
    drawn = 0

    def draw(rng: np.random.Generator) -> object:
        nonlocal drawn
        drawn += 1
        if drawn > 20:
            assert not (tmp_path / "set").exists()
            raise KeyboardInterrupt
        return flat.draw(rng)

    monkeypatch.setattr(sys, "argv", ["flat.py", "--out", str(tmp_path / "set")])
    with pytest.raises(KeyboardInterrupt):
        flat.draw_set("flat", draw, None)
    assert [file.name for file in tmp_path.iterdir()] == ["whole"]
    # What a kill leaves is a hidden folder beside it, and none of it is taken over.
    rest = tmp_path / ".set.tmp" / "heldout_masks"
    rest.mkdir(parents=True)
    (rest / "99999.png").write_bytes(b"half")
    assert digest(small("flat", monkeypatch, tmp_path / "set")) == whole
    assert sorted(file.name for file in tmp_path.iterdir()) == ["set", "whole"]
