"""Questions of every layout, and the earlier turns of conversations."""

import dataclasses
import json
from pathlib import Path

import pytest
from lavit_core.data import open_data
from lavit_core.errors import InputError

from .layout_writers import NUM_IMAGES, Photos, Writer, json_lines, link_images, texts_of


def test_questions_of_a_table(photos, tmp_path):
    link_images(photos, tmp_path / "out")
    rows: list[dict[str, object]] = [
        {"id": 7, "image": "images/000000000003.jpg", "question": "who?", "answer": "dog", "type": "who"},
        {"id": 9, "image": "images/000000000003.jpg", "question": "what?", "answer": "red", "type": None},
    ]
    (tmp_path / "out" / "asked.jsonl").write_text(json_lines(rows))
    opened = open_data(tmp_path / "out")
    assert [(q.question_id, q.key, q.question, q.answer, q.kind) for q in opened.questions] == [
        (7, "images/000000000003.jpg", "who?", "dog", "who"),
        (9, "images/000000000003.jpg", "what?", "red", None),
    ]
    assert len(opened.records) == 1


def asked_of(photos: Photos) -> list[dict[str, object]]:
    return [
        {
            "question_id": 10 * number + turn,
            "file_name": f"images/{name}",
            "question": f"what is {turn}?",
            "answer": f"{texts[turn]}",
            "kind": "other",
        }
        for number, (name, texts) in enumerate(photos.captions.items())
        for turn in range(2)
    ]


