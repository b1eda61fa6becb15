"""`lavit generate`: prompts of texts and images, as a person types them."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from lavit import LaVIT
from lavit_core.command import CommonOptions
from lavit_core.errors import InputError, UsageError
from lavit_core.files import file_sha256, read_json, write_json
from lavit_trainkit.testing import forget_sizes
from PIL import ExifTags, Image

from lavit_cli.generate_settings import generate_settings
from lavit_cli.image_files import save_image
from lavit_cli.prompts import prompt_record, typed_prompt

SHORT = ["--num-steps", "2", "--json"]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files, A and B, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in "AB":
        Path(name).touch()


@pytest.mark.parametrize(
    ("texts", "images", "expected"),
    [
        (["a red circle"], [], ["a red circle"]),
        ([""], [], [""]),
        (["<image> as an oil painting"], ["A"], [Path("A"), "as an oil painting"]),
        (["<image> then <image>"], ["B", "A"], [Path("B"), "then", Path("A")]),
        (["a<image><image>b"], ["A", "B"], ["a", Path("A"), Path("B"), "b"]),
        ([], ["A", "B"], [Path("A"), Path("B")]),
    ],
)
def test_images_take_the_places_of_placeholders(files, texts, images, expected) -> None:
    assert typed_prompt(texts, [Path(image) for image in images], [], []) == expected


@pytest.mark.parametrize(
    ("texts", "images", "message"),
    [
        (
            ["as an oil painting"],
            ["A"],
            "0 <image> in the prompt but 1 --image; put <image> where the image belongs, for example",
        ),
        (["<image> and <image>"], ["A"], "2 <image> in the prompt but 1 --image"),
        (["a", "b"], [], "two texts in a row, 'a' and 'b'; put the words of a text in quotes"),
        ([], [], "no prompt: give a text, images, or both"),
    ],
)
def test_prompts_that_cannot_be_are_refused(files, texts, images, message) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        typed_prompt(texts, [Path(image) for image in images], [], [])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["--prompt-image", "A", "text", "--prompt-image", "B"], [Path("A"), "text", Path("B")]),
        (["text", "--prompt-image=A", "--seed", "1"], ["text", Path("A")]),
        (["--prompt-image", "A", "--prompt-image", "A"], [Path("A"), Path("A")]),
    ],
)
def test_the_old_form_keeps_its_order_with_a_warning(files, here, line, expected) -> None:
    done = here("generate", *line, "--model", "m", "--dry-run", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["prompt"] == prompt_record(expected)
    assert "--prompt-image is accepted for one more release; now it is: lavit generate" in done.err
    assert done.err.count("\n") == 1


def test_the_old_form_is_refused_where_its_order_is_unclear(files, here) -> None:
    for line in (["--prompt-image", "A", "A"], ["--prompt-image", "A", "x", "--out", "x"]):
        done = here("generate", *line, "--model", "m", "--dry-run")
        assert done.code == 2
        assert "--prompt-image is now --image, with <image> where it is read: lavit generate" in done.last_error
    done = here("generate", "--prompt-image", "A", "--image", "B", "x", "--dry-run")
    assert "--image and --prompt-image: give --image alone, the new name" in done.last_error


def test_a_prompt_of_images_and_text(mini, here, tmp_path: Path) -> None:
    first, second = (mini.heldout / f"images/{number:06d}.png" for number in range(2))
    line = ["generate", "<image> a red circle <image>", "--image", first, "--image", second, "--model", mini.model]
    done = here(*line, "--out", tmp_path / "a.png", "--seed", "3", *SHORT)
    assert done.code == 0, done.err
    expected = [
        {"image": str(first), "sha256": file_sha256(first)},
        {"text": "a red circle"},
        {"image": str(second), "sha256": file_sha256(second)},
    ]
    assert json.loads(done.out)["prompt"] == expected
    image = Image.open(tmp_path / "a.png")
    assert json.loads(image.info["prompt"]) == expected
    # The same among others: an image depends on its own prompt and seed.
    chosen = generate_settings(CommonOptions(), {"draw": {"num_steps": 2}})
    settings = {"sampling": chosen.sample, "drawing": chosen.draw}
    prompts = [[np.asarray(Image.open(second)), "blue"], "blue", [first, "a red circle", second]]
    *_, last = LaVIT.from_pretrained(mini.model, device="cpu").generate_steps(prompts, [7, 8, 3], **settings)
    assert len(last.read_codes()[2]) == json.loads(done.out)["num_codes"][0]
    assert (np.abs(np.asarray(last.images[2]).astype(int) - np.asarray(image).astype(int)) <= 2).all()


def test_guidance_of_prompts_with_images(mini, here, tmp_path: Path) -> None:
    plain = generate_settings(CommonOptions(), {}).sample
    assert plain.scale_of(images=True) == plain.guidance_scale
    image = mini.heldout / "images/000000.png"
    line = ["generate", "--image", image, "--model", mini.model, "--out", tmp_path / "a.png", *SHORT]
    done = here(*line, "--image-prompt-format", "continuous", "--guidance-scale", "1.5", "--precision", "bf16")
    assert done.code == 0, done.err
    assert Image.open(tmp_path / "a.png").info["precision"] == json.loads(done.out)["precision"] == "bf16"
    sample = json.loads(done.out)["sample"]
    assert sample["prompt_images"] == "continuous"
    assert sample["guidance_scale"] == sample["image_guidance_scale"] == 1.5


@pytest.mark.parametrize(
    ("code", "more", "message"),
    [
        (2, [], "no prompt: give a text, images, or both"),
        (3, ["--image", "gone.png"], "--image gone.png: file not found"),
        (3, ["--image", str(Path(__file__).parent)], "tests: a folder, expected an image"),
        (3, ["--image", __file__], "not a readable image"),
        (
            2,
            ["--image-prompt-format", "words", "x"],
            "setting sample.prompt_images: Input should be 'codes', 'bare' or",
        ),
        (2, ["--aspect-ratio", "3:2", "x"], "--aspect-ratio 3:2: this detokenizer draws 32 x 32 px only; other shapes"),
        (2, ["--size", "48x32", "x"], "--size 48x32: this detokenizer draws 32x32 px only"),
        (2, ["--size", "48", "x"], "setting draw.size: String should match pattern"),
    ],
)
def test_what_cannot_be_drawn(mini, here, tmp_path: Path, code: int, more: list[str], message: str) -> None:
    done = here("generate", *more, "--model", mini.model, "--out", tmp_path / "a.png")
    assert done.code == code, done.err
    assert message in done.last_error
    assert not list(tmp_path.iterdir())


def test_sizes_of_a_detokenizer_that_was_trained_on_several(mini, here, tmp_path: Path) -> None:
    model = Path(shutil.copytree(mini.model, tmp_path / "model"))
    # Convolutions draw any size: as if training had shown these.
    file = model / "detokenizer" / "config.json"
    write_json(file, read_json(file) | {"sizes": ["32x32", "48x32", "32x48"]})
    forget_sizes(model)
    line = ["generate", "a red circle", "--model", model, "--out", tmp_path / "a.png", *SHORT]
    done = here(*line, "--size", "48x32")
    assert done.code == 0, done.err
    assert Image.open(tmp_path / "a.png").size == (48, 32)
    assert json.loads(done.out)["draw"]["size"] == "48x32"
    refused = here(*line, "--size", "64x32")
    assert (refused.code, refused.last_error) == (
        2,
        "error: --size 64x32: this detokenizer draws 32x32, 48x32, 32x48 px only",
    )
    image = tmp_path / "high.png"
    Image.new("RGB", (40, 63), "red").save(image)
    done = here("reconstruct", image, "--model", model, "--num-steps", "1", "--out", tmp_path / "r.png", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["images"][0]["size_px"] == [48, 32]
    # Three panels of 32 x 48 px, eight times as large.
    assert Image.open(tmp_path / "r.png").size == (3 * 256 + 16, 384)
    done = here("detokenize", mini.run / "tokens/heldout", "--model", model, "--out", tmp_path / "d", "--size", "32x48")
    assert done.code == 0, done.err
    assert {Image.open(one).size for one in (tmp_path / "d" / "images").iterdir()} == {(32, 48)}


def test_settings_come_from_files_sets_and_options(mini, here, tmp_path: Path) -> None:
    first, second = tmp_path / "1.yaml", tmp_path / "2.yaml"
    first.write_text("draw: {num_steps: 3, guidance_scale: 2.0}")
    second.write_text("draw: {num_steps: 4}")
    line = ["generate", "a red circle", "--config", first, "--config", second, "--set", "sample.top_k=5"]
    done = here(*line, "--temperature", "0.5", "--print-config")
    assert done.code == 0, done.err
    settings = yaml.safe_load(done.out)
    assert (settings["draw"]["num_steps"], settings["draw"]["guidance_scale"]) == (4, 2.0)
    assert (settings["sample"]["top_k"], settings["sample"]["temperature"]) == (5, 0.5)
    more = ["--temperature", "0.5", "--model", mini.model, "--out", tmp_path / "a.png", "--json"]
    done = here(*line, *more)
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert (made["draw"], made["sample"]) == (settings["draw"], settings["sample"])


def test_a_model_and_a_name_are_found(mini, here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = mini.heldout / "images/000000.png"
    monkeypatch.setenv("LAVIT_MODEL", str(mini.model))
    monkeypatch.chdir(tmp_path)
    line = ["generate", "a red circle", "--seed", "7", "--num-steps"]
    for steps, said in (
        ("2", "a-red-circle-seed7.png: 1 image of "),
        ("2", "same as a-red-circle-seed7.png; seed 7; --seed 8 draws another, --num-images 9 a grid"),
        ("3", "a-red-circle-seed7-2.png: 1 image of "),
    ):
        done = here(*line, steps)
        assert done.code == 0, done.err
        assert f"model: {mini.model} ($LAVIT_MODEL)" in done.err
        assert "loading the model ..." in done.err
        assert done.out.startswith(said)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a-red-circle-seed7-2.png", "a-red-circle-seed7.png"]
    done = here("reconstruct", image, "--num-steps", "2")
    assert done.out.startswith("000000-reconstruction-seed0.png: original | ")
    assert here("caption", image).code == here("ask", image, "what shape is it?").code == 0
    Path("runs").mkdir()
    Path("runs/demo").symlink_to(mini.run)
    monkeypatch.delenv("LAVIT_MODEL")
    assert "model: runs/demo/model (the newest under ./runs; choose with --model)" in here("caption", image).err


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_other_formats_record_the_settings_in_exif(mini, here, tmp_path: Path, name: str) -> None:
    line = ["generate", "a red circle", "--model", mini.model, "--num-steps", "2"]
    assert here(*line, "--out", tmp_path / "a.png").code == 0
    done = here(*line, "--out", tmp_path / name)
    assert done.code == 0, done.err
    image = Image.open(tmp_path / name)
    exif = image.getexif()
    assert json.loads(exif[ExifTags.Base.ImageDescription])["prompt"] == "a red circle"
    assert exif[ExifTags.Base.Software].startswith("lavit ")
    different = np.asarray(image).astype(int) - np.asarray(Image.open(tmp_path / "a.png"))
    assert np.abs(different).mean() < 4 if name.endswith("jpg") else not different.any()
    assert "expected a file name that ends in .png, .jpg or .webp" in here(*line, "--out", "a.gif").last_error


def test_what_a_format_cannot_hold_is_refused_before_anything_is_drawn(
    mini, here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for method in ("encode", "sample"):
        monkeypatch.setattr(LaVIT, method, lambda *_, **__: pytest.fail("the model was used"))
    image = next((mini.run / "data/heldout").rglob("*.png"))
    out, model = tmp_path / "a.webp", ["--model", mini.model]
    for dry in ([], ["--dry-run"]):
        done = here("reconstruct", *[image] * 63, *model, "--out", out, *dry)
        assert done.code == 3
        assert f"--out {out}: too large for WEBP (784 x 16624 pixels, at most 16383 a side)" in done.last_error
    for dry in ([], ["--dry-run"]):
        done = here("generate", "a red circle", "--num-images", 250_000, *model, "--out", tmp_path / "a.jpg", *dry)
        assert done.code == 3
        assert re.search(r"too large for JPEG .*at most 65500 a side.; take a name that ends in \.png", done.last_error)
    assert not list(tmp_path.iterdir())


def test_metadata_that_a_format_cannot_hold_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"too large for JPEG .EXIF data is too long.; take a name that ends in"):
        save_image(tmp_path / "a.jpg", np.zeros((8, 8, 3), np.uint8), {"images": ["x" * 70_000]})
    with pytest.raises(InputError, match=r"too large for WEBP .encoding error 5"):
        save_image(tmp_path / "a.webp", np.zeros((16_384, 1, 3), np.uint8), {})
    assert not list(tmp_path.iterdir())


def test_empty_prompts_and_unknown_words_are_explained(mini, here, tmp_path: Path) -> None:
    line = ["--model", mini.model, "--num-steps", "2", "--out", tmp_path / "a.png"]
    assert "the prompt is empty: the model draws whatever its training made likely" in here("generate", "", *line).err
    done = here("generate", "a red dinosaur, a quokka", *line)
    assert done.code == 0, done.err
    assert re.search("the model has not learned these words whole: .*dinosaur, quokka;", done.err)


def type_lines(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_each_line_of_stdin_is_drawn_as_its_own_command_would(
    mini, here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["--model", mini.model, "--num-steps", "2", "--seed", "3"]
    prompts = ["a red circle", "a blue square", "a red circle"]
    type_lines(monkeypatch, f"{prompts[0]}\n \n{prompts[1]}\r\n{prompts[2]}".encode())
    folder = tmp_path / "new" / "folder"
    done = here("generate", "-", *more, "--out", folder, "--json")
    assert done.code == 0, done.err
    made = [json.loads(line) for line in done.out.splitlines()]
    assert [one["prompt"] for one in made] == prompts
    assert made[2]["same_as"] == made[0]["out"] == str(folder / "a-red-circle-seed3.png")
    assert len(list(folder.iterdir())) == 2
    for one in made[:2]:
        alone = tmp_path / "alone.png"
        assert here("generate", one["prompt"], *more, "--out", alone).code == 0
        assert alone.read_bytes() == Path(one["out"]).read_bytes()


def test_stdin_without_a_prompt_is_told(mini, here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    type_lines(monkeypatch, b"\n \n")
    done = here("generate", "-", "--model", mini.model, "--out", tmp_path / "out")
    assert done.code == 0
    assert "stdin: no prompt in it (one a line), nothing was drawn" in done.err


def test_lines_that_cannot_be_drawn_are_named(mini, here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = ["--model", mini.model, "--num-steps", "2", "--out", tmp_path / "out"]
    for content, message in (
        (b"a red circle\n\xff", "stdin, line 2: byte 0 (0xff) is not UTF-8"),
        (b"a red circle\n<image> x", "stdin, line 2: 1 <image> in the prompt but 0 --image"),
    ):
        type_lines(monkeypatch, content)
        done = here("generate", "-", *more)
        assert done.code == 2
        assert message in done.last_error
        # What was drawn before it is there.
        assert (tmp_path / "out" / "a-red-circle-seed0.png").is_file()
    assert "take no images" in here("generate", "-", "--image", "a.png", *more).last_error
    (tmp_path / "file").touch()
    assert "it names a folder" in here("generate", "-", "--model", mini.model, "--out", tmp_path / "file").last_error
