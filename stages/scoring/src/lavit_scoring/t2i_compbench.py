"""T2I-CompBench: a judge's score of each image, by the numbers that its scripts give the images.

Source: Karine-Huang/T2I-CompBench: BLIPvqa_eval, UniDet_eval and CLIPScore_eval write `vqa_result.json`, whose mean is
a category's score; 3_in_1_eval puts three of them together for complex prompts. The scripts go by the order of their
lists, and never ask whether images are missing; here images are matched by number, and every prompt has equally many.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lavit_scoring.bootstrap import bootstrap_mean
from lavit_scoring.errors import InputError, shorten
from lavit_scoring.estimate import Estimate
from lavit_scoring.files import file_sha256, read_bytes
from lavit_scoring.results import align, read_rows
from lavit_scoring.task import UNKNOWN_WORDS, ScoringResult, ScoringTask, judge_of

IMAGES = 10
"""Images a prompt of the official scripts."""

COMPLEX = {
    "attribute": ("annotation_blip/vqa_result.json",),
    "spatial": (
        "annotation_obj_detection/vqa_result.json",
        "labels/annotation_obj_detection_2d/vqa_result.json",
        "annotation_obj_detection_2d/vqa_result.json",
    ),
    "action": ("annotation_clip/vqa_result.json",),
}
"""Judge of complex prompts -> where its result may lie."""


def read_t2i_prompts(file: Path) -> list[str]:
    """Return the prompts of a category, one a line, up to a tab. Raises InputError for a file without any."""
    lines = read_bytes(file).decode("utf-8-sig").splitlines()
    prompts = [line.split("\t")[0] for line in lines if line.strip()]
    if not prompts:
        raise InputError(f"{file}: no prompts in it, expected one a line")
    return prompts


def score_t2i(task: ScoringTask) -> ScoringResult:
    """Score a category's `vqa_result.json`. Raises InputError if images are missing, unless partial."""
    scores = _read(task.results)
    of_image, notes = _prompts_of_images(task)
    ids, more = align(task, scores, range(len(of_image)), what="image")
    values = [scores[number] for number in ids]
    metrics = {"score": _mean([of_image[number] for number in ids], values, task.seed, "score")}
    return _result(task, ids, of_image, values, metrics, notes | more, {})


def score_t2i_complex(task: ScoringTask) -> ScoringResult:
    """Score complex prompts: the file that 3_in_1.py wrote, or a folder with the results of its three judges.

    Prompts of `complex_val_spatial.txt` count attribute and spatial, those of `complex_val_action.txt` attribute and
    action, the others all three. Raises InputError.
    """
    if not task.results.is_dir():
        return score_t2i(task)
    files = {judge: _find(task.results, names) for judge, names in COMPLEX.items()}
    scores = {judge: _read(file) for judge, file in files.items()}
    of_image, notes = _prompts_of_images(task)
    everywhere = {number: 0.0 for number in scores["attribute"] if all(number in one for one in scores.values())}
    ids, more = align(task, everywhere, range(len(of_image)), what="image")
    lists = {name: task.annotations.with_name(f"complex_val_{name}.txt") for name in ("spatial", "action")}
    spatial, action = ({_plain(one) for one in read_t2i_prompts(file)} for file in lists.values())
    values = []
    for number in ids:
        prompt = _plain(of_image[number])
        judges = ["attribute", "spatial", "action"]
        if prompt in spatial:
            judges.remove("action")
        elif prompt in action:
            judges.remove("spatial")
        values.append(float(np.mean([scores[judge][number] for judge in judges])))
    names = [of_image[number] for number in ids]
    metrics = {"score": _mean(names, values, task.seed, "score")}
    for judge, found in scores.items():
        metrics[f"score.{judge}"] = _mean(names, [found[number] for number in ids], task.seed, judge)
    digests = {f"results.{judge}": file_sha256(file) for judge, file in files.items()}
    digests |= {f"annotations.{name}": file_sha256(file) for name, file in lists.items()}
    inputs = digests | {"results": digests["results.attribute"]}
    return _result(task, ids, of_image, values, metrics, notes | more, inputs)


