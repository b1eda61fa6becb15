"""`lavit caption` and `lavit ask` on image files."""

import json
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


def test_a_model_trained_without_images_gives_a_warning(mini, here, tmp_path: Path) -> None:
    blind = mini.run / "blind" / "model"
    done = here("ask", mini.heldout / "images/000000.png", "what shape is green?", "--model", blind)
    assert done.code == 0, done.err
    assert "this model was trained without images: it answers blind" in done.err
