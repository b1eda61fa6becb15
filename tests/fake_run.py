"""A quickstart's run directory as it looks when it is done, made without training anything."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.files import write_json, write_text
from lavit_core.rundir import versions
from lavit_shapes.make_shapes import make_shapes
from PIL import Image

from lavit_cli.image_files import save_image

CURVES = {
    "encoder": ("loss", "pixel_loss", "retrieval_top1"),
    "tokenizer": ("loss", "one_minus_cos", "kept_mean", "code_usage", "perplexity"),
    "pretrain": ("loss", "text_loss", "image_loss"),
    "blind": ("loss",),
    "detokenizer": ("loss",),
}


def metric(value: float, count: int) -> dict[str, Any]:
    """Return a score metric with a plausible interval."""
    half = 1.96 * math.sqrt(max(value * (1 - value), 0) / count) if 0 <= value <= 1 else None
    low, high = (None, None) if half is None else (max(0.0, value - half), min(1.0, value + half))
    return {"value": value, "count": count, "low": low, "high": high}


def fake_run(run: Path, *, samples: int = 12) -> Path:
    """Write a finished run with `samples` images of each kind."""
    run.mkdir(parents=True)
    make_shapes(run / "data", 16, 0, max(16, samples), quiet=True)
    record = {"command": "quickstart", "config": {"preset": "tiny", "seed": 0}, "inputs": {"data": "drawn shapes"}}
    write_text(run / "config.yaml", json.dumps(record))
    write_json(
        run / "run.json", {"argv": ["lavit", "quickstart", "--out", str(run)], "versions": versions(), "git": None}
    )
    rng = np.random.default_rng(0)
    for stage, names in CURVES.items():
        _write_curves(run / stage, names, rng)
    costs = [
        {"step": step, "finished": True, "seconds": s, "cpu_seconds": 2 * s, "peak_memory_bytes": int(1e9 + 1e7 * s)}
        for step, s in (("data", 12.0), ("encoder", 80.5), ("tokenizer", 165.2), ("tokens", 15.1), ("pretrain", 215.9))
    ]
    write_text(run / "steps.jsonl", "".join(json.dumps(row) + "\n" for row in costs))
    _write_evaluation(run / "evaluation", run / "data" / "heldout", samples, rng)
    return run


def _write_curves(folder: Path, names: tuple[str, ...], rng: np.random.Generator) -> None:
    folder.mkdir()
    rows = []
    for index in range(120):
        row: dict[str, Any] = {"step": 20 * (index + 1), "phase": "features" if index < 60 else "codes"}
        for place, name in enumerate(names):
            row[name] = (place + 1) * (0.2 + math.exp(-index / 30)) + 0.03 * float(rng.standard_normal())
        rows.append({**row, "kept_histogram": rng.integers(0, 50, 65).tolist(), "seconds": 0.1 * index})
    write_text(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_json(folder / "DONE", {"steps": 2400, "per_second": 512.0, "final_loss": 0.123})


def _write_evaluation(folder: Path, heldout: Path, samples: int, rng: np.random.Generator) -> None:
    metrics = {}
    for source, level in (("questions", 0.86), ("blind", 0.41), ("majority", 0.33)):
        for name in ("all", "kind.colour", "kind.shape", "kind.count", "kind.position"):
            for part, shift in (("", 0.0), (".seen", 0.01), (".unseen", -0.02)):
                metrics[f"{source}.{name}{part}"] = metric(level + shift, 2000)
    for source, level in (("real", 0.99), ("reconstruction", 0.8), ("generation", 0.6), ("random", 0.02)):
        for name in ("count", "colours", "shapes", "place", "everything"):
            metrics[f"{source}.{name}"] = metric(level, 256)
    metrics |= {"tokens.code_usage": {"value": 0.93, "count": 20000, "low": None, "high": None}}
    metrics |= {"tokens.kept": metric(22.4, 1024), "tokens.kept_on_shapes": metric(0.88, 9000)}
    write_json_in(folder, "score.json", {"figures": metrics, "skipped": {"fid": "no weights here"}})
    scenes = [json.loads(line) for line in (heldout / "scenes.jsonl").read_text().splitlines()][:samples]
    asked = [json.loads(line) for line in (heldout / "questions.jsonl").read_text().splitlines()]
    rows: dict[str, list[dict[str, Any]]] = {"questions": [], "captions": [], "reconstruction": [], "generation": []}
    for number, scene in enumerate(scenes):
        key, right = scene["file_name"], {"count": True, "colours": True, "shapes": number % 3 > 0, "place": None}
        pixels = np.asarray(Image.open(heldout / key))
        noisy = np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
        save_image(folder / f"samples/{number}.png", pixels, {})
        save_image(folder / f"samples/{number}-back.png", noisy, {})
        original, back = f"samples/{number}.png", f"samples/{number}-back.png"
        kept = (
            np.abs(pixels.astype(int) - np.median(pixels, (0, 1))).reshape(8, 8, 8, 8, 3).mean((1, 3, 4)) > 15
        ).ravel()
        mask = {"kept": kept.astype(int).tolist(), "grid": [8, 8], "psnr_db": 20.5}
        rows["reconstruction"].append({"key": key, "original": original, "picture": back, "right": right, **mask})
        rows["generation"].append(
            {"key": key, "prompt": scene["prompt"], "picture": back, "num_codes": 20, "right": right}
        )
        said = {"caption": scene["prompt"], "expected": scene["prompt"], "picture": original}
        rows["captions"].append({"key": key, **said, "right": {"colours": True, "binding": number % 2 == 0}})
        for place, question in enumerate([one for one in asked if one["file_name"] == key][:2]):
            words = {"question": question["question"], "expected": question["answer"], "blind": "two"}
            good = (number + place) % 3 > 0
            answer = question["answer"] if good else "blue"
            rows["questions"].append({"key": key, **words, "answer": answer, "right": good, "picture": original})
    write_json_in(folder, "samples.json", rows)


def write_json_in(folder: Path, name: str, value: Any) -> None:
    """Write JSON, making the folder."""
    folder.mkdir(exist_ok=True)
    write_json(folder / name, value)
