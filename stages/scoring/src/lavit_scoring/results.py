"""Result files of any model, aligned with the questions or images by id: nothing is ever matched by its position."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lavit_scoring.errors import InputError, shorten, some_names
from lavit_scoring.files import read_json, read_json_lines
from lavit_scoring.task import ScoringTask


def _is_number(value: Any) -> bool:
    # A whole number of more than 300 digits is JSON, and no float.
    return (isinstance(value, float) and value == value) or (isinstance(value, int) and abs(value) < 10**300)


KINDS: dict[type, tuple[str, Callable[[Any], bool]]] = {
    str: ("text", lambda value: isinstance(value, str)),
    float: ("a number", _is_number),
    list: ("a list of numbers", lambda value: isinstance(value, list) and bool(value) and all(map(_is_number, value))),
}
"""What a result may be, in words and as a test."""


def read_rows(file: Path) -> list[Any]:
    """Return the rows of a result file: a JSON array, or one JSON value a line. Raises InputError naming the line."""
    if file.suffix == ".jsonl":
        return read_json_lines(file)
    rows = read_json(file)
    if not isinstance(rows, list):
        raise InputError(f"{file}: found {type(rows).__name__}, expected a JSON array of results")
    return rows


def read_results(
    file: Path,
    *,
    ids: Sequence[str],
    values: Sequence[str],
    kind: type[str] | type[float] | type[list[float]] = str,
    as_id: Callable[[Any], Any] = lambda value: value,
    rows: Iterable[tuple[int, Any]] | None = None,
) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Return {id: value} of a result file, and notes on what was cleaned.

    `ids` and `values` are the names a column may have; `rows` are some of the file's with their numbers (all unless
    given). Equal rows are merged and counted. Raises InputError naming the id if rows of one id differ, or a value is
    not of `kind`.
    """
    wanted, is_kind = KINDS[kind]
    results: dict[Any, Any] = {}
    repeated = 0
    for number, row in enumerate(read_rows(file), 1) if rows is None else rows:
        if not isinstance(row, dict):
            raise InputError(
                f"{file}: row {number} is {shorten(row)}, expected an object with {ids[0]} and {values[0]}"
            )
        name = as_id(_column(file, number, row, ids))
        value = _column(file, number, row, values)
        if not isinstance(name, Hashable) or isinstance(name, tuple):
            raise InputError(f"{file}: row {number}: {ids[0]} is {shorten(name)}, expected a number or text")
        if not is_kind(value):
            raise InputError(f"{file}: {values[0]} of {ids[0]} {name!r} is {shorten(value)}, expected {wanted}")
        if name in results:
            if results[name] != value:
                both = f"{shorten(results[name])} and {shorten(value)}"
                raise InputError(f"{file}: {ids[0]} {name!r} has two results, {both}; keep one")
            repeated += 1
        results[name] = value
    return results, {"merged_equal_rows": repeated} if repeated else {}


def align(
    task: ScoringTask, results: Mapping[Any, Any], expected: Iterable[Any], *, what: str, ignore_extra: bool = False
) -> tuple[list[Any], dict[str, Any]]:
    """Return the expected ids that have a result, in their own order, and notes; `what` names an item in messages.

    Raises InputError naming the ids if results are missing and the task is not partial, or if there are results for ids
    that are not expected and not `ignore_extra` (then they are counted).
    """
    file, against, wanted = task.results, task.annotations, list(expected)
    known = set(wanted)
    extra = [name for name in results if name not in known]
    if extra and not ignore_extra:
        raise InputError(_extra_message(extra, known, file, against, what))
    answered = [name for name in wanted if name in results]
    if missing := [name for name in wanted if name not in results]:
        if not answered:
            raise InputError(f"{file}: none of its {what}s is in {against}; expected ids like {some_names(wanted)}")
        if not task.partial:
            raise InputError(
                f"{file}: {len(missing)} of {len(wanted)} {what}s have no result ({some_names(missing)}); add them, or "
                "score what is there with --partial, marked as such"
            )
    return answered, {"ignored_extra_results": len(extra)} if extra else {}


def _extra_message(extra: list[Any], known: set[Any], file: Path, against: Path, what: str) -> str:
    first = extra[0]
    other = int(first) if isinstance(first, str) and first.isdecimal() else str(first)
    if other in known:
        return (
            f"{file}: the id of a {what} is {first!r} ({type(first).__name__}), expected {other!r} "
            f"({type(other).__name__}) as in {against}"
        )
    return f"{file}: {len(extra)} results belong to no {what} of {against} ({some_names(extra)}); was it another split?"


def _column(file: Path, number: int, row: Mapping[str, Any], names: Sequence[str]) -> Any:
    for name in names:
        if name in row:
            return row[name]
    raise InputError(f"{file}: row {number} has {', '.join(map(str, row)) or 'nothing'}, expected {names[0]}")
