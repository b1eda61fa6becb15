"""WISE by hand: both versions' weights, sets that are not whole, a judge that failed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lavit_scoring.catalogue import find_benchmark
from lavit_scoring.errors import InputError
from lavit_scoring.scorers import score_file
from lavit_scoring.task import ScoringTask

FILES = {"cultural_common_sense": (1, 400), "spatio-temporal_reasoning": (401, 700), "natural_science": (701, 1000)}


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """The three files of the first release, with made-up words."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name, (first, last) in FILES.items():
        rows = [{"prompt_id": n, "Prompt": f"thing {n}", "Explanation": "", "Subcategory": "x"}
                for n in range(first, last + 1)]  # fmt: skip
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def score(tmp_path: Path, prompts: Path) -> Callable[..., dict[str, Any]]:
    def run(rows: list[dict[str, Any]], annotations: Path = prompts, **options: Any) -> dict[str, Any]:
        file = tmp_path / "scores.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        task = ScoringTask(results=file, annotations=annotations, **options)
        return score_file(find_benchmark("wise"), task, None)

    return run


def judged(given: Callable[[int], tuple[float, float, float]]) -> list[dict[str, Any]]:
    return [
        {"prompt_id": n, "Subcategory": "x"}
        | dict(zip(("consistency", "realism", "aesthetic_quality"), given(n), strict=True))
        for n in range(1, 1001)
    ]


def values(result: dict[str, Any]) -> dict[str, float]:
    return {name: metric["value"] for name, metric in result["figures"].items()}


def test_the_score_weighs_categories(score: Callable[..., dict[str, Any]]) -> None:
    # (0.7 * 2 + 0.2 * 1 + 0.1 * 0) / 2 = 0.8 in culture, (0.7 + 0.2 * 2 + 0.1 * 2) / 2 = 0.65 in time, 1 in chemistry.
    given = score(judged(lambda n: (2, 1, 0) if n <= 400 else (1, 2, 2) if n <= 567 else (2, 2, 2) if n > 900
                         else (0, 0, 0)))  # fmt: skip
    found = values(given)
    assert found == {
        "score": pytest.approx(0.4 * 0.8 + 0.167 * 0.65 + 0.1, abs=1e-4), "score.cultural": 0.8, "score.time": 0.65,
        "score.space": 0.0, "score.biology": 0.0, "score.physics": 0.0, "score.chemistry": 1.0,
    }  # fmt: skip
    assert (given["complete"], given["figures"]["score.time"]["count"]) == (True, 167)
    assert given["notes"]["judge"].startswith("not known")
    low, high = (given["figures"]["score"][end] for end in ("low", "high"))
    assert low <= found["score"] <= high


def test_the_verified_release_has_other_categories_and_one_number(
    score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    every = tmp_path / "merge.json"
    every.write_text(json.dumps([{"prompt_id": n, "Prompt": "x"} for n in range(1, 1001)]))
    rows = [{"prompt_id": n, "score": int(400 < n <= 520 or (n % 2 == 0 and n <= 400))} for n in range(1, 1001)]
    found = values(score(rows, every, protocol="verified"))
    assert (found["score"], found["score.cultural"], found["score.time"]) == (pytest.approx(0.32), 0.5, 1.0)
    with pytest.raises(InputError, match=r"row 1 is .*, expected prompt_id, consistency, realism, aesthetic_quality"):
        score(rows, every)


def test_sets_that_are_not_whole_are_refused_or_marked(score: Callable[..., dict[str, Any]]) -> None:
    rows = judged(lambda n: (2, 2, 2))
    with pytest.raises(InputError, match="100 of 1000 prompts have no result"):
        score(rows[:900])
    marked = score(rows[:900], partial=True)
    assert (marked["complete"], marked["figures"]) == (False, {})
    assert marked["skipped"]["score"] == "no prompt of chemistry, which the sum over categories needs"
    # Calculate.py takes 999 as a score: such a file gets more than 1.
    rows[4] |= {"consistency": 999, "realism": 999, "aesthetic_quality": 999}
    with pytest.raises(InputError, match="prompt 5 has 999, expected 0 to 2; judge it again"):
        score(rows)
    left = score(rows, partial=True)
    assert left["notes"]["failed"] == "1 prompts that the judge failed on are left out (5)"
    assert (left["items"]["scored"], left["partial"]["figures"]["score"]["value"]) == (999, 1.0)
    with pytest.raises(InputError, match="prompt_id 1 has two results"):
        score([*rows[:4], *rows[:1]])
    with pytest.raises(InputError, match=r"scores.jsonl: row 1: prompt_id is \[1\], expected a number"):
        score([{**rows[0], "prompt_id": [1]}])
    with pytest.raises(InputError, match=r"prompt 1 has 2\.5, expected 0 to 2"):
        score([{**rows[0], "realism": 2.5}], partial=True)


def test_results_and_prompts_in_three_files(tmp_path: Path, prompts: Path) -> None:
    results = tmp_path / "Results"
    results.mkdir()
    for name, (first, last) in FILES.items():
        rows = judged(lambda n: (1, 1, 1))[first - 1 : last]
        (results / f"{name}_scores_results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    one, other = (
        score_file(find_benchmark("wise"), ScoringTask(results=results, annotations=annotations))
        for annotations in (prompts, prompts / "cultural_common_sense.json")
    )
    assert values(one) == values(other)
    assert values(one)["score"] == 0.5
    assert one["inputs"] == other["inputs"]
    (prompts / "natural_science.json").unlink()
    with pytest.raises(InputError, match=r"data: expected cultural_common_sense.json, "):
        score_file(find_benchmark("wise"), ScoringTask(results=results, annotations=prompts))
    (results / "natural_science_scores_results.jsonl").unlink()
    part = ScoringTask(results=results, annotations=prompts / "cultural_common_sense.json")
    with pytest.raises(InputError, match=r"sense.json: a part of .*, expected natural_science.json beside it"):
        score_file(find_benchmark("wise"), part)
