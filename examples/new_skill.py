"""A kind of question that the demo's model never saw, taught by LoRA from 500 examples, and its old skills.

    python examples/new_skill.py questions runs/demo runs/skill
    lavit pretrain runs/demo/tokens/train --model runs/demo/model --llm runs/demo/model/llm \\
        --questions runs/skill/train.jsonl --questions runs/skill/replay.jsonl --out runs/skill/lora \\
        --set lora.rank=16 --set optimizer=adamw --set llm_lr=1e-3 --set visual_lr=1e-4 --set num_steps=150 \\
        --set warmup_steps=10 --set mix.text_to_image=0 --set mix.image_to_text=0 --set mix.questions=1
    python examples/new_skill.py score runs/demo runs/skill runs/demo/model runs/skill/lora/model

The question is `what is in the top left?`, the answer a colour and a shape: `position` the other way round. 1,000 old
questions about other images go along (replay.jsonl): without them the old skills are lost.
"""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NUM_EXAMPLES, NUM_OLD, MARGIN_PX, CENTRE_PX = 500, 1000, 4, 32


def rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON lines file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def lookups(data: Path) -> Iterator[dict[str, Any]]:
    """Yield a question about each quarter that holds just one object, clear of the middle."""
    for scene in rows(data / "scenes.jsonl"):
        held: dict[str, list[str]] = {}
        clear = True
        for thing in scene["objects"]:
            clear &= min(abs(thing["x"] - CENTRE_PX), abs(thing["y"] - CENTRE_PX)) >= MARGIN_PX
            place = f"{'top' if thing['y'] < CENTRE_PX else 'bottom'} {'left' if thing['x'] < CENTRE_PX else 'right'}"
            held.setdefault(place, []).append(f"{thing['colour']} {thing['shape']}")
        for place, things in sorted(held.items()):
            if clear and len(things) == 1:
                yield {
                    "file_name": scene["file_name"],
                    "question": f"what is in the {place}?",
                    "answer": things[0],
                    "kind": "lookup",
                    "combination": scene["combination"],
                }


def write_questions(run: Path, out: Path) -> None:
    """Write 500 training questions, 1,000 old ones and all held-out ones of the new kind."""
    out.mkdir(parents=True, exist_ok=True)
    train, draw = run / "data" / "train", random.Random(0)
    chosen = draw.sample(list(lookups(train)), NUM_EXAMPLES)
    taken = {row["file_name"] for row in chosen}
    replay = draw.sample([row for row in rows(train / "questions.jsonl") if row["file_name"] not in taken], NUM_OLD)
    heldout = list(lookups(run / "data" / "heldout"))
    for name, asked in (("train", chosen), ("replay", replay), ("heldout", heldout)):
        numbered = [{**row, "question_id": number} for number, row in enumerate(asked)]
        (out / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in numbered), encoding="utf-8")
        print(f"{out / name}.jsonl: {len(numbered)} questions")


def score(run: Path, out: Path, models: list[Path]) -> None:
    """Print each model's accuracy on held-out questions: the new kind, and the old ones by kind."""
    from lavit import LaVIT

    heldout = run / "data" / "heldout"
    seen = {row["file_name"]: row["combination"] for row in rows(heldout / "scenes.jsonl")}
    asked = rows(out / "heldout.jsonl") + rows(heldout / "questions.jsonl")
    for model in models:
        images = [str(heldout / row["file_name"]) for row in asked]
        answers = LaVIT.from_pretrained(model).answer(images, [row["question"] for row in asked])
        right: dict[str, list[bool]] = {}
        for row, answer in zip(asked, answers, strict=True):
            kind = row["kind"]
            names = [kind, f"{kind}, {seen[row['file_name']]}"] if kind == "lookup" else [kind, "old kinds"]
            for name in names:
                right.setdefault(name, []).append(answer == row["answer"])
        print(model, *(f"{name}: {sum(own) / len(own):.3f} of {len(own)}" for name, own in right.items()), sep="\n  ")


if __name__ == "__main__":
    command, run, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if command == "questions":
        write_questions(run, out)
    else:
        score(run, out, [Path(model) for model in sys.argv[4:]])
