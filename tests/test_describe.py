"""`lavit caption` and `lavit ask` on image files."""

import json
import shutil
from pathlib import Path

from lavit import LaVIT


def test_captions_and_answers_equal_those_of_the_lavit_object(mini, here) -> None:
    files = [mini.heldout / f"images/{number:06d}.png" for number in range(2)]
    model = LaVIT.from_pretrained(mini.model)
    rows = json.loads(here("caption", *files, "--model", mini.model, "--json").out)["captions"]
    assert rows == [
        {"image": str(file), "caption": text} for file, text in zip(files, model.caption(files), strict=True)
    ]
    questions = ["what shape is green?", "how many shapes are there?"]
    done = here("ask", files[0], *questions, "--model", mini.model, "--max-tokens", "4", "--json")
    answers = model.answer(files[0], questions, max_tokens=4)
    assert json.loads(done.out)["answers"] == [
        {"image": str(files[0]), "question": question, "answer": text}
        for question, text in zip(questions, answers, strict=True)
    ]


def test_a_conversation_is_asked_turn_by_turn(mini, here) -> None:
    file = mini.heldout / "images/000000.png"
    line = ("ask", file, "what shape is it?", "how large?", "--model", mini.model, "--json")
    before = ("what is there?", "a green square")
    done = here(*line, "--earlier", "=".join(before), "--conversation")
    assert done.code == 0, done.err
    answers = [row["answer"] for row in json.loads(done.out)["answers"]]
    model = LaVIT.from_pretrained(mini.model)
    [first] = model.answer(file, "what shape is it?", earlier=[[before]])
    [second] = model.answer(file, "how large?", earlier=[[before, ("what shape is it?", first)]])
    assert answers == [first, second]
    empty = here(*line[:2], " ", *line[4:])
    assert (empty.code, "QUESTION is empty" in empty.last_error) == (2, True)
    wrong = here(*line, "--earlier", "what is there?")
    assert (wrong.code, "expected QUESTION=ANSWER" in wrong.last_error) == (2, True)
    apart = json.loads(here(*line, "--earlier", "=".join(before)).out)["answers"]
    assert [row["answer"] for row in apart] == model.answer(file, [*line[2:4]], earlier=[[before]] * 2)


def test_marks_of_one_image_are_no_text(mini, here) -> None:
    file = mini.heldout / "images/000000.png"
    line = ("ask", file, "<image> what shape is it?", "how <image> large?", "--model", mini.model, "--json")
    model = LaVIT.from_pretrained(mini.model)
    rows = json.loads(here(*line).out)["answers"]
    assert [row["answer"] for row in rows] == model.answer(file, ["what shape is it?", "how large?"])
    earlier = here(*line[:3], *line[4:], "--earlier", "<image> what?=a square")
    [row] = json.loads(earlier.out)["answers"]
    assert [row["answer"]] == model.answer(file, "what shape is it?", earlier=[[("what?", "a square")]])
    alone = here("ask", file, "<image>", "--model", mini.model)
    assert (alone.code, "QUESTION is empty" in alone.last_error) == (2, True)


def test_questions_about_several_images(mini, here) -> None:
    one, two = (mini.heldout / f"images/{number:06d}.png" for number in range(2))
    line = (one, "<image> or <image>?", "and now?", "--image", two, "--model", mini.model, "--json")
    model = LaVIT.from_pretrained(mini.model)
    done = here("ask", *line)
    assert done.code == 0, done.err
    rows = json.loads(done.out)["answers"]
    assert [row["images"] for row in rows] == [[str(one), str(two)]] * 2
    asked = [[one, "or", two, "?"], [one, two, "and now?"]]
    assert [row["answer"] for row in rows] == model.answer(None, asked)
    talk = [row["answer"] for row in json.loads(here("ask", *line, "--conversation").out)["answers"]]
    assert talk == [rows[0]["answer"], *model.answer(None, ["and now?"], earlier=[[(asked[0], talk[0])]])]
    marks = here("ask", one, "<image>?", "--image", two, "--model", mini.model)
    assert (marks.code, "questions[0]: 1 <image> but 2 images" in marks.last_error) == (2, True)
    later = here("ask", one, "which?", "and <image>?", "--image", two, "--conversation", "--model", mini.model)
    assert (later.code, "<image> in a later question of --conversation" in later.last_error) == (2, True)
    earlier = here("ask", *line, "--earlier", "a=b")
    assert (earlier.code, "--earlier with --image" in earlier.last_error) == (2, True)


def test_a_chat_needs_a_template_of_the_models_own(mini, here, tmp_path: Path) -> None:
    line = (mini.heldout / "images/000000.png", "what shape is it?", "--chat", "--json")
    without = here("ask", *line, "--model", mini.model)
    assert (without.code, "this language model has no chat template" in without.last_error) == (2, True)
    shutil.copytree(mini.model, tmp_path / "model")
    template = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}{{ 'assistant' }}"
    (tmp_path / "model/llm/chat_template.jinja").write_text(template)
    done = here("ask", *line, "--model", tmp_path / "model")
    assert done.code == 0, done.err
    [row] = json.loads(done.out)["answers"]
    model = LaVIT.from_pretrained(tmp_path / "model")
    assert [row["answer"]] == model.answer(line[0], line[1], chat=True)


def test_a_question_of_too_many_words_is_said(mini, here) -> None:
    done = here("ask", mini.heldout / "images/000000.png", "what is " + "very " * 60, "--model", mini.model)
    assert done.code == 0, done.err
    assert "questions of more than 50 words are cut there" in done.err


def test_a_model_trained_without_images_gives_a_warning(mini, here, tmp_path: Path) -> None:
    blind = mini.run / "blind" / "model"
    done = here("ask", mini.heldout / "images/000000.png", "what shape is green?", "--model", blind)
    assert done.code == 0, done.err
    assert "this model was trained without images: it answers blind" in done.err


def test_a_dry_run_looks_at_the_images(mini, here, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    for line in (["caption"], ["ask", "what is it?"], ["reconstruct"]):
        for name, message in (("missing.png", "file not found"), ("empty.png", "not a readable image")):
            done = here(line[0], tmp_path / name, *line[1:], "--model", mini.model, "--dry-run")
            assert (done.code, f"{name}: {message}" in done.last_error) == (3, True)
