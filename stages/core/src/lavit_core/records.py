"""What a data set is once it is read: images with captions, questions, and what is wrong with it."""

import dataclasses
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lavit_core.images import ImageFile


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One image: its key (its path below the data folder, or its name in a tar), where it lies and its captions."""

    key: str
    image: ImageFile
    captions: tuple[str, ...]
    weight: int = 1
    """How often a training shows it where another image is shown once."""


IMAGE_MARK = "<image>"
"""Stands in a question of a conversation about several images where one of them is read."""


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """One question on the image `key`; `kind` groups answers in a score."""

    question_id: int | str
    key: str
    """The image, of several the first; "" in a conversation about none."""
    question: str
    answer: str
    kind: str | None
    earlier: tuple[tuple[str, str], ...] = ()
    """Questions and answers of the same conversation that came before it."""
    images: tuple[str, ...] = ()
    """Keys of several images, in the order of the marks in its questions; () for one image or none."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The images that the conversation is about, in order."""
        return self.images or ((self.key,) if self.key else ())

    @property
    def num_images(self) -> int:
        """Number of images that the conversation is about."""
        return len(self.keys)


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a data set: its kind, and a line that names file and line number."""

    kind: Literal["line", "duplicate", "missing", "name"]
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """What the user named: a folder or a file, and how to read it where that can't be seen."""

    path: Path
    image_column: str | None = None
    """Column of a table that names or holds the image; None: guessed."""
    caption_column: str | None = None
    """Column that holds the captions; `none`: read no captions; None: guessed."""
    split: str | None = None
    """Splits to read of what holds several, separated by commas; `all` for all."""
    allow_network: bool = False
    """Whether a name on the hub may be asked for."""

    def __str__(self) -> str:
        return str(self.path)

    @property
    def words(self) -> str:
        """The words that name it on a command line."""
        given = [word for option in self.options for word in option]
        given += ["--allow-network"] if self.allow_network else []
        return shlex.join([str(self.path), *given])

    @property
    def options(self) -> list[tuple[str, str]]:
        """Options that say how to read it, and their values."""
        given = {"image-column": self.image_column, "caption-column": self.caption_column, "split": self.split}
        return [(f"--{name}", value) for name, value in given.items() if value is not None]


class ListedImage(NamedTuple):
    """An image as a layout names it."""

    key: str
    captions: Sequence[str]
    place: Sequence[Any] = ()
    """Where it lies, if inside another file (`lavit_core.image_places`); (): its key is its path below the folder."""
    size: int | None = None
    """Size in bytes of an image inside another file."""


@dataclasses.dataclass(kw_only=True)
class Contents:
    """What one layout holds, as its file says: nothing is known yet about whether the images are there."""

    layout: str
    root: Path
    """Folder that keys are relative to."""
    files: list[Path] = dataclasses.field(default_factory=list)
    """Files with captions, questions or images that were read."""
    captions: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Captions by key, empty ones included; of layouts that are a file which is read whole."""
    listed: Iterable[ListedImage] | None = None
    """The images sorted by key, of layouts that may be larger than memory."""
    questions: list[Question] = dataclasses.field(default_factory=list)
    named_by: str = "file_name"
    """What names an image in the files, for messages."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """What was guessed or left out, for stderr."""
    heeded: set[str] = dataclasses.field(default_factory=set)
    """Fields of the source that had a say in this: `image_column`, `caption_column`, `split`."""
    problems: list[Problem] = dataclasses.field(default_factory=list)

    def images(self) -> Iterator[ListedImage]:
        """Yield the images sorted by key, those of questions too."""
        if self.listed is not None:
            yield from self.listed
            return
        for question in self.questions:
            for key in question.keys:
                self.captions.setdefault(key, ())
        for key in sorted(self.captions):
            yield ListedImage(key, self.captions[key])
