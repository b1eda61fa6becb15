"""Conversations about images, as LLaVA and ShareGPT publish them, in JSON or JSON lines.

[{"image": "1.jpg", "conversations": [{"from": "human", "value": "<image>who?"}, {"from": "gpt", "value": "a dog"}]}]
[{"images": ["1.jpg"], "messages": [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "a dog"}]}]
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from lavit_core.json_lines import iterate_json_lines
from lavit_core.layouts.place import Place, bad_line, key_of, locate, one_of, say_prefix, short
from lavit_core.records import Contents, Problem, Question

ASKS, ANSWERS = ("human", "user"), ("gpt", "assistant")


def read_llava(place: Place) -> Contents | None:
    """Return the questions of the only file of conversations: each turn is one, with the turns before it.

    None if there is no such file. Rows of text alone, or with several images, are left out and counted.
    """
    found: dict[Path, Any] = {file: value for file, value in place.json_files.items() if _is_llava(value)}
    found |= {file: None for file in place.files(".jsonl") if _is_llava([_first_line(file)])}
    if not found:
        return None
    file = one_of(found, "files of conversations", place.root)
    contents = Contents(layout="llava", root=place.root, files=[file], named_by="image")
    rows = list(enumerate(found[file])) if found[file] is not None else _lines(file, contents)
    images = {number: _images(row) for number, row in rows if isinstance(row, dict)}
    contents.root, prefix = locate(place, [names[0] for names in images.values() if len(names) == 1])
    contents.notes += say_prefix(prefix)
    left_out: Counter[str] = Counter()
    repeated = Counter(str(row.get("id")) for _, row in rows if isinstance(row, dict))
    for number, row in rows:
        turns = _turns(row) if isinstance(row, dict) else None
        if turns is None:
            message = f"{short(row)}: expected an image and turns that alternate between {ASKS[0]} and {ANSWERS[0]}"
            contents.problems.append(bad_line(file, f"row {number}", message))
        elif len(images[number]) != 1:
            left_out["several images" if images[number] else "no image"] += 1
        else:
            key, wrong = key_of(images[number][0], contents.root, prefix)
            if wrong:
                contents.problems.append(bad_line(file, f"row {number}", f"image {wrong}"))
                continue
            contents.captions.setdefault(key, ())
            name = str(row.get("id"))
            name = f"row {number}" if repeated[name] > 1 or row.get("id") is None else name
            for turn, (question, answer) in enumerate(turns):
                number_of_turn = f"{name}-{turn + 1}" if turns[1:] else _number_or_text(row.get("id"), name)
                contents.questions.append(Question(number_of_turn, key, question, answer, None, tuple(turns[:turn])))
    for why, count in sorted(left_out.items()):
        contents.notes.append(f"{file.name}: {count} of {len(rows)} conversations have {why} and are left out")
    return contents


def _is_llava(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and isinstance(first.get("conversations", first.get("messages")), list)


def _first_line(file: Path) -> Any:
    return next(iterate_json_lines(file, lambda message: None), (1, None))[1]


def _lines(file: Path, contents: Contents) -> list[tuple[int, Any]]:
    return list(iterate_json_lines(file, lambda message: contents.problems.append(Problem("line", message))))


def _images(row: dict[str, Any]) -> list[Any]:
    named = row.get("image", row.get("images"))
    return [] if named is None else named if isinstance(named, list) else [named]


def _turns(row: dict[str, Any]) -> list[tuple[str, str]] | None:
    """Return (question, answer) of each turn without the image's mark; a system message is left out."""
    said = row.get("conversations", row.get("messages"))
    if not isinstance(said, list):
        return None
    texts: list[str] = []
    for one in said:
        who = one.get("from", one.get("role")) if isinstance(one, dict) else None
        text = one.get("value", one.get("content")) if isinstance(one, dict) else None
        if who == "system":
            continue
        if not isinstance(text, str) or who not in (ANSWERS if len(texts) % 2 else ASKS):
            return None
        texts.append(re.sub(r"\s*<image>\s*", " ", text).strip() if len(texts) % 2 == 0 else text.strip())
    return None if len(texts) % 2 or not texts else list(zip(texts[::2], texts[1::2], strict=True))


def _number_or_text(value: Any, name: str) -> int | str:
    return value if isinstance(value, int) and name == str(value) else name
