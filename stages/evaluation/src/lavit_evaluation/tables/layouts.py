"""Rows of the tables that lmms-lab publishes -> the official files of each benchmark.

    vqav2, okvqa        question_id image_id question answers image [question_type answer_type multiple_choice_answer]
    vizwiz              question_id (the image's name) question answers image [category]
    gqa                 one table id imageId question answer ..., one table id image (lmms-lab splits them)
    coco-caption        question_id or file_name (COCO's image name) answer image
    flickr30k-caption   filename caption image [split]
    nocaps              image_id image_file_name annotations_captions image [image_domain]
    magicbrush          img_id turn_index (from 1) source_img instruction target_img (osunlp/MagicBrush: train, dev)

Differs from the official files: an answer that is text alone gets its position as answer_id.
"""

import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from PIL import Image

CAPTION_COLUMNS = {
    "coco-caption": (("file_name", "question_id"), "answer"),
    "flickr30k-caption": (("filename",), "caption"),
    "nocaps": (("image_file_name",), "annotations_captions"),
}
"""Benchmark -> columns that may name the image, column of the captions."""
VQA_COLUMNS = ("question_type", "answer_type", "multiple_choice_answer")
GQA_COLUMNS = ("imageId", "question", "answer", "fullAnswer", "isBalanced", "groups", "entailed", "equivalent", "types",
               "annotations", "semantic", "semanticStr")  # fmt: skip
"""What GQA's own question files contain."""
_SAFE = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class Row:
    """One row of a table, read column by column; every error names the row."""

    values: dict[str, Any]
    where: str
    """File, table and number of the row."""

    def get(self, column: str) -> Any:
        """Return a value; None if there is no such column."""
        return self.values.get(column)

    def text(self, column: str) -> str:
        """Return a text. Raises InputError."""
        value = self.get(column)
        if not isinstance(value, str):
            raise self.error(column, "text")
        return value

    def integer(self, column: str) -> int:
        """Return an integer, which may be stored as text. Raises InputError."""
        value = self.get(column)
        if not isinstance(value, int) and not (isinstance(value, str) and value.isdecimal()):
            raise self.error(column, "a number")
        return int(value)

    def answers(self) -> list[dict[str, Any]]:
        """Return the human answers as official records; empty for a test split. Raises InputError."""
        answers = self.get("answers")
        if isinstance(answers, dict):  # a sequence of records is stored as one record of sequences
            lengths = {len(values) if isinstance(values, list) else None for values in answers.values()}
            if None in lengths or len(lengths) > 1:
                raise InputError(f"{self.where}: answers is {str(answers)[:60]}, expected lists of one length")
            answers = [dict(zip(answers, values, strict=True)) for values in zip(*answers.values(), strict=True)]
        if answers is not None and not isinstance(answers, list):  # a text would be taken letter by letter
            raise InputError(f"{self.where}: answers is {str(answers)[:60]!r}, expected a list")
        records = [
            {"answer": answer, "answer_id": number} if isinstance(answer, str) else answer
            for number, answer in enumerate(answers or (), 1)
        ]
        for record in records:
            if not isinstance(record, dict) or not isinstance(record.get("answer"), str):
                raise InputError(
                    f"{self.where}: found the answer {str(record)[:60]}, expected text or a record with `answer`"
                )
        return records

    def error(self, column: str, expected: str) -> InputError:
        """Return the error of a column that is missing or of another type."""
        found = f"{str(self.get(column))[:60]!r}" if column in self.values else "no such column"
        return InputError(
            f"{self.where}: column `{column}`: found {found}, expected {expected}; columns: {', '.join(self.values)}"
        )


@dataclass
class Official:
    """What a benchmark's official files contain, and where its images go."""

    folder: Path
    questions: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)

    def save_image(self, name: str, row: Row, column: str = "image", folder: Path | None = None) -> str:
        """Write an image once under a plain file name and return the name.

        Raises InputError, also for a different image of that name.
        """
        file = (folder or self.folder) / plain_name(name, row)
        image = row.get(column)
        content = image.get("bytes") if isinstance(image, dict) else image
        if not file.exists():
            if not isinstance(content, bytes):
                raise InputError(f"{row.where}: no image in column `{column}`, expected the bytes of one")
            file.write_bytes(content)
        elif isinstance(content, bytes) and not _same_pixels(file.read_bytes(), content):
            raise InputError(f"{row.where}: an earlier row has another image named {name}, expected one for each name")
        return name