def write_own_questions(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    (out / "questions.jsonl").write_text(json_lines(asked_of(photos)), encoding="utf-8")
    return out


def write_vqa(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    asked = [
        {"question_id": row["question_id"], "image_id": int(str(row["file_name"])[7:19]), "question": row["question"]}
        for row in asked_of(photos)
    ]
    answers = [
        {
            "question_id": row["question_id"],
            "multiple_choice_answer": row["answer"],
            "answers": [{"answer": "no"}],
            "answer_type": "other",
        }
        for row in asked_of(photos)
    ]
    for name, rows in {"questions": asked, "annotations": answers}.items():
        (out / f"v2_{name}.json").write_text(json.dumps({"data_subtype": "val2014", name: rows}), encoding="utf-8")
    return out


def write_question_table(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    rows = [
        {"image" if name == "file_name" else name: value for name, value in row.items()} for row in asked_of(photos)
    ]
    (out / "asked.jsonl").write_text(json_lines(rows), encoding="utf-8")
    return out


def write_llava_of_one_turn(photos: Photos, out: Path) -> Path:
    link_images(photos, out)
    rows = [
        {"id": row["question_id"], "image": row["file_name"], "conversations": conversation(row)}
        for row in asked_of(photos)
    ]
    (out / "llava.json").write_text(json.dumps(rows), encoding="utf-8")
    return out


def conversation(*rows: dict[str, object]) -> list[dict[str, object]]:
    said = [("human", row["question"], "gpt", row["answer"]) for row in rows]
    turns = [(who, text) for human, asks, gpt, answers in said for who, text in ((human, asks), (gpt, answers))]
    return [
        {"from": who, "value": f"<image>\n{text}" if place == 0 else text} for place, (who, text) in enumerate(turns)
    ]


QUESTION_WRITERS: dict[str, Writer] = {
    "vqa": write_vqa,
    "vqa file": lambda photos, out: write_vqa(photos, out) / "v2_questions.json",
    "table": write_question_table,
    "llava": write_llava_of_one_turn,
}


@pytest.mark.parametrize("layout", QUESTION_WRITERS)
def test_every_layout_gives_the_same_questions(layout, photos, tmp_path):
    expected = open_data(write_own_questions(photos, tmp_path / "own"))
    found = open_data(QUESTION_WRITERS[layout](photos, tmp_path / "out"))
    assert texts_of(found) == texts_of(expected)
    # Conversations have no kinds.
    wanted = [dataclasses.replace(q, kind=None if layout == "llava" else q.kind) for q in expected.questions]
    assert list(found.questions) == wanted


@pytest.mark.parametrize("shape", ["llava", "sharegpt"])
def test_turns_of_a_conversation_are_questions_with_those_before(shape, photos, tmp_path):
    link_images(photos, tmp_path / "out")
    rows = asked_of(photos)
    talks = []
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        said = conversation(first, second)
        if shape == "llava":
            talks.append({"id": "same", "image": first["file_name"], "conversations": said})
        else:
            names = {"human": "user", "gpt": "assistant"}
            messages = [{"role": "system", "content": "be brief"}]
            messages += [{"role": names[str(one["from"])], "content": str(one["value"])} for one in said]
            talks.append({"images": [first["file_name"]], "messages": messages})
    (tmp_path / "out" / "talks.jsonl").write_text(json_lines(talks), encoding="utf-8")
    found = open_data(tmp_path / "out")
    assert found.layout == "llava"
    assert len(found.questions) == 2 * NUM_IMAGES
    assert len({question.question_id for question in found.questions}) == 2 * NUM_IMAGES
    second = found.questions[3]
    assert (second.question, second.earlier) == ("what is 1?", (("what is 0?", 'a "red", big; dog'),))
    assert found.notes == ()


ONE, TWO, THREE = (f"images/{number:012d}.jpg" for number in range(3))


def said(*texts: object) -> list[dict[str, object]]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def part(name: str) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": name}}


TALKS: dict[str, tuple[dict[str, object], list[tuple[object, ...]]]] = {
    "at marks": (
        {"images": [ONE, TWO], "messages": said("<image> and\n<image>: one?", "no", "why?", "so")},
        [((ONE, TWO), "<image> and\n<image>: one?", ()),
         ((ONE, TWO), "why?", (("<image> and\n<image>: one?", "no"),))],
    ),
    "no marks": ({"images": [ONE, TWO], "messages": said("same?", "no")}, [((ONE, TWO), "<image><image> same?", ())]),
    # A turn is about what was shown up to it: none, one, then two.
    "by turns": (
        {"images": [ONE, TWO], "messages": said("hello", "hi", "who <image>?", "a", "and <image>?", "b")},
        [((), "hello", ()), ((ONE,), "who ?", (("hello", "hi"),)),
         ((ONE, TWO), "and <image>?", (("hello", "hi"), ("who <image>?", "a")))],
    ),
    "parts": (
        {"messages": said([part(ONE), {"type": "text", "text": "or"}, part("file://" + TWO)], "first")},
        [((ONE, TWO), "<image> or <image>", ())],
    ),
    "one part": ({"messages": said([{"type": "text", "text": "who?"}, part(ONE)], "a")}, [((ONE,), "who?", ())]),
    "places of images": (
        {"images": [ONE, TWO], "messages": said([{"type": "image"}, {"type": "image"}], "two")},
        [((ONE, TWO), "<image> <image>", ())],
    ),
    "text": ({"messages": said("hello", "hi")}, [((), "hello", ())]),
}  # fmt: skip


@pytest.mark.parametrize("name", TALKS)
def test_conversations_about_several_images_or_none(name, photos, tmp_path):
    row, expected = TALKS[name]
    link_images(photos, tmp_path)
    one = {"image": THREE, "conversations": conversation({"question": "who?", "answer": "a"})}
    (tmp_path / "talks.json").write_text(json.dumps([row, one]))
    found = open_data(tmp_path)
    assert [(question.keys, question.question, question.earlier) for question in found.questions[:-1]] == expected
    assert {record.key for record in found.records} == {THREE, *(key for keys, *_ in expected for key in keys)}
    # Our own layout says the same.
    own = tmp_path / "own"
    link_images(photos, own)
    rows = [
        {"question_id": number, "images": list(asked.keys), "question": asked.question, "answer": asked.answer,
         "earlier": [list(turn) for turn in asked.earlier]}
        for number, asked in enumerate(found.questions)
    ]  # fmt: skip
    (own / "questions.jsonl").write_text(json_lines(rows))
    names = [dataclasses.replace(asked, question_id=number) for number, asked in enumerate(found.questions)]
    assert list(open_data(own).questions) == names


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"images": [ONE, TWO], "messages": said("<image>?", "no")}, "1 <image> in the questions but 2 images"),
        ({"messages": said("<image>?", "no")}, "1 <image> in the questions but 0 images"),
        ({"messages": said([part("../a.jpg")], "no")}, "row 0: image .*leads out of the data folder"),
        (
            {"messages": said([part("https://a.org/b.jpg")], "no")},
            'is the address "https://a.org/b.jpg", expected a file',
        ),
        (
            {"messages": said([part("data:image/png;base64," + "A" * 999)], "no")},
            r'is the address "data:image.{40,50}\.\.\.,',
        ),
        ({"messages": said([{"type": "audio"}], "no")}, "row 0: .*expected an image and turns"),
    ],
)
def test_conversations_that_are_refused(row, message, photos, tmp_path):
    link_images(photos, tmp_path)
    (tmp_path / "talks.json").write_text(json.dumps([row]))
    with pytest.raises(InputError, match=message):
        open_data(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [ONE, TWO]}, "0 <image> in the questions but 2 images, expected one for each"),
        ({"images": "a"}, "images is no list of names"),
        ({"images": [ONE], "file_name": ONE}, "or there is file_name too"),
        ({"images": ["../a"]}, "images .*leads out of the data folder"),
    ],
)
def test_images_of_our_own_layout_that_are_refused(change, message, photos):
    row = {"question_id": 1, "question": "a?", "answer": "b", **change}
    (photos.root / "questions.jsonl").write_text(json_lines([row]))
    with pytest.raises(InputError, match=message):
        open_data(photos.root)


