"""The readers of JSON, of JSON lines and of tables. The first line of an input is its file's name."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from lavit_core.checkpoints import check_checkpoint
from lavit_core.data import scan_data
from lavit_core.errors import LavitError
from lavit_core.files import read_json
from lavit_core.json_lines import iterate_json_lines, iterate_json_objects, read_json_lines
from lavit_core.modeldir import find_part, missing_parts, read_metadata
from lavit_core.records import Source
from lavit_core.source_list import read_source_list
from lavit_core.token_format import read_manifest
from lavit_core.token_journal import journal_folder, read_journal
from lavit_core.verify import verify
from PIL import Image


def scan(file: Path) -> None:
    """Read a list of images as the file that was named, as one of its folder, and as one beside its image."""
    Image.new("RGB", (8, 8), "red").save(file.with_name("a.png"))
    for path in (file, file.parent):
        with contextlib.suppress(LavitError):
            for record in scan_data(path)[0].records:
                assert record.key


def scan_stats(file: Path) -> None:
    """Read img2dataset's counts beside a tar."""
    file.with_name("a.tar").write_bytes(bytes(10240))
    scan_data(file.with_name("a.tar"))


def read_model(file: Path) -> None:
    """Read lavit.json with one part beside it."""
    (file.parent / "tokenizer").mkdir()
    (file.parent / "tokenizer" / "w.safetensors").write_bytes(b"w")
    missing_parts(file.parent)
    verify(file.parent, quiet=True)
    read_metadata(file.parent)
    find_part(file.parent, "tokenizer")


def read_tokens(file: Path) -> None:
    """Read manifest.json of a directory without its shards."""
    verify(file.parent, quiet=True)
    read_manifest(file.parent)


def read_kept(file: Path) -> None:
    """Read the journal of a token directory that is not finished."""
    journal_folder(file.parent).mkdir()
    file.rename(journal_folder(file.parent) / file.name)
    for lines in read_journal(file.parent).values():
        for line in lines:
            line.read()


READERS: dict[str, tuple[Callable[[Path], object], ...]] = {
    "lavit.json": (read_model,),
    "manifest.json": (read_tokens,),
    "state.json": (lambda file: check_checkpoint(file.parent),),
    "values.json": (read_json,),
    "rows.jsonl": (
        read_json_lines,
        lambda file: list(iterate_json_lines(file)),
        lambda file: list(iterate_json_lines(file, on_problem=str)),
        lambda file: list(iterate_json_objects(file)),
    ),
    "kept.jsonl": (read_kept,),
    "sources.json": (lambda file: read_source_list(Source(file)),),
    "a_stats.json": (scan_stats,),
    **dict.fromkeys(
        (
            "a.json",
            "captions.jsonl",
            "questions.jsonl",
            "metadata.jsonl",
            "metadata.csv",
            "coco.json",
            "dataset.json",
            "llava.json",
            "vqa.json",
            "rows.csv",
        ),
        (scan,),
    ),
}
"""File name -> its readers."""


def read(content: bytes) -> None:
    """Read a file with the readers that its name asks for. Raises what they may not: another error than ours."""
    name, _, text = content.partition(b"\n")
    for use in READERS.get(name.decode(errors="replace"), ()):
        with tempfile.TemporaryDirectory() as place:
            # Two folders down: images are looked for in the folder above the list's too.
            file = Path(place, "up", "step-00000005", name.decode())
            file.parent.mkdir(parents=True)
            file.write_bytes(text)
            with contextlib.suppress(LavitError):
                use(file)
