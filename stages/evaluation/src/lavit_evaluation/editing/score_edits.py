"""Scores edited images of any model, in folders: MagicBrush's metrics, and the same for MA5k-Req."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lavit_core.errors import UsageError
from lavit_scoring.bootstrap import interval_of_mean
from lavit_scoring.catalogue import Benchmark
from lavit_scoring.estimate import Estimate
from lavit_scoring.task import ScoringResult, ScoringTask

from lavit_evaluation.editing.config import EditScoreConfig
from lavit_evaluation.editing.dino import OFFICIAL_SHAPE as OFFICIAL_DINO
from lavit_evaluation.editing.edited import edited_digest, find_edited
from lavit_evaluation.editing.edits import images_digest, read_edits
from lavit_evaluation.editing.judges import Judges, Measure, load_judges
from lavit_evaluation.editing.turns import SETS, Edit
from lavit_evaluation.evaluation_session import evaluation_session
from lavit_evaluation.files import Weights
from lavit_evaluation.stores import AnswerLog

OFFICIAL_CLIP = "patch 32, width 768, 12 layers"
"""ViT-B/32, which MagicBrush's script loads."""

CHUNK = 16
"""Images between two writes of what was measured."""

THREADS = 4
"""Pairs whose pixels are compared at once; SSIM of 1,024 pixels takes 0.3 GB each."""

METRICS = ("l1", "l2", "clip_i", "dino", "clip_t", "clip_t_oracle", "lpips", "lpips_vgg", "lpips_other", "ssim")


@dataclass(frozen=True, kw_only=True)
class EditTask(ScoringTask):
    """What is scored against what; `results` is a folder of edited images."""

    kind: str
    """magicbrush or ma5k."""
    images: Path | None = None
    """Folder of inputs and targets; beside the annotations when not given."""
    weights: Weights = field(default_factory=Weights)
    config: EditScoreConfig
    judges: Judges | None = None
    """The metrics, where they are loaded already."""
    only: frozenset[str] | None = None
    """Ids of the edits that were asked for, where not all were (`--limit`)."""
    measured: Path | None = None
    """File to keep what was measured in, for a run that goes on after a kill; its name stands for all it depends on."""
    device: str = "auto"
    quiet: bool = False


def edit_task(
    benchmark: Benchmark, task: ScoringTask, config: EditScoreConfig, weights: Weights, images: Path | None,
    device: str, *, quiet: bool,
) -> EditTask:  # fmt: skip
    """Return a task of an editing benchmark with what it is scored by. Raises UsageError for rules it does not have."""
    if task.protocol != "official" or task.questions is not None:
        raise UsageError(f"{benchmark.name}: found --protocol {task.protocol} or --questions, expected neither")
    plain = {one.name: getattr(task, one.name) for one in fields(ScoringTask)}
    return EditTask(**plain, kind=benchmark.name, images=images, weights=weights, config=config, device=device,
                    quiet=quiet)  # fmt: skip


def score_edits(task: ScoringTask) -> ScoringResult:
    """Compare every edited image with its target. Raises InputError naming what is missing or belongs nowhere."""
    assert isinstance(task, EditTask)
    config = task.config
    edits, every = (
        read_edits(task.kind, task.annotations, task.images, turns=turns, descriptions=config.descriptions)
        for turns in (config.turns, "both")
    )
    found = find_edited(task.results, [edit for edit in edits if task.only is None or edit.id in task.only], every,
                        partial=task.partial)  # fmt: skip
    judges = task.judges or load_judges(task.weights, config, device=task.device)
    done = [edit for edit in edits if edit.id in found]
    rows = measure(done, found, judges, config, task.measured, quiet=task.quiet)
    metrics, skipped = metrics_of(done, rows, task.seed)
    everywhere = [name for name in METRICS if all(name in row for row in rows)]
    official = task.kind == "magicbrush" and not differences(config, judges)
    return ScoringResult(
        ids=[edit.id for edit in done],
        expected=len(edits),
        unit="l1, l2: the [0, 1] pixel scale, lower is better; clip_*, dino: cosine; lpips: lower is better",
        protocol="official" if official else "custom",
        images=[edit.cluster for edit in done],
        items={name: [row[name] for row in rows] for name in everywhere},
        metrics=metrics,
        skipped=judges.skipped | skipped | no_description(task, edits, judges),
        notes=notes(task.kind, config, judges),
        inputs={"results": edited_digest(found), "targets": images_digest(edits)},
        settings={
            **config.model_dump(mode="json"),
            **judges.metadata,
            "measured": None if task.measured is None else task.measured.name,
            "interval": f"95 %, bootstrap over {'sessions' if task.kind == 'magicbrush' else 'inputs'}, 1000 resamples",
        },
    )


def measure(
    edits: Sequence[Edit], found: dict[str, Path], judges: Judges, config: EditScoreConfig, file: Path | None, *,
    quiet: bool,
) -> list[dict[str, float]]:  # fmt: skip
    """Return the metrics of each edited image; with `file`, rows are kept there and not measured again.

    Raises Interrupted at a stop signal.
    """
    one = Measure(judges, config)
    with (
        evaluation_session(None, command="comparing", settings={}, inputs={}, quiet=quiet) as session,
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


def no_description(task: EditTask, edits: Sequence[Edit], judges: Judges) -> dict[str, str]:
    """Return why CLIP-T is missing where no target is described."""
    if judges.clip is None or any(edit.description is not None for edit in edits):
        return {}
    if task.kind == "ma5k":
        return {"clip_t": "MA5k-Req describes no target"}
    return {"clip_t": f"no {task.config.descriptions}_descriptions.json beside {task.annotations.name}"}


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
