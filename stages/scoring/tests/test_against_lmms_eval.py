"""The same replies through our scorers and through lmms-eval's own task code, one by one (lmms-eval 0.7.3).

It brings torch and torchvision, so it is no dependency: without it these tests are skipped, and the rules stand in
test_choices.py and test_yes_no.py by hand. Its task files are loaded by path: importing the package loads all tasks.
"""

import importlib.util
import json
import random
import string
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lavit_scoring.catalogue import find_benchmark
from lavit_scoring.scorers import score_results
from lavit_scoring.task import ScoringResult, ScoringTask

if importlib.util.find_spec("lmms_eval") is None:
    pytest.skip("lmms-eval is not installed (an environment of its own has it)", allow_module_level=True)

CHOICES = ("a red dog", "a cat", "two birds", "none of them")
LETTERS = "ABCD"
WRAPPED = ("{}", "{}.", " {} ", "({})", "{})", "{}: x", "{}, I think", "{}. a cat", "The answer is {}", "answer: {}.",
           "The answer is {}.", "**{}**", "{}\n", "Answer: ({}) of course", "It can not be anything other than {}",
           "{} is right because of the very long tail")  # fmt: skip
REPLIES = [
    *(form.format(letter) for form in WRAPPED for letter in "ABCDEab"),
    *CHOICES, *(text.upper() for text in CHOICES), "", " ", "A or B", "not B or A but C ", "(A) is wrong, so it is (B)",
    "Apple", "apple", "I think that there are two birds in it", "it may be a cat, but I think two birds", "VISA card",
    "a dog", "A dog", "yes", "I do not know.", "[B]", "{C}", "B\nbecause", "the cat", "AB", "A.B.", "A A",
]  # fmt: skip
YES_NO = ["yes", "Yes", "YES.", "Yes, there is", "no", "No.", "NO", "not at all", "There is no dog", "y", "n", "maybe",
          "", " yes ", "Yes\n", "none", "None", "I see. No", "The answer is yes", "yes and no", "noted", "yesterday",
          "No, yes"]  # fmt: skip
OPEN = ["12", "12.0", "The answer is 12.", "so x = 12", "about 12,000", "1.2e1", "red", "Red.", "the red one", "a",
        "answer: a", "b\nso it is red", "is 7 and 12", "", "x", "final answer 0.5", "-3", "it is -3."]  # fmt: skip
TRUTHS = ["12", "red", "a", "['red', 'blue']", "-3", "0.5", "12000"]


def load(name: str) -> ModuleType:
    """Return a file below lmms-eval's tasks as a module."""
    package = importlib.util.find_spec("lmms_eval")
    assert package is not None
    assert package.submodule_search_locations
    file = Path(package.submodule_search_locations[0]) / "tasks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"lmms_{name.replace('/', '_')}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def score(tmp_path: Path) -> Callable[..., ScoringResult]:
    """Return a function that scores replies by id, and annotations that are JSON lines or already a file."""

    def run(name: str, replies: list[str], annotations: Any, protocol: str = "lmms-eval") -> ScoringResult:
        results = tmp_path / "results.jsonl"
        rows = ({"question_id": str(number), "answer": reply} for number, reply in enumerate(replies))
        results.write_text("".join(json.dumps(row) + "\n" for row in rows))
        file = annotations
        if not isinstance(annotations, Path):
            file = tmp_path / "annotations.jsonl"
            text = json.dumps(annotations) if isinstance(annotations, dict) else "".join(
                json.dumps(row) + "\n" for row in annotations
            )  # fmt: skip
            file.write_text(text)
        return score_results(find_benchmark(name), ScoringTask(results=results, annotations=file, protocol=protocol))

    return run


