"""`lavit eval coco-fid --model`: captions of COCO are drawn by a model, then scored as any folder of pictures is.

    OUT/generated/   the pictures and captions.jsonl          OUT/fid/, OUT/clip/   features, scores
    OUT/painter.json how the model draws                      OUT/score.json        everything together

What the pictures depend on is OUT's record; weights of metrics may be given later and draw nothing again.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lavit_core.files import read_json, write_json
from lavit_core.progress import warn
from lavit_core.rundir import open_run, versions

from lavit_evaluation.drawn.best_of import keep_best
from lavit_evaluation.drawn.clip_score import Clip, evaluate_clip_score, load_clip
from lavit_evaluation.drawn.coco_plan import PROMPTS, CocoFidConfig, Plan, is_published
from lavit_evaluation.drawn.features import Featurize, open_folder
from lavit_evaluation.drawn.fid import evaluate_fid
from lavit_evaluation.drawn.weight_digests import weight_digests
from lavit_evaluation.running.drawing import draw_missing, write_captions
from lavit_evaluation.running.painter import PAINTER_FILE, Painter, load_painter

VERSION = 1
UNIT = "fid and kid: 1; clip_score: see the names"


def run_coco_fid(
    plan: Plan, model: Path, out: Path, config: CocoFidConfig, *, inception: Path | None = None,
    clip: Path | None = None, reference: Path | None = None, split: str | None = None,
    best_of_clip: Path | None = None, highres: bool = False, seed: int = 0, batch_size: int = 32,
    device: str = "auto", precision: str = "auto", quiet: bool = False,
    load: Callable[[], Painter] | None = None, featurize: Featurize | None = None,
    give_clip: Callable[[], Clip] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Draw the plan's captions, score the pictures and return score.json's content; the same call goes on after a kill.

    `load`, `featurize` and `give_clip` give model, Inception and CLIP in another way (tests do). Raises InputError,
    UsageError, VerificationError, Interrupted.
    """
    if not quiet:
        for name, reason in plan.skipped.items():
            warn(f"{name}: skipped: {reason}")
    settings = {**config.drawing, "split": split, "highres": highres, "precision": precision, "seed": seed}
    with open_run(out, command="eval coco-fid", config=settings, inputs=plan.inputs) as run:
        began = time.monotonic()
        generated = out / "generated"

        def painter() -> Callable[..., Any]:
            own = partial(load_drawer, model, config, highres=highres, device=device, precision=precision)
            loaded = (load or own)()
            write_json(out / PAINTER_FILE, loaded.about | {"best_of": config.best_of, "best_of_clip": plan.chooser})
            if best_of_clip is None:
                return loaded.draw
            chooser = give_clip() if give_clip is not None else load_clip(best_of_clip, device)
            return keep_best(loaded.draw, chooser, config.best_of)

        texts = {prompt.name: prompt.text for prompt in plan.prompts}
        draw_missing(
            generated, texts, painter, title="eval coco-fid", seed=seed, batch_size=batch_size, quiet=quiet
        )  # fmt: skip
        write_captions(generated, texts, {prompt.name: {"image": prompt.image} for prompt in plan.prompts})
        seconds = {"drawing": time.monotonic() - began}
        parts: list[dict[str, Any]] = []
        if inception is not None:
            parts.append(
                evaluate_fid(
                    generated, out / "fid", inception, config.fid, real=plan.real, reference=reference, seed=seed,
                    batch_size=batch_size, device=device, quiet=quiet, featurize=featurize,
                )
            )  # fmt: skip
        if clip is not None:
            parts.append(_clip_part(generated, out / "clip", clip, seed, batch_size, device, quiet, give_clip))
        result = _together(plan, parts, out, config, settings, seconds)
        write_json(out / "score.json", result)
        run.finish(result)
        return result


def load_drawer(
    model: Path, config: CocoFidConfig, *, highres: bool = False, device: str = "auto", precision: str = "auto"
) -> Painter:
    """Load the model with the settings by which it draws. Raises InputError."""
    sampling = {
        "guidance_scale": config.llm_guidance,
        "top_k": config.top_k,
        "top_p": config.top_p,
        "temperature": config.temperature,
    }
    drawing = {"guidance_scale": config.decoder_guidance, "num_steps": config.decoder_steps}
    return load_painter(model, sampling=sampling, drawing=drawing, highres=highres, device=device, precision=precision)


def _clip_part(
    generated: Path, out: Path, clip: Path, seed: int, batch_size: int, device: str, quiet: bool,
    give_clip: Callable[[], Clip] | None,
) -> dict[str, Any]:  # fmt: skip
    inputs = weight_digests(clip) | {"generated": open_folder(generated, "--generated").digest}
    with open_run(out, command="eval clip-score", config={"seed": seed}, inputs=inputs) as run:
        if run.done is not None:
            return run.done
        result = evaluate_clip_score(
            generated, out, clip, batch_size=batch_size, seed=seed, device=device, quiet=quiet, load=give_clip
        )
        run.finish(result)
        return result


def _together(
    plan: Plan, parts: list[dict[str, Any]], out: Path, config: CocoFidConfig, settings: dict[str, Any],
    seconds: dict[str, float],
) -> dict[str, Any]:  # fmt: skip
    """Return score.json's content: what each part found, under one record."""

    def union(key: str) -> dict[str, Any]:
        return {name: value for part in parts for name, value in (part.get(key) or {}).items()}

    figures, notes = union("figures"), union("notes")
    complete = len(plan.prompts) == plan.expected
    published = is_published(plan, config, highres=settings["highres"])
    if plan.expected < PROMPTS:
        notes["prompts"] = f"{plan.expected:,} captions; papers draw {PROMPTS:,}"
    result: dict[str, Any] = {
        "benchmark": "coco-fid",
        "protocol": {"name": "lavit" if published else "custom", "version": VERSION},
        "complete": complete,
        "items": {"scored": len(plan.prompts), "expected": plan.expected, "digest": plan.inputs["prompts"]},
        "figures": figures if complete else {},
        "skipped": plan.skipped | union("skipped"),
        "notes": notes,
        "generation": read_json(out / PAINTER_FILE),
        "inputs": plan.inputs | union("inputs"),
        "pictures": union("pictures"),
        "reference": next((part["reference"] for part in parts if part.get("reference")), None),
        "settings": union("settings") | settings,
        "unit": UNIT,
        "versions": versions(),
        "seconds": {name: round(value, 2) for name, value in (seconds | union("seconds")).items()},
    }
    if not complete:
        result["partial"] = {"scored": len(plan.prompts), "expected": plan.expected, "figures": figures}
    return result
