"""`lavit eval geneval` and its kin: draw every prompt in the layout that the benchmark's own judge reads.

OUT/images/         the images, and what the judge reads beside them
OUT/captions.jsonl  each file, the words that were drawn, and the official prompt
OUT/generation.json model, settings, prompts with their digest; `lavit eval score` reads it beside a judge's results
OUT/drawing.json    how the model draws
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavit_core.errors import UsageError
from lavit_core.files import write_json, write_text
from lavit_core.json_lines import write_json_lines
from lavit_core.rundir import versions
from lavit_scoring import Benchmark
from lavit_scoring.catalogue import find_file
from lavit_scoring.scorers import GENERATION_FILE

from lavit_evaluation.benchmarks.items import check_downloads, must_find, sample_items
from lavit_evaluation.benchmarks.text_to_image import image_seed
from lavit_evaluation.compute import Compute
from lavit_evaluation.evaluation_session import evaluation_session
from lavit_evaluation.generation.config import GenerationConfig
from lavit_evaluation.generation.layouts import LAYOUTS, DrawnFile, FilesOf, compose, images_of
from lavit_evaluation.generation.prompt_files import Prompt, prompts_digest, read_prompts, reword, words_digest
from lavit_evaluation.model import DRAWING_FILE, drawer, find_drawing_parts, keep_record, open_model
from lavit_evaluation.stores import ImageFolder

if TYPE_CHECKING:
    from lavit import LaVIT

IMAGES = "images"
"""Folder of the drawn images in a run directory, in the official layout."""


@dataclass(frozen=True, kw_only=True)
class GenerationPlan:
    """What a run draws, known before a model is loaded."""

    kind: str
    annotations: Path
    prompts: list[Prompt]
    expected: int
    """Prompts of a whole set."""
    images_per_prompt: int
    files: list[DrawnFile]
    rewritten: bool

    @property
    def record(self) -> dict[str, Any]:
        """What a score says about the images: prompts, their words, and how many of each."""
        return {
            "annotations": prompts_digest(self.kind, self.annotations),
            "prompts": {
                "words": "rewritten" if self.rewritten else "original",
                "sha256": words_digest([one.drawn for one in self.prompts]),
                "drawn": len(self.prompts),
                "expected": self.expected,
            },
            "images_per_prompt": self.images_per_prompt,
        }


def plan_generation(
    benchmark: Benchmark, data: Path, config: GenerationConfig, *, annotations: Path | None = None,
    rewritten: Path | None = None, seed: int = 0,
) -> GenerationPlan:  # fmt: skip
    """Read a benchmark's prompts, and take `limit` of them. Raises InputError, UsageError."""
    check_downloads(data)
    file = must_find(annotations or find_file(data, benchmark.annotations), data, benchmark, "annotations")
    if file.is_dir() and benchmark.kind != "wise":
        raise UsageError(f"--annotations {file}: a folder, expected {benchmark.annotations[0]}")
    every = read_prompts(benchmark.kind, file)
    if rewritten is not None:
        every = reword(benchmark.kind, every, rewritten)
    # T2I-CompBench's judges count files: only the first prompts have the same numbers in a part and in the whole.
    counted = benchmark.kind.startswith("t2i")
    prompts = every[: config.limit] if counted else sample_items(every, config.limit, seed)
    count = images_of(benchmark.kind, config.images_per_prompt)
    layout = LAYOUTS[benchmark.kind]
    files = [one for prompt in prompts for one in layout.files(prompt, count)]
    return GenerationPlan(
        kind=benchmark.kind, annotations=file, prompts=prompts, expected=len(every), images_per_prompt=count,
        files=files, rewritten=rewritten is not None,
    )  # fmt: skip


def run_generation(
    benchmark: Benchmark, model: "Path | LaVIT", plan: GenerationPlan, out: Path, config: GenerationConfig, *,
    highres: bool = False, seed: int = 0, compute: Compute = Compute(batch_size=16),
) -> dict[str, Any]:  # fmt: skip
    """Draw a plan into a run directory and return its record; the same call goes on after a kill, with equal bytes.

    An image's seed comes from `seed` and its name. Batches are cut from the whole list, and one that a kill left
    unfinished is drawn again whole: so the sums of each image have the same order.
    Raises InputError, UsageError, VerificationError, Interrupted.
    """
    digests, record = find_drawing_parts(model, highres=highres), plan.record
    inputs = digests | {"annotations": record["annotations"], "prompts": record["prompts"]["sha256"]}
    settings = {**config.drawing, "highres": highres, "precision": compute.precision, "seed": seed}
    with evaluation_session(
        out, command=f"eval {benchmark.name}", settings=settings, inputs=inputs, quiet=compute.quiet
    ) as session:
        lavit = open_model(model, None, compute, highres=highres)
        draw, made = drawer(lavit, config.sample, config.draw)
        drawing = keep_record(out, DRAWING_FILE, made)

        def answer(some: list[DrawnFile]) -> Iterable[Any]:
            cells = [(one.text, image_seed(seed, cell)) for one in some for cell in one.cells]
            drawn: list[Any] = []
            for start in range(0, len(cells), compute.batch_size):
                batch = cells[start : start + compute.batch_size]
                drawn += draw([text for text, _ in batch], [own for _, own in batch])
            rest = iter(drawn)
            return [compose([next(rest) for _ in one.cells]) for one in some]

        per_file = len(plan.files[0].cells)
        session.ask(
            {one.name: one for one in plan.files}, answer, ImageFolder(out / IMAGES),
            batch_size=max(1, compute.batch_size // per_file), unit="image" if per_file == 1 else "grid", whole=True,
        )  # fmt: skip
        for prompt in plan.prompts:
            for name, content in LAYOUTS[benchmark.kind].beside(prompt).items():
                write_text(out / IMAGES / name, content)
        write_json_lines(out / "captions.jsonl", _captions(plan, LAYOUTS[benchmark.kind].files))
        if session.finished and (out / GENERATION_FILE).is_file():  # made by the versions that it names
            return session.finished
        result = {
            "benchmark": benchmark.name,
            **record,
            "complete": len(plan.prompts) == plan.expected,
            "model": {name.partition(".")[2]: digest for name, digest in digests.items()},
            "seed": seed,
            "highres": highres,
            **drawing,
            "versions": versions(),
        }
        write_json(out / GENERATION_FILE, result)
        return session.finish(result | {"files": len(plan.files)})


def _captions(plan: GenerationPlan, files: FilesOf) -> Iterable[dict[str, Any]]:
    """Yield a row for each image file, as `lavit eval clip-score --prompts` reads them."""
    for prompt in plan.prompts:
        for one in files(prompt, plan.images_per_prompt):
            yield {"file_name": one.name, "captions": [prompt.drawn], "prompt": prompt.text}