def differing(mine: Any, theirs: list[float], asked: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the (reply, truth) pairs that are scored in two ways."""
    assert len(mine) == len(theirs) == len(asked)
    return [pair for one, other, pair in zip(mine, theirs, asked, strict=True) if one != other]


QUESTIONS = [(reply, letter) for reply in REPLIES for letter in LETTERS]


def test_seed(score: Callable[..., ScoringResult]) -> None:
    task = load("seedbench/utils")
    rows = [
        {"question_id": str(n), "answer": letter, "data_id": str(n), "question_type_id": 1, "data_type": "image"}
        | {f"choice_{one}": text for one, text in zip("abcd", CHOICES, strict=True)}
        for n, (_, letter) in enumerate(QUESTIONS)
    ]
    mine = score("seed-image", [reply for reply, _ in QUESTIONS], {"questions": rows})
    theirs = [
        task.seed_aggregation_result([task.seed_process_result(row, [reply])["seed_all"]])
        for (reply, _), row in zip(QUESTIONS, rows, strict=True)
    ]
    assert differing(mine.items["accuracy"], theirs, QUESTIONS) == []


def test_scienceqa(score: Callable[..., ScoringResult]) -> None:
    task = load("scienceqa/utils")
    rows = {
        str(n): {"choices": CHOICES, "answer": LETTERS.index(letter), "image": "i.png", "split": "test"}
        for n, (_, letter) in enumerate(QUESTIONS)
    }
    mine = score("scienceqa-img", [reply for reply, _ in QUESTIONS], rows)
    theirs = [
        task.sqa_process_results(row, [reply])["exact_match"]
        for (reply, _), row in zip(QUESTIONS, rows.values(), strict=True)
    ]
    assert differing(mine.items["accuracy"], theirs, QUESTIONS) == []


def test_ai2d(score: Callable[..., ScoringResult]) -> None:
    task = load("ai2d/utils")
    letter_of = task.MultiChoiceRegexFilter(ignore_case=True, ignore_punctuation=True, regex_pattern="([A-Z])\\.")
    from lmms_eval.api.metrics import exact_match_hf_evaluate

    rows = [
        {"id": str(n), "options": CHOICES, "answer": str(LETTERS.index(letter))}
        for n, (_, letter) in enumerate(QUESTIONS)
    ]
    mine = score("ai2d", [reply for reply, _ in QUESTIONS], rows)
    read = letter_of.apply([[reply] for reply, _ in QUESTIONS], rows)
    theirs = [
        exact_match_hf_evaluate([reply], [letter], ignore_case=True, ignore_punctuation=True)["exact_match"]
        for reply, (_, letter) in zip(read, QUESTIONS, strict=True)
    ]
    assert differing(mine.items["accuracy"], theirs, QUESTIONS) == []


def test_mmmu(score: Callable[..., ScoringResult], monkeypatch: pytest.MonkeyPatch) -> None:
    task = load("mmmu/utils")
    monkeypatch.setattr(random, "choice", lambda letters: "a guess")  # theirs guesses, ours counts as wrong
    rows = [
        {"id": str(n), "question_type": "multiple-choice", "options": str(list(CHOICES)), "answer": letter}
        for n, (_, letter) in enumerate(QUESTIONS)
    ]
    asked = QUESTIONS + [(reply, truth) for reply in OPEN for truth in TRUTHS]
    rows += [
        {"id": str(n), "question_type": "open", "options": "[]", "answer": truth}
        for n, (_, truth) in enumerate(asked[len(rows) :], len(rows))
    ]
    mine = score("mmmu-val", [reply for reply, _ in asked], rows)
    theirs = []
    for (reply, _), row in zip(asked, rows, strict=True):
        # The data set's lists come as text; lmms-eval hands them on as they are, MMMU's own script reads them.
        as_list = row["answer"].startswith("[")
        truth = json.loads(row["answer"].replace("'", '"')) if as_list else row["answer"]
        doc = {**row, "id": "validation_Art_1", "answer": truth}
        found = task.mmmu_process_results(doc, [reply])["mmmu_acc"]
        theirs.append(task.evaluate_mmmu([found])[1]["acc"])
    assert differing(mine.items["accuracy"], theirs, asked) == []


def test_pope(score: Callable[..., ScoringResult]) -> None:
    task = load("pope/utils")
    asked = [(reply, truth) for reply in YES_NO for truth in ("yes", "no")]
    rows = [
        {"question_id": n, "image": f"{n}.jpg", "text": "Is it?", "label": truth} for n, (_, truth) in enumerate(asked)
    ]
    mine = score("pope-random", [reply for reply, _ in asked], rows)
    found = [
        task.pope_process_results({"question_id": n, "answer": truth}, [reply])["pope_accuracy"]
        for n, (reply, truth) in enumerate(asked)
    ]
    assert differing(mine.items["accuracy"], [one["score"] for one in found], asked) == []
    for name, theirs in {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "f1_score",
                         "yes_ratio": "yes_ratio"}.items():  # fmt: skip
        value = 100 * getattr(task, f"pope_aggregate_{theirs}")(found)
        assert mine.metrics[name].value == pytest.approx(value, abs=0.005), name


def test_mme(tmp_path: Path) -> None:
    task = load("mme/utils")
    truth, results = tmp_path / "Your_Results", tmp_path / "results"
    truth.mkdir()
    results.mkdir()
    asked = [(name, reply, answer) for name in ("existence", "count") for reply in YES_NO for answer in ("Yes", "No")]
    replies: dict[str, list[str]] = {}
    for number, (name, reply, answer) in enumerate(asked):
        plain = " ".join(reply.split()) or "?"  # MME's files have a line a reply
        replies.setdefault(name, []).append(f"{number // 2}.jpg\tIs it {answer}?\t{answer}\t{plain}\n")
    for name, lines in replies.items():
        (truth / f"{name}.txt").write_text("".join(line.rpartition("\t")[0] + "\n" for line in lines))
        (results / f"{name}.txt").write_text("".join(lines))
    mine = score_results(find_benchmark("mme"), ScoringTask(results=results, annotations=truth, protocol="lmms-eval"))
    found = [
        task.mme_process_results(
            {"question_id": number // 2, "category": name, "answer": answer}, [" ".join(reply.split()) or "?"]
        )["mme_perception_score"]
        for number, (name, reply, answer) in enumerate(asked)
    ]
    theirs = task.mme_aggregate_results(found)
    assert sum(mine.metrics[name].value or 0 for name in ("existence", "count")) == pytest.approx(theirs, abs=0.01)


def test_mmbench_reads_as_vlmevalkit_does_and_lmms_eval_a_little_otherwise() -> None:
    """Before a judge is asked, which nobody asks here: what both read as a choice is the same choice."""
    from lavit_scoring.letters import only_letter

    judge = load("mmbench/mmbench_evals").MMBench_Evaluator()
    choices = dict(zip(string.ascii_uppercase[: len(CHOICES)], CHOICES, strict=True))
    mine = {reply: only_letter(reply, CHOICES) for reply in REPLIES}
    # E stands for no answer there, and is no choice of these questions.
    theirs = {reply: judge.can_infer(reply, dict(choices)) or None for reply in REPLIES}
    both = [reply for reply in REPLIES if mine[reply] and theirs[reply] not in (None, "E")]
    assert len(both) > 60
    assert [reply for reply in both if mine[reply] != theirs[reply]] == []
