"""The parts of a quickstart that need no model: holding out, costs, settings, arranging images."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from lavit_core.data import open_data
from lavit_core.errors import InputError, UsageError
from lavit_core.shown_images import DIMMED, SHADE, dim_dropped, enlarge, in_grid
from PIL import Image

from lavit_cli import __version__
from lavit_cli.image_files import save_image
from lavit_cli.quickstart import plan, quickstart
from lavit_cli.quickstart.settings import settle
from lavit_cli.quickstart.split import split_data
from lavit_cli.step_costs import costs, measured, read_steps


def own_images(folder: Path, count: int) -> Path:
    (folder / "a" / "b").mkdir(parents=True)
    rows, asked = [], []
    for number in range(count):
        name = f"a/b/{number:03d}.png" if number % 2 else f"{number:03d}.png"
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / name)
        rows.append({"file_name": name, "captions": [f"image {number}"]})
        row = {"question_id": f"q{number}", "file_name": name, "question": "which?", "answer": str(number)}
        asked.append(row | ({"kind": "number"} if number % 3 else {}))
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), encoding="utf-8")
    return folder


def test_split_is_a_partition_and_keeps_captions_and_questions_with_their_image(tmp_path: Path) -> None:
    source = open_data(own_images(tmp_path / "own", 60))
    split_data(source.root, tmp_path / "out", share=0.2, seed=1)
    train, heldout = open_data(tmp_path / "out/train"), open_data(tmp_path / "out/heldout")
    keys = [{record.key for record in part.records} for part in (train, heldout)]
    assert keys[0] | keys[1] == {record.key for record in source.records}
    assert not keys[0] & keys[1]
    assert 4 <= len(keys[1]) <= 22
    for part in (train, heldout):
        for record in part.records:
            assert record.image.read_bytes() == (source.root / record.key).read_bytes()
            assert record.captions == next(one.captions for one in source.records if one.key == record.key)
    assert sorted(map(str, train.questions + heldout.questions)) == sorted(map(str, source.questions))


def test_split_of_several_sources_links_to_each_ones_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own_images(tmp_path / "own", 40)
    own_images(tmp_path / "far" / "other", 40)
    (tmp_path / "sources.yaml").write_text("sources: [{data: own}, {data: far/other, name: more, weight: 2}]")
    whole = open_data(tmp_path / "sources.yaml")
    split_data(tmp_path / "sources.yaml", tmp_path / "out", share=0.2, seed=1)
    assert "a quickstart has no weights" in capsys.readouterr().err
    parts = [open_data(tmp_path / "out" / part) for part in ("train", "heldout")]
    found = {record.key: record.image.read_bytes() for part in parts for record in part.records}
    assert found == {record.key: record.image.read_bytes() for record in whole.records}
    assert {key.split("/")[0] for key in found} == {"own", "more"}
    asked = [question for part in parts for question in part.questions]
    assert sorted(map(str, asked)) == sorted(map(str, whole.questions))


def test_split_writes_images_out_of_tars_and_keeps_conversations(tmp_path: Path) -> None:
    own = own_images(tmp_path / "own", 60)
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars" / "0.tar", "w") as tar:
        for file in sorted(own.rglob("*.png")):
            tar.add(file, str(file.relative_to(own)))
    talk = {"image": "001.png", "conversations": [{"from": ("human", "gpt")[n % 2], "value": str(n)} for n in range(4)]}
    (own / "captions.jsonl").unlink()
    (own / "questions.jsonl").unlink()
    (own / "talk.json").write_text(json.dumps([{**talk, "image": f"{n:03d}.png"} for n in range(0, 60, 2)]))
    for name in ("tars", "own"):
        split_data(tmp_path / name, tmp_path / f"{name}-out", share=0.2, seed=1)
        parts = [open_data(tmp_path / f"{name}-out" / part) for part in ("train", "heldout")]
        whole = open_data(tmp_path / name)
        found = {record.key: record.image.read_bytes() for part in parts for record in part.records}
        assert found == {record.key: record.image.read_bytes() for record in whole.records}
        asked = [question for part in parts for question in part.questions]
        assert sorted(map(str, asked)) == sorted(map(str, whole.questions))
    assert any(question.earlier == (("0", "1"),) for question in asked)


def test_split_counts_the_questions_with_images_in_both_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = own_images(tmp_path / "own", 60)
    names = [record.key for record in open_data(own).records]
    with (own / "questions.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"question_id": "all", "images": names, "question": "<image>" * 60, "answer": ""}) + "\n")
        file.write(json.dumps({"question_id": "none", "images": [], "question": "who?", "answer": "I"}) + "\n")
    split_data(own, tmp_path / "out", share=0.2, seed=1)
    assert "1 of 62 questions have images in both parts; left out" in capsys.readouterr().err
    asked = [question for part in ("train", "heldout") for question in open_data(tmp_path / "out" / part).questions]
    assert len(asked) == 61


def test_split_holds_out_the_same_images_when_others_are_added(tmp_path: Path) -> None:
    for name, count in (("few", 40), ("more", 60)):
        split_data(own_images(tmp_path / name, count), tmp_path / f"{name}-out", share=0.2, seed=1)
    few, more = (
        {record.key for record in open_data(tmp_path / f"{name}-out" / "heldout").records} for name in ("few", "more")
    )
    assert few <= more


def test_split_refuses_too_few_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 images are too few to hold out 1%"):
        split_data(own_images(tmp_path / "own", 2), tmp_path / "out", share=0.01, seed=0)
    assert not (tmp_path / "out").exists()


def test_data_that_cannot_be_used_leaves_no_run_that_would_refuse_the_mended_data(tmp_path: Path) -> None:
    bare = own_images(tmp_path / "bare", 30)
    for name in ("captions.jsonl", "questions.jsonl"):
        (bare / name).unlink()
    for own, message in (
        (own_images(tmp_path / "own", 1), "1 images are too few to hold out 10%"),
        (
            bare,
            r"bare: none of \d+ images to learn from has a caption, expected captions beside the images or in a list",
        ),
    ):
        with pytest.raises(InputError, match=message):
            quickstart(tmp_path / "run", plan(preset="tiny"), data=own, device="cpu", quiet=True)
        assert not (tmp_path / "run").exists()


def test_drawn_data_keeps_its_scenes(shapes: Path, tmp_path: Path) -> None:
    split_data(shapes / "train", tmp_path / "out", share=0.3, seed=0)
    for part in ("train", "heldout"):
        scenes = (tmp_path / "out" / part / "scenes.jsonl").read_text().splitlines()
        assert {json.loads(row)["file_name"] for row in scenes} == {
            record.key for record in open_data(tmp_path / "out" / part).records
        }


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """Twenty-four drawn images."""
    from lavit_shapes.make_shapes import make_shapes

    make_shapes(tmp_path / "shapes", 24, 0, 2, quiet=True)
    return tmp_path / "shapes"


def test_costs_add_up_over_restarts_and_stop_once_finished(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), measured(tmp_path, "encoder"):
        raise KeyboardInterrupt
    for _ in range(3):
        with measured(tmp_path, "encoder"):
            np.ones(4_000_000).sum()
    rows = read_steps(tmp_path)
    assert [row["finished"] for row in rows] == [False, True]
    (total,) = costs(tmp_path)
    assert total["finished"]
    assert total["seconds"] == pytest.approx(sum(row["seconds"] for row in rows), abs=0.02)
    assert total["peak_memory_bytes"] > 30_000_000
    with open(tmp_path / "steps.jsonl", "a", encoding="utf-8") as handle:
        handle.write('{"step": "tok')
    assert len(read_steps(tmp_path)) == 2


def test_settings_are_the_commands_presets_with_overrides() -> None:
    settled = settle(plan(preset="tiny", sets=["pretrain.num_steps=7", "encoder.vision.width=64", "blind.num_steps=3"]))
    assert settled.pretrain.num_steps == 7
    assert settled.blind.num_steps == 3
    assert settled.blind.image_input == "none"
    assert settled.blind.llm == settled.pretrain.llm
    assert settled.encoder.vision.width == 64
    assert settled.encoder.vision.patch_px == 8
    assert settled.tokens.features
    with pytest.raises(UsageError, match="tokenizer: unknown setting mdoel; did you mean model"):
        settle(plan(preset="tiny", sets=["tokenizer.mdoel=1"]))
    with pytest.raises(UsageError, match="--preset huge: quickstart has the presets base, tiny"):
        plan(preset="huge")


def test_dropped_patches_are_darkened_in_raster_order() -> None:
    pixels = np.full((8, 8, 3), 200, dtype=np.uint8)
    shown = dim_dropped(pixels, np.array([True, False, False, True]), (2, 2))
    dark = np.round(DIMMED * 200 + (1 - DIMMED) * np.asarray(SHADE)).astype(np.uint8)
    assert (shown[:4, :4] == 200).all()
    assert (shown[4:, 4:] == 200).all()
    assert (shown[:4, 4:] == dark).all()
    assert (shown[4:, :4] == dark).all()


def test_grid_enlarging_and_text_chunks(tmp_path: Path) -> None:
    images = [np.full((4, 4, 3), value, dtype=np.uint8) for value in (10, 20, 30)]
    large = [enlarge(image, 8) for image in images]
    assert large[0].shape == (8, 8, 3)
    sheet = in_grid(large)
    assert sheet.shape == (24, 24, 3)
    assert (sheet[:8, 16:] == 20).all()
    assert (sheet[16:, 16:] == 255).all()
    save_image(tmp_path / "new" / "a.png", sheet, {"prompt": "größer", "seed": "7"})
    info = Image.open(tmp_path / "new" / "a.png").info
    assert info == {"prompt": "größer", "seed": "7", "Software": f"lavit {__version__}"}


def test_headline_puts_seen_and_unseen_combinations_beside_a_metric():
    from lavit_cli.headline import headline

    metric = {"value": 0.5, "count": 4, "low": 0.2, "high": 0.8}
    score = {"questions.all": metric, "questions.all.seen": {**metric, "value": 0.75}, "real.everything": metric}
    found = headline(score)
    assert list(found) == ["questions answered correctly"]
    assert found["questions answered correctly"]["value"] == 0.5
    assert found["questions answered correctly"]["seen"]["value"] == 0.75
    assert "unseen" not in found["questions answered correctly"]


@pytest.mark.parametrize(("best_of", "kind"), [(1, ""), (2, " (better of two)"), (4, " (best of 4)")])
def test_headline_names_how_many_images_were_drawn_of_a_prompt(best_of: int, kind: str) -> None:
    from lavit_cli.headline import headline_of

    score = {"figures": {"generation.everything": {"value": 0.5, "count": 4}}, "settings": {"best_of": best_of}}
    assert list(headline_of(score)) == [f"drawn from prompts, everything correct{kind}"]
    assert headline_of({}) == {}
