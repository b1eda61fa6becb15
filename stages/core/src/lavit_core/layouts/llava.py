"""Conversations about images, as LLaVA and ShareGPT publish them, in JSON or JSON lines.

[{"image": "1.jpg", "conversations": [{"from": "human", "value": "<image>who?"}, {"from": "gpt", "value": "a dog"}]}]
[{"images": ["1.jpg"], "messages": [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "a dog"}]}]
[{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "1.jpg"}},
                                            {"type": "text", "text": "who?"}]}, ...]}]
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lavit_core.json_lines import iterate_json_lines
from lavit_core.layouts.place import Place, bad_line, key_of, locate, one_of, say_prefix, short
from lavit_core.marks import count_marks, turns_about, wrong_marks
from lavit_core.records import IMAGE_MARK, Contents, Problem, Question

ASKS, ANSWERS = ("human", "user"), ("gpt", "assistant")
IMAGE_PARTS = ("image", "image_url")
"""Kinds of a message's parts that are images."""


def read_llava(place: Place) -> Contents | None:
    """Return the questions of the only file of conversations: each turn is one, with the turns before it.

    None if there is no such file. A turn is about the images that were shown up to it: one stands before the whole
    conversation, as LLaVA puts its only one; several stand at their marks, all before it if there are no marks.
    """
    found: dict[Path, Any] = {file: value for file, value in place.json_files.items() if _is_llava(value)}
    found |= {file: None for file in place.files(".jsonl") if _is_llava([_first_line(file)])}
    if not found:
        return None
    file = one_of(found, "files of conversations", place.root)
    contents = Contents(layout="llava", root=place.root, files=[file], named_by="image")
    rows = list(enumerate(found[file])) if found[file] is not None else _lines(file, contents)
    images = {number: _images(row) for number, row in rows if isinstance(row, dict)}
    contents.root, prefix = locate(place, [name for names in images.values() for name in names])
    contents.notes += say_prefix(prefix)
    repeated = Counter(str(row.get("id")) for _, row in rows if isinstance(row, dict))
    about = dict.fromkeys(("no image", "several images"), 0)
    for number, row in rows:
        turns = _turns(row) if isinstance(row, dict) else None
        if turns is None:
            message = f"{short(row)}: expected an image and turns that alternate between {ASKS[0]} and {ANSWERS[0]}"
            contents.problems.append(bad_line(file, f"row {number}", message))
            continue
        turns = _marked(turns, len(images[number]))
        keys, problem = _keys(images[number], turns, contents.root, prefix)
        if problem:
            contents.problems.append(bad_line(file, f"row {number}", problem))
            continue
        contents.captions |= {key: contents.captions.get(key, ()) for key in keys}
        name = str(row.get("id"))
        name = f"row {number}" if repeated[name] > 1 or row.get("id") is None else name
        several = [f"{name}-{turn}" for turn in range(1, len(turns) + 1)]
        numbers = several if turns[1:] else [_number_or_text(row.get("id"), name)]
        contents.questions += _questions(numbers, keys, turns)
        about["several images" if len(keys) > 1 else "no image"] += len(keys) != 1
    contents.notes += [
        f"{count} of {len(rows)} conversations are about {what}" for what, count in about.items() if count
    ]
    return contents


def _marked(turns: list[tuple[str, str]], num_images: int) -> list[tuple[str, str]]:
    """Return turns in whose first question several images without any mark stand before everything else."""
    if num_images < 2 or count_marks([question for question, _ in turns]):
        return turns
    (question, answer), *rest = turns
    return [(f"{IMAGE_MARK * num_images} {question}", answer), *rest]


def _keys(names: list[Any], turns: list[tuple[str, str]], root: Path, prefix: str) -> tuple[list[str], str | None]:
    """Return the keys of a conversation's images, and what is wrong with them or with their marks."""
    found = [key_of(name, root, prefix) for name in names]
    wrong = next((f"image {wrong}" for _, wrong in found if wrong), None)
    if len(names) != 1:  # of one image marks say nothing
        wrong = wrong or wrong_marks([question for question, _ in turns], len(names))
    return [key for key, _ in found], wrong


def _questions(numbers: list[Any], keys: list[str], turns: list[tuple[str, str]]) -> Iterator[Question]:
    """Yield each turn as a question about the images up to it, with the turns before it."""
    for turn, number in enumerate(numbers):
        until = turns[: turn + 1]
        shown = keys if len(keys) == 1 else keys[: count_marks([question for question, _ in until])]
        *earlier, (question, answer) = turns_about(until, len(shown))
        several = tuple(shown) if len(shown) > 1 else ()
        yield Question(number, shown[0] if shown else "", question, answer, None, tuple(earlier), several)


def _is_llava(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and isinstance(first.get("conversations", first.get("messages")), list)


def _first_line(file: Path) -> Any:
    return next(iterate_json_lines(file, lambda message: None), (1, None))[1]


def _lines(file: Path, contents: Contents) -> list[tuple[int, Any]]:
    return list(iterate_json_lines(file, lambda message: contents.problems.append(Problem("line", message))))


def _images(row: dict[str, Any]) -> list[Any]:
    """Return the names of a row's images: of its own field, else of the parts of its messages."""
    named = row.get("image", row.get("images"))
    if named is None:
        said = _said(row)
        contents = [one.get("content") for one in said if isinstance(one, dict)] if isinstance(said, list) else []
        return [name for parts in contents if isinstance(parts, list) for part in parts for name in _name_in(part)]
    return named if isinstance(named, list) else [named]


def _name_in(part: Any) -> list[Any]:
    """Return the name of the image that a part of a message has in it, if it has one."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in IMAGE_PARTS:
        return []
    value = part.get(kind, part.get("path", part.get("url")))
    value = value.get("url") if isinstance(value, dict) else value
    return [] if value is None else [value.removeprefix("file://") if isinstance(value, str) else value]


def _said(row: dict[str, Any]) -> Any:
    return row.get("conversations", row.get("messages"))


def _text(content: Any) -> str | None:
    """Return a message's text, with a mark in place of each image among its parts; None for what is neither."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else None
    kinds = [part.get("type") if isinstance(part, dict) else None for part in content]
    texts = [part.get("text") if kind == "text" else IMAGE_MARK for part, kind in zip(content, kinds, strict=True)]
    if not all(
        isinstance(text, str) and kind in ("text", *IMAGE_PARTS) for text, kind in zip(texts, kinds, strict=True)
    ):
        return None
    return " ".join(texts)


def _turns(row: dict[str, Any]) -> list[tuple[str, str]] | None:
    """Return (question, answer) of each turn, marks and all; a system message is left out."""
    said = _said(row)
    if not isinstance(said, list):
        return None
    texts: list[str] = []
    for one in said:
        who = one.get("from", one.get("role")) if isinstance(one, dict) else None
        text = _text(one.get("value", one.get("content"))) if isinstance(one, dict) else None
        if who == "system":
            continue
        if text is None or who not in (ANSWERS if len(texts) % 2 else ASKS):
            return None
        texts.append(text.strip())
    return None if len(texts) % 2 or not texts else list(zip(texts[::2], texts[1::2], strict=True))


def _number_or_text(value: Any, name: str) -> int | str:
    return value if isinstance(value, int) and name == str(value) else name
