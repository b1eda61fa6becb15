"""`lavit eval magicbrush`, `lavit eval ma5k`: have a model edit every image, keep each one, compare with the targets.

A prompt is the image, then the instruction. The multi-turn images of MagicBrush are drawn turn by turn: what a turn
gave is the image of the next one's prompt.

    OUT/edited/      the images, in the official layout       OUT/measured-*.jsonl   what was measured of each
    OUT/drawing.json how the model draws                      OUT/score.json, items.jsonl

What the images depend on is OUT's record; weights of metrics may be given later and draw nothing again.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavit_core.errors import InputError
from lavit_core.files import canonical_json, file_sha256, write_json
from lavit_core.modeldir import part_digest
from lavit_core.progress import warn
from lavit_core.rundir import versions
from lavit_scoring import Benchmark, ScoringTask, write_score
from lavit_scoring.catalogue import find_file, refuse_split
from lavit_scoring.scorers import GENERATION_FILE

from lavit_evaluation.benchmarks.items import check_downloads, must_find, sample_items
from lavit_evaluation.benchmarks.text_to_image import draw_images
from lavit_evaluation.compute import Compute
from lavit_evaluation.editing.config import EditRunConfig
from lavit_evaluation.editing.edited import edited_digest
from lavit_evaluation.editing.edits import images_digest, read_edits
from lavit_evaluation.editing.judges import load_judges
from lavit_evaluation.editing.score_edits import EditScoring, score_edits
from lavit_evaluation.editing.turns import Edit
from lavit_evaluation.evaluation_session import evaluation_session
from lavit_evaluation.model import DRAWING_FILE, drawer, find_drawing_parts, keep_record, open_model
from lavit_evaluation.options import Files, Weights
from lavit_evaluation.tables.unpack import official_files

if TYPE_CHECKING:
    from lavit import LaVIT

EDITED = "edited"
"""Folder of the edited images in a run directory, in the official layout."""


@dataclass(frozen=True, kw_only=True)
class EditPlan:
    """What a run asks for, known before anything is loaded."""

    annotations: Path
    edits: list[Edit]
    expected: int
    """Edits of a whole run."""


def plan_edits(benchmark: Benchmark, files: Files, config: EditRunConfig, *, seed: int = 0) -> EditPlan:
    """Read what a benchmark asks for, and draw `limit` of its sessions. Raises InputError, UsageError."""
    refuse_split(benchmark, files.split)
    check_downloads(files.data)
    annotations = files.annotations or find_file(files.data, benchmark.annotations)
    annotations = must_find(annotations, files.data, benchmark, "annotations")
    every = read_edits(benchmark.name, annotations, files.images, turns=config.turns, descriptions=config.descriptions)
    clusters = set(sample_items(list(dict.fromkeys(edit.cluster for edit in every)), config.limit, seed))
    edits = [edit for edit in every if edit.cluster in clusters]
    return EditPlan(annotations=annotations, edits=edits, expected=len(every))


def run_edits(
    benchmark: Benchmark, model: "Path | LaVIT", files: Files, out: Path, config: EditRunConfig, *, weights: Weights,
    highres: bool = False, seed: int = 0, compute: Compute = Compute(batch_size=16),
) -> dict[str, Any]:  # fmt: skip
    """Run an editing benchmark into a run directory and return score.json's content; the same call resumes.

    `files.data` holds the official files or, for MagicBrush, is a data set (parquet, save_to_disk; with
    `allow_network` a name on the hub). Raises InputError, UsageError, VerificationError, Interrupted; unusable data or
    weights are reported before any image is drawn.
    """
    inputs = find_drawing_parts(model, highres=highres)
    data, split = official_files(benchmark, files.data, out, split=files.split, allow_network=files.allow_network,
                                 quiet=compute.quiet)  # fmt: skip
    plan = plan_edits(benchmark, replace(files, data=data, split=split), config, seed=seed)
    edits = plan.edits
    inputs |= {"annotations": file_sha256(plan.annotations), "pictures": images_digest(edits)}
    measured = out / f"measured-{scoring_digest(config, weights)[:16]}.jsonl"
    # Before anything is recorded: weights that can't be used would leave a run directory tied to its settings.
    judges = load_judges(weights, config, device=compute.device)
    settings = {**config.drawing, "highres": highres, "precision": compute.precision, "seed": seed}

    with evaluation_session(
        out, command=f"eval {benchmark.name}", settings=settings, inputs=inputs, quiet=compute.quiet
    ) as session:
        # Weights of metrics may be given later: the images stay, the score is made again.
        if session.finished and session.finished["settings"]["measured"] == measured.name:
            return session.finished
        for name, reason in judges.skipped.items() if not compute.quiet else ():
            warn(f"{name}: skipped: {reason}")
        lavit = open_model(model, None, compute, highres=highres)
        draw, record = drawer(lavit, config.sample, config.draw)
        made = keep_record(out, DRAWING_FILE, record)
        edited = {edit.id: out / EDITED / edit.file_name for edit in edits}
        for turn, some in enumerate(waves(edits), 1):
            prompts = {edit.file_name: prompt_of(edit, edited) for edit in some}
            draw_images(
                session, out / EDITED, prompts, draw, seed=seed, batch_size=compute.batch_size,
                part=f"turn {turn}" if turn > 1 else "",
            )  # fmt: skip
        write_generation(edited, out, inputs, made)
        task = ScoringTask(results=out / EDITED, annotations=plan.annotations, seed=seed)
        scoring = EditScoring(
            config=config.scoring,
            judges=judges,
            images=files.images,
            only=frozenset(edit.id for edit in edits),
            measured=measured,
            quiet=compute.quiet,
        )
        return session.finish(write_score(benchmark, task, score_edits(benchmark, task, scoring), out))


def waves(edits: Sequence[Edit]) -> list[list[Edit]]:
    """Return the edits in groups, each of which needs images of earlier groups only."""
    place: dict[str, int] = {}
    for edit in edits:
        place[edit.id] = 0 if edit.after is None else place[edit.after] + 1
    return [[edit for edit in edits if place[edit.id] == number] for number in range(max(place.values()) + 1)]


def prompt_of(edit: Edit, files: Mapping[str, Path]) -> list[str | Path]:
    """Return what a model is given: the image, then the instruction; `files` are the edited images by their ids."""
    source = edit.source if edit.after is None else files[edit.after]
    assert source is not None
    return [source, edit.instruction]


def scoring_digest(config: EditRunConfig, weights: Weights) -> str:
    """Return the SHA-256 of how images are compared, weights included. Raises InputError for weights not there."""
    digests: dict[str, Any] = config.scoring.model_dump(mode="json")
    for option, path in weights.by_option().items():
        if path is not None and not path.exists():
            raise InputError(f"{option} {path}: nothing there")
    for role, path in vars(weights).items():
        if path is not None:
            digests[f"weights.{role}"] = part_digest(path) if path.is_dir() else file_sha256(path)
    return hashlib.sha256(canonical_json(digests).encode()).hexdigest()


def write_generation(files: Mapping[str, Path], out: Path, inputs: Mapping[str, str], made: Mapping[str, Any]) -> None:
    """Write generation.json: how the images were made, for exactly these images."""
    metadata = {
        "results": edited_digest(files),
        "model": {name.partition(".")[2]: one for name, one in inputs.items() if name.startswith("model.")},
        "prompt": "the image, then the instruction",
        "decoding": dict(made),
        "versions": versions(),
    }
    write_json(out / GENERATION_FILE, metadata)
