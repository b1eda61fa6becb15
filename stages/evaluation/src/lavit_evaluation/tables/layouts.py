"""Rows of the tables that lmms-lab publishes -> the official files of each benchmark.

    vqav2, okvqa        question_id image_id question answers image [question_type answer_type multiple_choice_answer]
    vizwiz              question_id (picture's name) question answers image [category]
    gqa                 one table id imageId question answer ..., one table id image (lmms-lab splits them)
    coco-caption        question_id or file_name (COCO's picture name) answer image
    flickr30k-caption   filename caption image [split]
    nocaps              image_id image_file_name annotations_captions image [image_domain]
    magicbrush          img_id turn_index (from 1) source_img instruction target_img (osunlp/MagicBrush: train, dev)

Differs from the official files: an answer that is text alone gets its place as answer_id.
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
"""Benchmark -> columns that may name the picture, column of the captions."""
GQA_COLUMNS = ("imageId", "question", "answer", "fullAnswer", "isBalanced", "groups", "entailed", "equivalent", "types",
               "annotations", "semantic", "semanticStr")  # fmt: skip
"""What GQA's own question files hold."""
_SAFE = re.compile(r"\w[\w.-]*")


@dataclass
class Official:
    """What a benchmark's official files hold, and where its pictures go."""

    pictures: Path
    questions: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)

    def keep(self, name: str, picture: Any, where: str) -> str:
        """Write a picture once under a plain file name and return that.

        Raises InputError, also for a second picture of that name.
        """
        if not _SAFE.fullmatch(name):
            raise InputError(f"{where}: found the picture's name {name!r}, expected letters, digits, `.`, `-`, `_`")
        file = self.pictures / name
        content = picture.get("bytes") if isinstance(picture, dict) else picture
        if not file.exists():
            if not isinstance(content, bytes):
                raise InputError(f"{where}: no picture in column `image`, expected the bytes of one")
            file.write_bytes(content)
        elif isinstance(content, bytes) and not _same_picture(file.read_bytes(), content):
            raise InputError(f"{where}: another picture stands under {name} in an earlier row, expected one a name")
        return name


def _same_picture(one: bytes, other: bytes) -> bool:
    """Return whether two files show the same pixels: a table may hold one picture in two encodings."""
    if one == other:
        return True
    with Image.open(io.BytesIO(one)) as left, Image.open(io.BytesIO(other)) as right:
        return left.size == right.size and left.convert("RGB").tobytes() == right.convert("RGB").tobytes()


def add_vqa(official: Official, row: dict[str, Any], where: str) -> None:
    """Take a row of VQAv2 or OK-VQA."""
    question, image = whole(row, "question_id", where), whole(row, "image_id", where)
    official.keep(f"{image:012d}.jpg", row.get("image"), where)
    official.questions.append({"question_id": question, "image_id": image, "question": text(row, "question", where)})
    if answers := given_answers(row.get("answers"), where):
        known = {key: row[key] for key in ("question_type", "answer_type", "multiple_choice_answer") if row.get(key)}
        official.annotations.append({"question_id": question, "image_id": image, **known, "answers": answers})


def add_vizwiz(official: Official, row: dict[str, Any], where: str) -> None:
    """Take a row of VizWiz, whose key is the picture's name."""
    name = text(row, "question_id", where)
    name = name if name.endswith(".jpg") else f"{name}.jpg"
    official.keep(name, row.get("image"), where)
    asked: dict[str, Any] = {"image": name, "question": text(row, "question", where)}
    if answers := given_answers(row.get("answers"), where):
        asked |= {"answers": answers, "answer_type": row.get("category") or ""}
    official.annotations.append(asked)


def add_gqa(official: Official, row: dict[str, Any], where: str) -> None:
    """Take a question of GQA; pictures come from a table of their own, or stand in the same row."""
    if row.get("image") is not None:
        official.keep(f"{text(row, 'imageId', where)}.jpg", row["image"], where)
    known = {key: row[key] for key in GQA_COLUMNS if row.get(key) is not None}
    official.annotations.append({"id": text(row, "id", where), **known})


