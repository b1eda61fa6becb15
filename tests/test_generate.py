"""`lavit generate`: prompts of texts and pictures, as a person types them."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import typer
import typer.main
from lavit import LaVIT
from lavit.settings import draw_settings, sample_settings
from lavit_core.files import file_sha256
from PIL import Image

from lavit_cli.prompt_order import Command, in_order

SHORT = ["--num-steps", "2", "--json"]


def typed(*words: str) -> list[str | Path]:
    """Return what a command with generate's kinds of options makes of a line."""
    app = typer.Typer(add_completion=False)
    found: list[str | Path] = []

    @app.command(cls=Command)
    def show(
        context: typer.Context,
        prompt: Annotated[list[str] | None, typer.Argument()] = None,
        prompt_image: Annotated[list[Path] | None, typer.Option("--prompt-image")] = None,
        model: Annotated[Path, typer.Option("--model")] = Path(),
        num_images: Annotated[int, typer.Option()] = 1,
        highres: Annotated[bool | None, typer.Option("--highres/--no-highres")] = None,
    ) -> None:
        found.extend(in_order(context, "--prompt-image"))
        assert [part for part in found if isinstance(part, str)] == (prompt or [])
        assert [part for part in found if isinstance(part, Path)] == (prompt_image or [])

    typer.main.get_command(app).main(args=list(words), standalone_mode=False)
    return found


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["--prompt-image", "A", "text", "--prompt-image", "B"], [Path("A"), "text", Path("B")]),
        (["text", "--prompt-image=A", "--model", "m", "more"], ["text", Path("A"), "more"]),
        (["--highres", "text", "--prompt-image", "A"], ["text", Path("A")]),
        (["--model=m", "--num-images", "2", "--prompt-image", "A", "--prompt-image", "B"], [Path("A"), Path("B")]),
        (["--no-highres", "--prompt-image", "A"], [Path("A")]),
        (["--prompt-image", "--highres", "a=b", "model=x"], [Path("--highres"), "a=b", "model=x"]),
        (["--prompt-image", "A", "--", "--model", "-5"], [Path("A"), "--model", "-5"]),
        (["text"], ["text"]),
        ([], []),
    ],
)
def test_texts_and_pictures_keep_their_places(line, expected) -> None:
    assert typed(*line) == expected


def test_a_prompt_of_pictures_and_text(mini, here, tmp_path: Path) -> None:
    first, second = (mini.heldout / f"images/{number:06d}.png" for number in range(2))
    line = ["generate", "--prompt-image", first, "a red circle", "--prompt-image", second, "--model", mini.model]
    done = here(*line, "--out", tmp_path / "a.png", "--seed", "3", *SHORT)
    assert done.code == 0, done.err
    expected = [
        {"image": str(first), "sha256": file_sha256(first)},
        {"text": "a red circle"},
        {"image": str(second), "sha256": file_sha256(second)},
    ]
    assert json.loads(done.out)["prompt"] == expected
    picture = Image.open(tmp_path / "a.png")
    assert json.loads(picture.info["prompt"]) == expected
    # The same among others: a picture depends on its own prompt and seed.
    settings = {"sampling": sample_settings("tiny"), "drawing": draw_settings("tiny", num_steps=2)}
    prompts = [[np.asarray(Image.open(second)), "blue"], "blue", [first, "a red circle", second]]
    *_, last = LaVIT.from_pretrained(mini.model, device="cpu").generate_steps(prompts, [7, 8, 3], **settings)
    assert len(last.read_codes()[2]) == json.loads(done.out)["num_codes"][0]
    assert (np.abs(np.asarray(last.images[2]).astype(int) - np.asarray(picture).astype(int)) <= 2).all()


def test_guidance_of_prompts_with_pictures(mini, here, tmp_path: Path) -> None:
    assert sample_settings("tiny", guidance_scale=3.0).scale_of(images=True) == 3.0
    assert sample_settings("tiny").scale_of(images=True) == sample_settings("tiny").guidance_scale
    image = mini.heldout / "images/000000.png"
    line = ["generate", "--prompt-image", image, "--model", mini.model, "--out", tmp_path / "a.png", *SHORT]
    done = here(*line, "--prompt-images-as", "continuous", "--guidance-scale", "1.5", "--precision", "bf16")
    assert done.code == 0, done.err
    assert Image.open(tmp_path / "a.png").info["precision"] == json.loads(done.out)["precision"] == "bf16"
    sample = json.loads(done.out)["sample"]
    assert sample["prompt_images"] == "continuous"
    assert sample["guidance_scale"] == sample["image_guidance_scale"] == 1.5


@pytest.mark.parametrize(
    ("code", "more", "message"),
    [
        (2, [], "no prompt: give a text, --prompt-image FILE, or both"),
        (2, ["a", "red", "circle"], "two texts in a row, 'a' and 'red'; put the words of a text in quotes"),
        (3, ["--prompt-image", "gone.png"], "--prompt-image gone.png: file not found"),
        (3, ["--prompt-image", str(Path(__file__).parent)], "tests: a folder, expected a picture"),
        (3, ["--prompt-image", __file__], "not a readable image"),
        (2, ["--prompt-images-as", "words", "x"], "setting prompt_images: Input should be 'codes', 'bare' or"),
        (2, ["--aspect-ratio", "3:2", "x"], "--aspect-ratio 3:2: this detokenizer draws 32 x 32 px only; other shapes"),
    ],
)
def test_what_cannot_be_drawn(mini, here, tmp_path: Path, code: int, more: list[str], message: str) -> None:
    done = here("generate", *more, "--model", mini.model, "--out", tmp_path / "a.png")
    assert done.code == code, done.err
    assert message in done.last_error
    assert not list(tmp_path.iterdir())
