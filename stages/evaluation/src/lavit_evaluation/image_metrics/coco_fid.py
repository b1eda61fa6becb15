"""`lavit eval coco-fid`: captions of COCO are drawn by a model, then scored as any folder of images is.

    OUT/generated/   the images and captions.jsonl          OUT/fid/, OUT/clip/   features, scores
    OUT/drawing.json how the model draws                    OUT/score.json        everything together

What the images depend on is OUT's record; weights of metrics may be given later and draw nothing again.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavit_core.progress import warn
from lavit_core.rundir import versions
from lavit_scoring.score import mark_partial

from lavit_evaluation.benchmarks.text_to_image import draw_images, write_captions
from lavit_evaluation.compute import Compute
from lavit_evaluation.evaluation_session import evaluation_session
from lavit_evaluation.image_metrics.best_of import keep_best
from lavit_evaluation.image_metrics.clip_score import evaluate_clip_score, load_clip
from lavit_evaluation.image_metrics.coco_plan import PROMPTS, CocoFidConfig, Plan, is_published
from lavit_evaluation.image_metrics.fid import evaluate_fid
from lavit_evaluation.model import DRAWING_FILE, drawer, keep_record, open_model

if TYPE_CHECKING:
    from lavit import LaVIT

VERSION = 1
UNIT = "fid and kid: 1; clip_score: see the names"


def run_coco_fid(
    plan: Plan, model: "Path | LaVIT", out: Path, config: CocoFidConfig, *, compute: Compute = Compute()
) -> dict[str, Any]:
    """Draw the plan's captions, score the images and return score.json's content; the same call goes on after a kill.

    Raises InputError, UsageError, VerificationError, Interrupted.
    """
    if not compute.quiet:
        for name, reason in plan.skipped.items():
            warn(f"{name}: skipped: {reason}")
    metrics, seed = plan.metrics, plan.settings["seed"]
    with evaluation_session(
        out, command="eval coco-fid", settings=plan.settings, inputs=plan.inputs, quiet=compute.quiet
    ) as session:
        # Weights of metrics may be given later: each part is computed once, the record of all is always put together.
        lavit = open_model(model, None, compute, highres=plan.settings["highres"])
        draw, record = drawer(lavit, config.sampling, config.pixels)
        best_of = {"best_of": config.best_of, "best_of_clip": plan.chooser}
        made = keep_record(out, DRAWING_FILE, lambda: record() | best_of)
        if metrics.rerank_clip is not None:
            clip = load_clip(metrics.rerank_clip, compute.device, option="--rerank-clip-model")
            draw = keep_best(draw, clip, config.best_of)
        began, generated = time.monotonic(), out / "generated"
        texts = {prompt.name: prompt.text for prompt in plan.prompts}
        draw_images(session, generated, texts, draw, seed=seed, batch_size=compute.batch_size)
        write_captions(generated, texts, {prompt.name: {"image": prompt.image} for prompt in plan.prompts})
        seconds = {"drawing": time.monotonic() - began}
        parts: list[dict[str, Any]] = []
        if metrics.inception is not None:
            parts.append(
                evaluate_fid(
                    generated, out / "fid", metrics.inception, config.fid, real=plan.real, reference=metrics.reference,
                    seed=seed, compute=compute,
                )
            )  # fmt: skip
        if metrics.clip is not None:
            parts.append(evaluate_clip_score(generated, out / "clip", metrics.clip, seed=seed, compute=compute))
        return session.finish(_together(plan, parts, made, config, seconds))


def _together(
    plan: Plan, parts: Sequence[dict[str, Any]], made: dict[str, Any], config: CocoFidConfig, seconds: dict[str, float]
) -> dict[str, Any]:
    """Return score.json's content: the metrics of each part, under one record."""

    def union(key: str) -> dict[str, Any]:
        return {name: value for part in parts for name, value in (part.get(key) or {}).items()}

    notes = union("notes")
    published = is_published(plan, config)
    if plan.expected < PROMPTS:
        notes["prompts"] = f"{plan.expected:,} captions; papers draw {PROMPTS:,}"
    result: dict[str, Any] = {
        "benchmark": "coco-fid",
        "protocol": {"name": "lavit" if published else "custom", "version": VERSION},
        "complete": len(plan.prompts) == plan.expected,
        "items": {"scored": len(plan.prompts), "expected": plan.expected, "digest": plan.inputs["prompts"]},
        "figures": union("figures"),
        "skipped": plan.skipped | union("skipped"),
        "notes": notes,
        "generation": made,
        "inputs": plan.inputs | union("inputs"),
        "pictures": union("pictures"),
        "reference": next((part["reference"] for part in parts if part.get("reference")), None),
        "settings": union("settings") | plan.settings,
        "unit": UNIT,
        "versions": versions(),
        "seconds": {name: round(value, 2) for name, value in (seconds | union("seconds")).items()},
    }
    return mark_partial(result)