def add_gqa_picture(official: Official, row: dict[str, Any], where: str) -> None:
    """Take a picture of GQA."""
    official.keep(f"{text(row, 'id', where)}.jpg", row.get("image"), where)


def add_captions(official: Official, row: dict[str, Any], where: str, name: str) -> None:
    """Take a row of the caption benchmark `name`; where a column `split` says Karpathy's part, only test is taken."""
    if row.get("split", "test") != "test":
        return
    columns, captions = CAPTION_COLUMNS[name]
    column = next((one for one in columns if row.get(one)), columns[0])
    file = text(row, column, where)
    file = file if "." in file else f"{file}.jpg"
    official.keep(file, row.get("image"), where)
    number = row.get("image_id", file.rpartition(".")[0].rpartition("_")[2])
    image = int(number) if str(number).isdecimal() else str(number)
    texts = [row.get(captions)] if isinstance(row.get(captions), str) else row.get(captions)
    if not isinstance(texts, list) or not texts or not all(isinstance(one, str) for one in texts):
        raise InputError(f"{where}: column `{captions}` is {str(texts)[:60]!r}, expected captions")
    domain = {"domain": row["image_domain"]} if row.get("image_domain") else {}
    official.images.append({"id": image, "file_name": file, **domain})
    official.annotations += [{"image_id": image, "caption": one} for one in texts]


def add_edit(official: Official, row: dict[str, Any], where: str) -> None:
    """Take a turn of MagicBrush; a turn starts from the target of the one before, which is one file."""
    name, turn = text(row, "img_id", where), whole(row, "turn_index", where)
    if not _SAFE.fullmatch(name):
        raise InputError(f"{where}: found the picture's id {name!r}, expected letters, digits, `.`, `-`, `_`")
    session = Official(pictures=official.pictures / name)
    session.pictures.mkdir(exist_ok=True)
    source = f"{name}-input.png" if turn == 1 else f"{name}-output{turn - 1}.png"
    files = {
        "input": session.keep(source, row.get("source_img"), where),
        "output": session.keep(f"{name}-output{turn}.png", row.get("target_img"), where),
    }
    official.annotations.append({"id": name, "turn": turn, **files, "instruction": text(row, "instruction", where)})


def given_answers(answers: Any, where: str) -> list[dict[str, Any]]:
    """Return human answers as official records, none for a test split. Raises InputError."""
    if isinstance(answers, dict):  # a sequence of records is stored as one record of sequences
        lengths = {len(values) if isinstance(values, list) else None for values in answers.values()}
        if None in lengths or len(lengths) > 1:
            raise InputError(f"{where}: answers is {str(answers)[:60]}, expected lists of one length")
        columns = list(answers)
        answers = [dict(zip(columns, values, strict=True)) for values in zip(*answers.values(), strict=True)]
    if answers is not None and not isinstance(answers, list):  # a text would be taken letter by letter
        raise InputError(f"{where}: answers is {str(answers)[:60]!r}, expected a list")
    records = []
    for number, one in enumerate(answers or (), 1):
        record = {"answer": one, "answer_id": number} if isinstance(one, str) else one
        if not isinstance(record, dict) or not isinstance(record.get("answer"), str):
            raise InputError(f"{where}: found the answer {str(one)[:60]}, expected text or a record with `answer`")
        records.append(record)
    return records


def text(row: dict[str, Any], column: str, where: str) -> str:
    """Return a text of a row. Raises InputError."""
    if not isinstance(row.get(column), str):
        found = f"{str(row[column])[:60]!r}" if column in row else "no such column"
        raise InputError(f"{where}: column `{column}`: found {found}, expected text; columns: {', '.join(row)}")
    return str(row[column])


def whole(row: dict[str, Any], column: str, where: str) -> int:
    """Return a whole number of a row, which may be written as text. Raises InputError."""
    value = row.get(column)
    if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()):
        return int(value)
    found = f"{str(value)[:60]!r}" if column in row else "no such column"
    raise InputError(f"{where}: column `{column}`: found {found}, expected a number; columns: {', '.join(row)}")
