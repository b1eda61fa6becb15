"""`lavit data preview`: one page that loads nothing and shows a data set's problems, images and documents."""

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from commandline import Done, Mini
from PIL import Image

Here = Callable[..., Done]


class Elements(HTMLParser):
    """Collects tags with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def of_class(self, *names: str) -> int:
        """Number of elements that have all of these classes."""
        return sum(set(names) <= set(attrs.get("class", "").split()) for _, attrs in self.found)


@pytest.fixture(name="photos")
def photos_fixture(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(rng.integers(0, 255, (20, 30 + number, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"caption number {number} <script>alert(1)</script>\n")
    return folder


def test_the_page_loads_nothing_and_shows_images_as_they_are_read(here: Here, photos: Path, tmp_path: Path) -> None:
    done = here(
        "data", "preview", photos, "--out", tmp_path / "new" / "page.html", "--samples", "4", "--image-px", "16"
    )
    assert (done.code, done.last_error) == (0, "")
    page = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    elements = Elements(page)
    urls = [attrs[name] for _, attrs in elements.found for name in ("src", "href", "srcset", "data") if name in attrs]
    assert len(urls) == 4 * 2
    assert all(url.startswith("data:image/png;base64,") for url in urls)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in elements.found}
    assert not re.findall(r"(?:url\(|@import|https?://)", page.split("</style>")[0])
    assert "prefers-color-scheme: dark" in page
    assert "&lt;script&gt;" in page
    for text in (
        "layout sidecars",
        "None found",
        "No two of 6 images have equal bytes",
        "16 x 16 px",
        "words of a caption",
    ):
        assert text in page, text
    # The same seed shows the same images, another one others; without a change the bytes are the same.
    again = here("data", "preview", photos, "--out", tmp_path / "page.html", "--samples", "4", "--image-px", "16")
    assert again.code == 0
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page
    here(
        "data", "preview", photos, "--out", tmp_path / "page.html", "--samples", "4", "--image-px", "16", "--seed", "1"
    )
    assert (tmp_path / "page.html").read_text(encoding="utf-8") != page


def test_questions_about_several_images_or_none_are_counted(here: Here, photos: Path, tmp_path: Path) -> None:
    rows = [{"file_name": f"{name}.png", "captions": [str(name)]} for name in range(6)]
    (photos / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    about = (["0.png"], ["0.png", "1.png"], [])
    asked = [{"question_id": number, "images": names, "question": "<image>" * len(names) + "which?", "answer": "it"}
             for number, names in enumerate(about)]  # fmt: skip
    (photos / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    done = here("data", "preview", photos, "--out", tmp_path / "page.html", "--image-px", "16")
    assert done.code == 0, done.err
    assert "2 of 3 questions are about several images or none; not shown" in done.err


def test_problems_come_first_and_end_with_3(here: Here, photos: Path, tmp_path: Path) -> None:
    (photos / "1.png").write_text("<html>")
    shutil.copy(photos / "2.png", photos / "copy.png")
    rows = [{"file_name": f"{name}.png", "captions": [name]} for name in (*range(6), "copy", "gone")]
    (photos / "captions.jsonl").write_text("".join(json.dumps({**row, "captions": ["x"]}) + "\n" for row in rows))
    done = here("data", "preview", photos, "--out", tmp_path / "page.html", "--json")
    assert done.code == 3
    assert "1 problem(s)" in done.last_error
    found = json.loads(done.out)
    assert (found["problems"], found["unreadable"], found["duplicates"]) == (1, 1, [["2.png", "copy.png"]])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    places = [
        page.index(text) for text in ("unreadable: 1", "missing: 1", "2.png = copy.png", "How it is read", "<figure")
    ]
    assert places == sorted(places)
    assert "gone.png: no such image" in page


def test_what_can_not_be_shown_is_one_line(here: Here, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    for arguments, code, message in (
        ([photos], 2, "--out is missing"),
        ([photos, "--out", out, "--set", "caption_drop=0"], 2, "need --model"),
        ([photos, "--out", out, "--preset", "base"], 2, "need --model"),
        ([photos, "--out", tmp_path], 3, "a folder, expected a file name"),
        ([photos, "--out", photos / "0.txt"], 2, "expected a name that ends in .html"),
        ([tmp_path / "nothing", "--out", out], 3, "found nothing"),
        ([photos, "--out", out, "--model", tmp_path / "no-model"], 3, "no such directory"),
    ):
        done = here("data", "preview", *arguments)
        assert (done.code, message in done.last_error) == (code, True), done.err
    assert not out.exists()
    for file in photos.glob("*.png"):
        file.write_text("no image")
    done = here("data", "preview", photos, "--out", out)
    assert (done.code, "none of 6 images can be read" in done.last_error) == (3, True)
    done = here("data", "inspect", photos)
    assert (done.code, "none of 6 images can be read" in done.last_error) == (3, True)
    for file in photos.glob("*.png"):
        file.unlink()
    (photos / "captions.jsonl").write_text('{"file_name": "gone.png", "captions": ["x"]}')
    done = here("data", "preview", photos, "--out", out)
    assert (done.code, "gone.png: no such image" in done.last_error) == (3, True)


def test_a_model_shows_patches_codes_and_documents(here: Here, mini: Mini, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    done = here("data", "preview", mini.heldout, "--model", mini.model, "--out", out, "--samples", "3")
    assert (done.code, done.last_error) == (0, "")
    page = out.read_text(encoding="utf-8")
    elements = Elements(page)
    assert sum(attrs.get("alt") == "kept patches" for _, attrs in elements.found) == 3
    assert elements.of_class("doc") == 3 * 3
    assert elements.of_class("t", "text", "scored") > 10
    assert elements.of_class("t", "code") > 3 * 3
    for text in (
        "learns to draw",
        "learns to describe",
        "learns to answer",
        "[IMG]",
        "&lt;eos&gt;",
        f"text tokenizer of {mini.model}",
    ):
        assert text in page, text
    # Before there is a language model, its text tokenizer is learned from these texts, as pretraining does.
    done = here(
        "data", "preview", mini.heldout, "--model", mini.run / "tokenizer/model", "--out", out, "--samples", "2"
    )
    assert (done.code, done.last_error) == (0, "")
    assert "a text tokenizer trained on these texts" in out.read_text(encoding="utf-8")
