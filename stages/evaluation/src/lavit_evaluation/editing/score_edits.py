"""Scores edited images of any model, in folders: MagicBrush's metrics, and the same for MA5k-Req."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavit_core.errors import UsageError
from lavit_scoring import Benchmark, Estimate, ScoringResult, ScoringTask
from lavit_scoring.bootstrap import interval_of_mean
from lavit_scoring.scorers import check

from lavit_evaluation.editing.config import EditScoreConfig
from lavit_evaluation.editing.dino import OFFICIAL_SHAPE as OFFICIAL_DINO
from lavit_evaluation.editing.edited import edited_digest, find_edited
from lavit_evaluation.editing.edits import images_digest, read_edits
from lavit_evaluation.editing.judges import Judges, Measure
from lavit_evaluation.editing.turns import SETS, Edit
from lavit_evaluation.evaluation_session import evaluation_session
from lavit_evaluation.stores import AnswerLog

OFFICIAL_CLIP = "patch 32, width 768, 12 layers"
"""ViT-B/32, which MagicBrush's script loads."""

CHUNK = 16
"""Images between two writes of what was measured."""

THREADS = 4
"""Pairs whose pixels are compared at once; SSIM of 1,024 pixels takes 0.3 GB each."""

METRICS = ("l1", "l2", "clip_i", "dino", "clip_t", "clip_t_oracle", "lpips", "lpips_vgg", "lpips_other", "ssim")


@dataclass(frozen=True, kw_only=True)
class EditScoring:
    """By what edited images are compared, beside what the task says."""

    config: EditScoreConfig
    judges: Judges
    images: Path | None = None
    """Folder of inputs and targets; beside the annotations when not given."""
    only: frozenset[str] | None = None
    """Ids of the edits that were asked for, where not all were (`--limit`)."""
    measured: Path | None = None
    """File to keep what was measured in, for a run that goes on after a kill; its name stands for all it depends on."""
    quiet: bool = False


def check_edits(benchmark: Benchmark, task: ScoringTask) -> None:
    """Raise UsageError or InputError for what can't be scored; `task.results` is a folder of edited images."""
    if task.protocol != "official" or task.questions is not None:
        raise UsageError(f"{benchmark.name}: found --protocol {task.protocol} or --questions, expected neither")
    check(benchmark, task)


def score_edits(benchmark: Benchmark, task: ScoringTask, scoring: EditScoring) -> ScoringResult:
    """Compare every edited image with its target. Raises InputError naming what is missing or belongs nowhere."""
    check_edits(benchmark, task)
    began, config, judges = time.monotonic(), scoring.config, scoring.judges
    edits, every = (
        read_edits(benchmark.name, task.annotations, scoring.images, turns=turns, descriptions=config.descriptions)
        for turns in (config.turns, "both")
    )
    asked = [edit for edit in edits if scoring.only is None or edit.id in scoring.only]
    found = find_edited(task.results, asked, every, partial=task.partial)
    done = [edit for edit in edits if edit.id in found]
    rows = measure(done, found, scoring)
    metrics, skipped = metrics_of(done, rows, task.seed)
    everywhere = [name for name in METRICS if all(name in row for row in rows)]
    official = benchmark.name == "magicbrush" and not differences(config, judges)
    drawn = "sessions" if benchmark.name == "magicbrush" else "inputs"
    return ScoringResult(
        ids=[edit.id for edit in done],
        expected=len(edits),
        unit="l1, l2: the [0, 1] pixel scale, lower is better; clip_*, dino: cosine; lpips: lower is better",
        protocol="official" if official else "custom",
        images=[edit.cluster for edit in done],
        items={name: [row[name] for row in rows] for name in everywhere},
        metrics=metrics,
        skipped=judges.skipped | skipped | no_description(benchmark, task, edits, scoring),
        notes=notes(benchmark.name, config, judges),
        inputs={"results": edited_digest(found), "targets": images_digest(edits)},
        settings={
            **config.model_dump(mode="json"),
            **judges.metadata,
            "measured": None if scoring.measured is None else scoring.measured.name,
            "interval": f"95 %, bootstrap over {drawn}, 1000 resamples",
        },
        seconds=time.monotonic() - began,
    )