def _result(
    task: ScoringTask, ids: list[Any], of_image: Sequence[str], values: list[float], metrics: dict[str, Estimate],
    notes: dict[str, Any], inputs: dict[str, str],
) -> ScoringResult:  # fmt: skip
    notes |= {"prompts": UNKNOWN_WORDS, "judge": judge_of(task)}
    return ScoringResult(
        ids=ids, expected=len(of_image), unit="1", images=[of_image[number] for number in ids],
        items={"score": values}, metrics=metrics, notes=notes, inputs=inputs,
    )  # fmt: skip


def _mean(prompts: Sequence[str], values: Sequence[float], seed: int, name: str) -> Estimate:
    found = bootstrap_mean(values, prompts, seed, name)
    value, low, high = (None if one is None else round(one, 4) for one in (found.value, found.low, found.high))
    return Estimate(value, low, high, found.n)


def _read(file: Path) -> dict[int, float]:
    """Return {image number: score of 0 to 1}. Raises InputError for any other row, and a number twice."""
    scores: dict[int, float] = {}
    for place, row in enumerate(read_rows(file), 1):
        try:
            number, score = row["question_id"], float(row["answer"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise InputError(f"{file}: row {place} is {shorten(row)}, expected question_id and answer") from None
        if not isinstance(number, int) or number < 0 or not -1 <= score <= 1:  # a cosine may be negative
            raise InputError(f"{file}: row {place} is {shorten(row)}, expected a number from 0 and a score up to 1")
        if number in scores:
            raise InputError(f"{file}: question_id {number} occurs twice, expected each image once")
        scores[number] = score
    if not scores:
        raise InputError(f"{file}: no results, expected one an image")
    return scores


def _prompts_of_images(task: ScoringTask) -> tuple[list[str], dict[str, Any]]:
    """Return the prompt of every image by its number: as `samples/` names them, else so many images a prompt.

    Raises InputError if the images are not equally many of each prompt, numbered from 0.
    """
    prompts = read_t2i_prompts(task.annotations)
    samples = _samples(task.results)
    if samples is None:
        of_image = [prompt for prompt in prompts for _ in range(IMAGES)]
        return of_image, {"images_per_prompt": f"{IMAGES} (the official number; no samples/ near the results)"}
    numbered: dict[int, str] = {}
    for file in sorted(samples.iterdir()):
        prompt, _, number = file.stem.rpartition("_")
        if not number.isdecimal():
            raise InputError(f"{file}: expected a name like 'a green bench and a blue bowl_000000.png'")
        numbered[int(number)] = prompt
    of_image = [numbered[number] for number in sorted(numbered)]
    if sorted(numbered) != list(range(len(numbered))):
        raise InputError(
            f"{samples}: images are not numbered from 0 to {len(numbered) - 1}, and judges that count files would mix "
            "them up; number them so and judge them again"
        )
    counts = {prompt: of_image.count(prompt) / prompts.count(prompt) for prompt in dict.fromkeys(prompts)}
    if extra := [prompt for prompt in of_image if prompt not in counts]:
        raise InputError(f"{samples}: {extra[0]!r} is no prompt of {task.annotations}")
    most = max(counts.values())
    lacking = [prompt for prompt, count in counts.items() if count < most]
    if lacking and not task.partial:
        raise InputError(
            f"{samples}: {len(lacking)} of {len(counts)} prompts have fewer than {most:g} images ({lacking[0]!r}); "
            "draw the others, or score what is there with --partial, marked as such"
        )
    # Images that were never drawn are missing as well: they are expected, and have no number.
    missing = [prompt for prompt in lacking for _ in range(round((most - counts[prompt]) * prompts.count(prompt)))]
    return of_image + missing, {"images_per_prompt": f"{min(counts.values()):g} to {most:g}" if lacking else int(most)}


def _samples(results: Path) -> Path | None:
    """Return the official folder of images: beside the judges' folders, or in `images/` as `lavit eval` draws them."""
    places = [results, *results.parents][:4]
    folders = (folder for place in places for folder in (place / "samples", place / "images" / "samples"))
    return next((folder for folder in folders if folder.is_dir()), None)


def _find(folder: Path, names: Sequence[str]) -> Path:
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise InputError(f"{folder}: no {names[0]} in it, expected the results of all three judges")
    return found


def _plain(prompt: str) -> str:
    """Return a prompt as 3_in_1.py compares them."""
    return prompt.split(".")[0].lower()