def test_earlier_turns_in_our_own_layout(photos):
    row = {"question_id": 1, "file_name": "images/000000000000.jpg", "question": "a?", "answer": "b"}
    file = photos.root / "questions.jsonl"
    file.write_text(json_lines([{**row, "earlier": [["who?", "a dog"]]}]))
    assert open_data(photos.root).questions[0].earlier == (("who?", "a dog"),)
    for wrong in ("x", [["a"]], [["a", 1]], None):
        file.write_text(json_lines([{**row, "earlier": wrong}]))
        with pytest.raises(
            InputError, match=r"questions.jsonl:1: earlier is .*, expected a list of \[question, answer\]"
        ):
            open_data(photos.root)


@pytest.mark.parametrize("named", [{"images": [ONE]}, {"file_name": ONE}])
def test_marks_in_questions_about_one_image_say_nothing(named, photos):
    row = {"question_id": 1, **named, "question": "Which <image>?", "answer": "b", "earlier": [["<image>\nWho?", "a"]]}
    (photos.root / "questions.jsonl").write_text(json_lines([row]))
    [question] = open_data(photos.root).questions
    assert (question.keys, question.question, question.earlier) == ((ONE,), "Which ?", (("Who?", "a"),))


def test_questions_without_answers_and_images_are_named(photos, tmp_path):
    folder = write_vqa(photos, tmp_path / "out")
    (folder / "images" / "000000000003.jpg").unlink()
    with pytest.raises(InputError, match=r"v2_questions.json: image_id 3: no image below .* ends in this number"):
        open_data(folder)
    (folder / "v2_annotations.json").unlink()
    with pytest.raises(InputError, match=r"v2_questions.json: questions without answers, expected a JSON file of ann"):
        open_data(folder)


def test_answers_of_any_form_are_read_or_named(photos, tmp_path):
    folder = write_vqa(photos, tmp_path / "out")
    file = folder / "v2_annotations.json"
    value = json.loads(file.read_text())
    rows = value["annotations"]
    rows[0] |= {"multiple_choice_answer": None}
    expected = {row["question_id"]: row["multiple_choice_answer"] or "no" for row in rows}
    rows[1] |= {"answers": None}
    value["annotations"] = [*rows, "odd", {"question_id": [1], "multiple_choice_answer": "x"}]
    file.write_text(json.dumps(value))
    assert {asked.question_id: asked.answer for asked in open_data(folder).questions} == expected
    asked = json.loads((folder / "v2_questions.json").read_text())
    asked["questions"].append({"question_id": [1], "image_id": 1, "question": "?"})
    (folder / "v2_questions.json").write_text(json.dumps(asked))
    with pytest.raises(InputError, match=r"question \[1\]: .* expected question_id and question"):
        open_data(folder)