def measure(edits: Sequence[Edit], found: dict[str, Path], scoring: EditScoring) -> list[dict[str, float]]:
    """Return the metrics of each edited image; rows that `scoring.measured` keeps are not measured again.

    Raises Interrupted at a stop signal.
    """
    one, file = Measure(scoring.judges, scoring.config), scoring.measured
    with (
        evaluation_session(None, command="comparing", settings={}, inputs={}, quiet=scoring.quiet) as session,
        ThreadPoolExecutor(THREADS) as pool,
    ):

        def measure(some: list[Edit]) -> list[dict[str, Any]]:
            pixels = pool.map(lambda edit: one.pixels(edit, found[edit.id]), some)
            return [{**plain, **one.networks(edit, found[edit.id])} for edit, plain in zip(some, pixels, strict=True)]

        rows = session.ask(
            {edit.id: edit for edit in edits}, measure, None if file is None else AnswerLog(file), batch_size=CHUNK,
            unit="image",
        )  # fmt: skip
    return [{name: value for name, value in row.items() if name != "id"} for row in rows]


def metrics_of(
    edits: Sequence[Edit], rows: Sequence[dict[str, float]], seed: int
) -> tuple[dict[str, Estimate], dict[str, str]]:
    """Return the mean of each metric over each group of images, and why one is missing there."""
    metrics, skipped = {}, {}
    for group in (*SETS, ""):
        mine = [(edit, row) for edit, row in zip(edits, rows, strict=True) if group in edit.sets]
        for metric in METRICS:
            name = f"{group}.{metric}" if group else metric
            having = [(edit.cluster, row[metric]) for edit, row in mine if metric in row]
            if having and len(having) < len(mine):
                what = "description" if metric.startswith("clip_t") else "side of 11 pixels"
                skipped[name] = f"{len(mine) - len(having)} of {len(mine)} images have no {what}"
            elif having:
                clusters, values = zip(*having, strict=True)
                low, high = interval_of_mean(values, clusters, seed, name)
                metrics[name] = Estimate(sum(values) / len(values), low, high, len(values))
    return metrics, skipped


def no_description(
    benchmark: Benchmark, task: ScoringTask, edits: Sequence[Edit], scoring: EditScoring
) -> dict[str, str]:
    """Return why CLIP-T is missing where no target is described."""
    if scoring.judges.clip is None or any(edit.description is not None for edit in edits):
        return {}
    if benchmark.name == "ma5k":
        return {"clip_t": "MA5k-Req describes no target"}
    return {"clip_t": f"no {scoring.config.descriptions}_descriptions.json beside {task.annotations.name}"}


def differences(config: EditScoreConfig, judges: Judges) -> list[str]:
    """Return in what a score differs from MagicBrush's script."""
    found = [f"size {config.size}"] if config.size is not None else []
    found += ["global descriptions"] if config.descriptions == "global" else []
    for name, official, said in (("clip_shape", OFFICIAL_CLIP, "ViT-B/32"), ("dino_shape", OFFICIAL_DINO, "ViT-S/16")):
        if judges.metadata.get(name, official) != official:
            found.append(f"{name.partition('_')[0].upper()} of {judges.metadata[name]} (the script's is {said})")
    return found


def notes(kind: str, config: EditScoreConfig, judges: Judges) -> dict[str, Any]:
    """Return what a reader of the metrics needs to know."""
    if kind == "ma5k":
        return {"protocol": "no official script is known; edited images are resized to the target's size"}
    said: dict[str, Any] = {f"{name}.*": SETS[name] for name in SETS if config.turns == "both"}
    if differing := differences(config, judges):
        said["differs_from_the_official_script"] = "; ".join(differing)
    return said
