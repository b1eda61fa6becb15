"""DPG-Bench: yes or no to each proposition of a long prompt, of any judge.

Source: TencentQQGYLab/ELLA, dpg_bench/compute_dpg_bench.py. Its aggregation (`official`) has three quirks: the first
row of the CSV is skipped, so every image of the first prompt fails where another proposition depends on it; images that
fail are left out of the mean without a word; categories take the answers about the last image of a grid alone, and no
parents. `corrected` has none of them.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lavit_scoring.bootstrap import percent
from lavit_scoring.errors import InputError, shorten, some_names
from lavit_scoring.estimate import Estimate
from lavit_scoring.files import read_bytes
from lavit_scoring.results import align, read_rows
from lavit_scoring.task import UNKNOWN_WORDS, ScoringResult, ScoringTask, judge_of

COLUMNS = ("item_id", "proposition_id", "dependency", "tuple", "question_natural_language")
DETAIL = re.compile(r"(?P<image>.*), (?P<crop>\(\d+, \d+, \d+, \d+\)), (?P<question>.*), (?P<answer>[^,]*)")
"""A line of the script's `_detail.txt`."""


@dataclass(frozen=True, kw_only=True)
class Proposition:
    """One question about a prompt's image."""

    parents: tuple[int, ...]
    """Propositions that must hold, or this one does not count as answered with yes."""
    category: str
    text: str


Item = dict[int, Proposition]
Answers = list[dict[int, bool]]
"""Of each image of a prompt, proposition -> whether the judge said yes."""


def score_dpg(task: ScoringTask) -> ScoringResult:
    """Score a judge's answers by the script's aggregation or the corrected one. Raises InputError if ids differ."""
    items = _read_items(task.annotations)
    official = task.protocol == "official"
    first, number = next((name, next(iter(item))) for name, item in items.items())
    shown = items | ({first: {one: items[first][one] for one in items[first] if one != number}} if official else {})
    answers, notes = _read_answers(task.results, shown, items)
    ids, more = align(task, answers, items, what="prompt")
    means: dict[str, float] = {}
    for name in ids:
        try:
            scores = [_with_parents(shown[name], own, official=official) for own in answers[name]]
        except KeyError:  # the script's own failure: a parent that it did not read
            continue
        means[name] = float(np.mean([np.mean(list(own.values())) for own in scores]))
    if not means:
        raise InputError(f"{task.results}: no prompt can be scored: each depends on the row that is skipped")
    metrics = {"score": percent(list(means.values()), list(means), task.seed, "score")}
    metrics |= _categories({name: (shown[name], answers[name]) for name in means}, official=official, seed=task.seed)
    counts = {len(answers[name]) for name in ids}
    notes |= more | {
        "images_per_prompt": min(counts) if len(counts) == 1 else f"{min(counts)} to {max(counts)}",
        "prompts": UNKNOWN_WORDS,
        "judge": judge_of(task),
    }
    if official:
        failed = [name for name in ids if name not in means]
        notes["first_row"] = f"proposition {number} of prompt {first} is skipped, as the script does"
        notes["dropped"] = f"{len(failed)} of {len(ids)} prompts ({some_names(failed)})" if failed else 0
    columns: dict[str, Sequence[float]] = {
        "score": [means.get(name, 0.0) for name in ids],
        "dropped": [float(name not in means) for name in ids],
    }
    return ScoringResult(ids=ids, expected=len(items), unit="per cent", items=columns, metrics=metrics, notes=notes)


def _with_parents(item: Item, yes: Mapping[int, bool], *, official: bool) -> dict[int, float]:
    """Return 1 for each proposition that holds with its parents, else 0.

    The script goes by the rows' order, so a parent that stands below its child counts by its answer alone.
    """
    held = {number: float(yes[number]) for number in item}
    for number, proposition in item.items():
        if any(held[parent] == 0 for parent in proposition.parents):
            held[number] = 0.0
    if not official:
        for _ in item:  # as often as a chain of parents is long, at most
            for number, proposition in item.items():
                if any(held[parent] == 0 for parent in proposition.parents):
                    held[number] = 0.0
    return held


def _categories(scored: Mapping[str, tuple[Item, Answers]], *, official: bool, seed: int) -> dict[str, Estimate]:
    """Return `category.<level 1>` and `category.<level 1 - level 2>`: the means of their propositions."""
    values: dict[str, list[float]] = {}
    owners: dict[str, list[str]] = {}
    for name, (item, answers) in scored.items():
        for yes in answers[-1:] if official else answers:
            own = {number: float(yes[number]) for number in item} if official else _with_parents(
                item, yes, official=False
            )  # fmt: skip
            for number, value in own.items():
                category = item[number].category
                for level in dict.fromkeys((category.split("-")[0].strip(), category)):
                    values.setdefault(level, []).append(value)
                    owners.setdefault(level, []).append(name)
    return {
        f"category.{level}": percent(values[level], owners[level], seed, f"category.{level}")
        for level in sorted(values)
    }


