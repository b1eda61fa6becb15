"""`lavit eval magicbrush`, `lavit eval ma5k`: have a model edit every picture, keep each one, compare with the targets.

A prompt is the picture, then the instruction. The multi-turn pictures of MagicBrush are drawn turn by turn: what a turn
gave is the picture of the next one's prompt.

    OUT/edited/      the pictures, in the official layout       OUT/measured-*.jsonl   what was measured of each
    OUT/painter.json how the model draws                        OUT/score.json, items.jsonl

What the pictures depend on is OUT's record; weights of metrics may be given later and draw nothing again.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lavit_core.errors import InputError
from lavit_core.files import canonical_json, file_sha256, read_json, write_json
from lavit_core.modeldir import part_digest
from lavit_core.progress import warn
from lavit_core.rundir import open_run, versions
from lavit_scoring.catalogue import Benchmark, find_file, refuse_split
from lavit_scoring.score_file import GENERATION_FILE, score_file

from lavit_evaluation.editing.config import EditRunConfig, Weights
from lavit_evaluation.editing.edited import edited_digest
from lavit_evaluation.editing.edits import pictures_digest, read_edits
from lavit_evaluation.editing.judges import load_judges
from lavit_evaluation.editing.score_edits import EditTask, score_edits
from lavit_evaluation.editing.turns import Edit
from lavit_evaluation.running.benchmark import draw
from lavit_evaluation.running.drawing import Draw, draw_missing
from lavit_evaluation.running.items import check_downloads, must_find
from lavit_evaluation.running.painter import PAINTER_FILE, DrawPrompt, Painter, check_painter, load_painter
from lavit_evaluation.tables.unpack import official_files

EDITED = "edited"
"""Folder of the edited pictures in a run directory, in the official layout."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a run asks for, known before anything is loaded."""

    annotations: Path
    edits: list[Edit]
    expected: int
    """Edits of a whole run."""


def ask(
    benchmark: Benchmark, data: Path, config: EditRunConfig, *, annotations: Path | None = None,
    images: Path | None = None, split: str | None = None, seed: int = 0,
) -> Asked:  # fmt: skip
    """Read what a benchmark asks for, and draw `limit` of its sessions. Raises InputError, UsageError."""
    refuse_split(benchmark, split)
    check_downloads(data)
    annotations = must_find(annotations or find_file(data, benchmark.annotations), data, benchmark, "annotations")
    every = read_edits(benchmark.name, annotations, images, turns=config.turns, descriptions=config.descriptions)
    clusters = set(draw(list(dict.fromkeys(edit.cluster for edit in every)), config.limit, seed))
    edits = [edit for edit in every if edit.cluster in clusters]
    return Asked(annotations=annotations, edits=edits, expected=len(every))


def run_edits(
    benchmark: Benchmark, model: Path, data: Path, out: Path, config: EditRunConfig, *, weights: Weights,
    annotations: Path | None = None, images: Path | None = None, split: str | None = None, highres: bool = False,
    batch_size: int = 16, seed: int = 0, device: str = "auto", precision: str = "auto", quiet: bool = False,
    allow_network: bool = False, load: Callable[[], Painter] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Run an editing benchmark into a run directory and return score.json's content; the same call resumes.

    `data` holds the official files or, for MagicBrush, is a data set (parquet, save_to_disk; with `allow_network` a
    name on the hub). `load` gives the model in another way than from `model` (tests do). Raises InputError, UsageError,
    VerificationError, Interrupted; what is wrong with data or weights is said before any picture is drawn.
    """
    inputs = check_painter(model, highres=highres) if load is None else {}
    data, split = official_files(benchmark, data, out, split=split, allow_network=allow_network, quiet=quiet)
    asked = ask(benchmark, data, config, annotations=annotations, images=images, split=split, seed=seed)
    edits = asked.edits
    inputs |= {"annotations": file_sha256(asked.annotations), "pictures": pictures_digest(edits)}
    measured = out / f"measured-{scoring_digest(config, weights)[:16]}.jsonl"
    # Before anything is recorded: weights that can't be used would leave a run directory tied to its settings.
    judges = load_judges(weights, config, device=device)
    settings = {**config.drawing, "highres": highres, "precision": precision, "seed": seed}
    with open_run(out, command=f"eval {benchmark.name}", config=settings, inputs=inputs) as run:
        if run.done is not None and run.done["settings"]["measured"] == measured.name:
            return run.done
        for name, reason in judges.skipped.items() if not quiet else ():
            warn(f"{name}: skipped: {reason}")

        @cache
        def painter() -> Draw[DrawPrompt]:
            loaded = load() if load is not None else load_painter(
                model, sampling=config.sample, drawing=config.draw, highres=highres, device=device, precision=precision
            )  # fmt: skip
            write_json(out / PAINTER_FILE, loaded.about)
            return loaded.draw

        files = {edit.id: out / EDITED / edit.file_name for edit in edits}
        for turn, some in enumerate(waves(edits), 1):
            title = f"eval {benchmark.name}" + (f", turn {turn}" if turn > 1 else "")
            prompts = {edit.file_name: prompt_of(edit, files) for edit in some}
            draw_missing(out / EDITED, prompts, painter, title=title, seed=seed, batch_size=batch_size,
                         quiet=quiet)  # fmt: skip
        write_generation(files, out, inputs)
        task = EditTask(
            results=out / EDITED,
            annotations=asked.annotations,
            kind=benchmark.name,
            images=images,
            config=config.scoring,
            judges=judges,
            measured=measured,
            only=frozenset(edit.id for edit in edits),
            seed=seed,
            quiet=quiet,
        )
        result = score_file(benchmark, task, out, score_edits)
        run.finish(result)
        return result


def waves(edits: Sequence[Edit]) -> list[list[Edit]]:
    """Return the edits in groups, each of which needs pictures of earlier groups only."""
    place: dict[str, int] = {}
    for edit in edits:
        place[edit.id] = 0 if edit.after is None else place[edit.after] + 1
    return [[edit for edit in edits if place[edit.id] == number] for number in range(max(place.values()) + 1)]


def prompt_of(edit: Edit, files: Mapping[str, Path]) -> DrawPrompt:
    """Return what a model is given: the picture, then the instruction; `files` are the edited pictures by their ids."""
    source = edit.source if edit.after is None else files[edit.after]
    assert source is not None
    return [source, edit.instruction]


def scoring_digest(config: EditRunConfig, weights: Weights) -> str:
    """Return the SHA-256 of how pictures are compared, weights included. Raises InputError for weights not there."""
    digests: dict[str, Any] = config.scoring.model_dump(mode="json")
    for role, path in vars(weights).items():
        if path is not None:
            if not path.exists():
                raise InputError(f"--{role.replace('_', '-')} {path}: nothing there")
            digests[f"weights.{role}"] = part_digest(path) if path.is_dir() else file_sha256(path)
    return hashlib.sha256(canonical_json(digests).encode()).hexdigest()


def write_generation(files: Mapping[str, Path], out: Path, inputs: Mapping[str, str]) -> None:
    """Write generation.json: how the pictures were made, for exactly these pictures."""
    about = {
        "results": edited_digest(files),
        "model": {name.partition(".")[2]: one for name, one in inputs.items() if name.startswith("model.")},
        "prompt": "the picture, then the instruction",
        "decoding": read_json(out / PAINTER_FILE),
        "versions": versions(),
    }
    write_json(out / GENERATION_FILE, about)
