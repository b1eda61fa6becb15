"""CPU-seconds and memory of `lavit eval score vqav2` on 100,000 made-up answers in the official layout.

python stages/scoring/benchmarks/score_100k.py
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

COUNT, PER_IMAGE, SEED = 100_000, 5, 0
WORDS = [f"{first} {second}" for first in ("red", "t-shirt", "two", "the dog", "10:30") for second in range(400)]


def write_files(folder: Path) -> None:
    """Write annotations (10 answers a question, 65 question types) and results."""
    rng = random.Random(SEED)
    truths, results = [], []
    for name in range(COUNT):
        pool = rng.sample(WORDS, 3) if rng.random() < 0.6 else [rng.choice(("yes", "no"))]
        ten = [{"answer": rng.choice(pool), "answer_confidence": "yes", "answer_id": i + 1} for i in range(10)]
        truths.append(
            {"question_id": name, "image_id": name // PER_IMAGE, "question_type": f"type {name % 65}",
             "answer_type": "yes/no" if len(pool) == 1 else "other", "multiple_choice_answer": pool[0], "answers": ten}
        )  # fmt: skip
        results.append({"question_id": name, "answer": rng.choice(pool)})
    (folder / "annotations.json").write_text(json.dumps({"annotations": truths}))
    (folder / "results.json").write_text(json.dumps(results))


def main() -> None:
    """Write the files, score them in a process of its own, print what it cost."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder)
        files = ["--results", folder / "results.json", "--annotations", folder / "annotations.json"]
        command = [sys.executable, "-m", "lavit_cli", "eval", "score", "vqav2", *map(str, files), "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        accuracy = json.loads(done.stdout)["figures"]["accuracy"]
        sys.stdout.write(
            f"{COUNT:,} answers: {used.ru_utime + used.ru_stime:.1f} CPU-seconds, {used.ru_maxrss / 1e6:.2f} GB at the "
            f"peak, accuracy {accuracy['value']} ({accuracy['low']} to {accuracy['high']})\n"
        )


if __name__ == "__main__":
    main()