def _read_items(file: Path) -> dict[str, Item]:
    """Return {prompt id: its propositions}, in the rows' order. Raises InputError naming a row that is not one."""
    lines = read_bytes(file).decode("utf-8-sig").splitlines(keepends=True)
    items: dict[str, Item] = {}
    for number, row in enumerate(csv.DictReader(lines), 2):
        try:
            parents = tuple(int(one) for one in row["dependency"].split(","))
            name, proposition = row["item_id"], int(row["proposition_id"])
            category, text = row["tuple"].split("(")[0].strip(), row["question_natural_language"]
        except (KeyError, ValueError, AttributeError, TypeError):
            raise InputError(f"{file}: row {number} is {shorten(row)}, expected {', '.join(COLUMNS)}") from None
        own = items.setdefault(name, {})
        if proposition in own:
            raise InputError(f"{file}: proposition {proposition} of {name} occurs twice")
        own[proposition] = Proposition(parents=tuple(one for one in parents if one), category=category, text=text)
    for name, item in items.items():
        for number, one in item.items():
            if lacking := set(one.parents) - item.keys():
                raise InputError(
                    f"{file}: proposition {number} of {name} depends on {min(lacking)}, which is not there"
                )
    if not items:
        raise InputError(f"{file}: no propositions, expected dpg_bench.csv")
    return items


def _read_answers(
    file: Path, items: Mapping[str, Item], known: Mapping[str, Item]
) -> tuple[dict[str, Answers], dict[str, Any]]:
    """Return {prompt id: answers about each of its images}, from the script's `_detail.txt` or rows of any judge, and
    notes on what was merged; `known` are all propositions of the CSV, `items` those that need an answer.

    Raises InputError for a proposition without an answer, with two or not in the CSV, and for a row that is not one.
    """
    official = file.suffix == ".txt"
    rows = _detail_rows(file, items) if official else read_rows(file)
    found: dict[str, dict[str, dict[int, bool]]] = {}
    repeated = 0
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not {"item_id", "proposition_id", "answer"} <= row.keys():
            raise InputError(f"{file}: row {number} is {shorten(row)}, expected item_id, proposition_id and answer")
        name, proposition = str(row["item_id"]), _whole_number(row["proposition_id"])
        if proposition is None:
            given = shorten(row["proposition_id"])
            raise InputError(f"{file}: row {number}: proposition_id is {given}, expected a whole number as in the CSV")
        if proposition not in known.get(name, {proposition}):  # `align` refuses prompts that are not known
            there = some_names(list(known[name]))
            raise InputError(f"{file}: row {number}: proposition {proposition} of {name}, the CSV has {there}")
        said = row["answer"] == "yes" if official else _yes_or_no(row["answer"])
        if said is None:
            raise InputError(f"{file}: row {number}: answer is {shorten(row['answer'])}, expected yes or no")
        image = str(0 if row.get("image") is None else row["image"])
        own = found.setdefault(name, {}).setdefault(image, {})
        if proposition in own:
            where = f"{file}: row {number}: proposition {proposition} of {name}"
            if row.get("image") is None:
                raise InputError(
                    f"{where} has a second answer and no `image`; number each prompt's images with `image`"
                )
            if own[proposition] != said:
                raise InputError(f"{where} has two answers about image {image}, yes and no; keep one")
            repeated += 1
        own[proposition] = said
    for name, images in found.items():
        for image, yes in images.items():
            if lacking := items.get(name, {}).keys() - yes.keys():
                raise InputError(
                    f"{file}: image {image} of {name} has no answer to proposition {min(lacking)}; judge it again"
                )
    answers = {name: list(images.values()) for name, images in found.items()}
    return answers, {"merged_equal_rows": repeated} if repeated else {}


def _whole_number(value: Any) -> int | None:
    """Return a number, or a text of digits, as an int; None for anything else."""
    if isinstance(value, str):
        return int(value) if value.strip().isdecimal() else None
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0
    return int(value) if whole else None


def _yes_or_no(answer: Any) -> bool | None:
    """Return whether a judge said yes: yes or no in any case, with or without a full stop, or a boolean; else None."""
    word = answer.strip().lower().removesuffix(".") if isinstance(answer, str) else answer
    return word if isinstance(word, bool) else {"yes": True, "no": False}.get(word) if isinstance(word, str) else None


def _detail_rows(file: Path, items: Mapping[str, Item]) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(read_bytes(file).decode("utf-8").splitlines(), 1):
        found = DETAIL.fullmatch(line)
        name = Path(found["image"]).name.split(".")[0] if found else ""
        texts = {one.text: proposition for proposition, one in items.get(name, {}).items()}
        if not found or found["question"] not in texts:
            raise InputError(f"{file}:{number}: {shorten(line)}, expected image, (crop), question, answer of the CSV")
        rows.append({
            "item_id": name, "image": f"{found['image']} {found['crop']}",
            "proposition_id": texts[found["question"]], "answer": found["answer"],
        })  # fmt: skip
    return rows