def plain_name(name: str, row: Row) -> str:
    """Return a name that cannot lead out of its folder. Raises InputError."""
    if not _SAFE.fullmatch(name):
        raise InputError(f"{row.where}: found the image's name {name!r}, expected letters, digits, `.`, `-`, `_`")
    return name


def _same_pixels(first: bytes, second: bytes) -> bool:
    """Return whether two files show the same pixels: a table may contain one image in two encodings."""
    if first == second:
        return True
    with Image.open(io.BytesIO(first)) as left, Image.open(io.BytesIO(second)) as right:
        return left.size == right.size and left.convert("RGB").tobytes() == right.convert("RGB").tobytes()


def add_vqa(official: Official, row: Row) -> None:
    """Add a row of VQAv2 or OK-VQA."""
    ids = {"question_id": row.integer("question_id"), "image_id": row.integer("image_id")}
    official.save_image(f"{ids['image_id']:012d}.jpg", row)
    official.questions.append({**ids, "question": row.text("question")})
    if answers := row.answers():
        known = {name: row.get(name) for name in VQA_COLUMNS if row.get(name)}
        official.annotations.append({**ids, **known, "answers": answers})


def add_vizwiz(official: Official, row: Row) -> None:
    """Add a row of VizWiz, whose key is the image's name."""
    name = official.save_image(row.text("question_id").removesuffix(".jpg") + ".jpg", row)
    answers = row.answers()
    answered = {"answers": answers, "answer_type": row.get("category") or ""} if answers else {}
    official.annotations.append({"image": name, "question": row.text("question"), **answered})


def add_gqa(official: Official, row: Row) -> None:
    """Add a question of GQA; images are in a table of their own, or in the same row."""
    if row.get("image") is not None:
        official.save_image(f"{row.text('imageId')}.jpg", row)
    known = {name: row.get(name) for name in GQA_COLUMNS if row.get(name) is not None}
    official.annotations.append({"id": row.text("id"), **known})


def add_gqa_image(official: Official, row: Row) -> None:
    """Add an image of GQA."""
    official.save_image(f"{row.text('id')}.jpg", row)


def add_captions(official: Official, row: Row, benchmark: str) -> None:
    """Add a row of a caption benchmark; where a column `split` names Karpathy's part, only test is taken."""
    if row.values.get("split", "test") != "test":
        return
    name_columns, caption_column = CAPTION_COLUMNS[benchmark]
    file = row.text(next((column for column in name_columns if row.get(column)), name_columns[0]))
    file = official.save_image(file if "." in file else f"{file}.jpg", row)
    number = str(row.values.get("image_id", file.rpartition(".")[0].rpartition("_")[2]))
    image = int(number) if number.isdecimal() else number
    captions = row.get(caption_column)
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not captions or not all(isinstance(caption, str) for caption in captions):
        raise InputError(f"{row.where}: column `{caption_column}` is {str(captions)[:60]!r}, expected captions")
    domain = {"domain": row.get("image_domain")} if row.get("image_domain") else {}
    official.images.append({"id": image, "file_name": file, **domain})
    official.annotations += [{"image_id": image, "caption": caption} for caption in captions]


def add_edit(official: Official, row: Row) -> None:
    """Add a turn of MagicBrush; a turn starts from the target of the one before, which is one file."""
    name, turn = plain_name(row.text("img_id"), row), row.integer("turn_index")
    folder = official.folder / name
    folder.mkdir(exist_ok=True)
    source = f"{name}-input.png" if turn == 1 else f"{name}-output{turn - 1}.png"
    files = {
        "input": official.save_image(source, row, "source_img", folder),
        "output": official.save_image(f"{name}-output{turn}.png", row, "target_img", folder),
    }
    official.annotations.append({"id": name, "turn": turn, **files, "instruction": row.text("instruction")})
