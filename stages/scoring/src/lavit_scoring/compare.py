"""`lavit eval compare`: scores side by side, and first what keeps them from being compared."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lavit_scoring.bootstrap import bootstrap_mean
from lavit_scoring.errors import InputError, UsageError
from lavit_scoring.files import read_json, read_json_lines

DECIDES = {
    "benchmark": "the benchmark",
    "protocol.name": "the protocol",
    "protocol.version": "the version of the protocol",
    "lemmatizer": "the lemmatizer",
    "items.digest": "the examples scored (SHA-256 of their ids)",
    "inputs.annotations": "the annotation file (SHA-256)",
    "inputs.data": "the data (SHA-256)",
    "inputs.targets": "the targets (SHA-256 of their names and sizes)",
    "reference.image_px": "the side at which reconstructions are compared",
    "inputs.real": "the real images (SHA-256)",
    "inputs.reference": "the reference statistics (SHA-256)",
    "inputs.inception": "the Inception weights (SHA-256)",
    "settings.size": "the size of the images",
    "settings.crop": "the crop of the images",
    "settings.preprocess": "the preprocessing of the images",
    "settings.turns": "which turns",
    "settings.descriptions": "the descriptions of CLIP-T",
    "settings.clip_digests": "the CLIP (SHA-256)",
    "settings.dino_digests": "the DINO (SHA-256)",
    "settings.lpips_digests": "LPIPS' weights (SHA-256)",
    "complete": "whether everything was scored",
}
"""Keys of score.json that two comparable scores have in common."""

MAKES = {
    "generation.prompt": "the prompt",
    "generation.decoding": "the decoding",
    "generation.reply": "what is cut from a reply",
    "generation.two_passes": "asking in two passes",
    "generation.image_input": "how the model sees an image",
    "generation.sample": "how codes are drawn",
    "generation.draw": "how pixels are drawn",
    "generation.prompts.sha256": "the words that are drawn",
    "generation.images_per_prompt": "how many images a prompt",
    "generation.best_of": "how many candidates are drawn",
    "generation.best_of_clip": "who chooses among candidates",
    "generation.image_px": "the size that is drawn",
    "settings.highres": "which detokenizer",
    "networks.rfid_inception": "the Inception weights of rFID",
    "networks.lpips_trunk": "LPIPS' trunk",
    "networks.lpips_heads": "LPIPS' heads",
}
"""Keys that say how answers or images were made: if they differ, more than the models is compared."""

SHORT = 16
"""How many letters of a digest are shown."""


def load_score(path: Path) -> dict[str, Any]:
    """Return a score.json, given itself, its folder or a quickstart's. Raises InputError if it is not a score.json."""
    file = _score_file(path)
    score = read_json(file)
    if not isinstance(score, dict) or not isinstance(score.get("figures"), dict):
        raise InputError(f"{file}: no metrics in it, expected a score.json of `lavit eval`")
    if score.get("benchmark") == "coco-fid" and "items" not in score:
        score["benchmark"] = "fid"  # as earlier releases called it
    return score


def _score_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    of_quickstart = path / "evaluation" / "score.json"
    return of_quickstart if of_quickstart.is_file() else path / "score.json"


def compare(paths: Sequence[Path], *, seed: int = 0) -> dict[str, Any]:
    """Return what differs, which scores are partial, every score's metrics, and paired differences from the first one.

    A paired difference needs items.jsonl beside both scores, and the same examples. Raises UsageError for
    fewer than two scores, and InputError.
    """
    if len(paths) < 2:
        raise UsageError(f"lavit eval compare: {len(paths)} score, expected two or more")
    scores = [load_score(path) for path in paths]
    unknown = _check_reference(paths, scores)
    names = list(dict.fromkeys(name for score in scores for name in _metrics(score)))
    blocking = unknown + _differences(scores, DECIDES)
    return {
        "runs": [str(path) for path in paths],
        "not_comparable": blocking,
        "partial": _partial(paths, scores),
        "made_differently": _differences(scores, MAKES),
        "figures": {name: [_metrics(score).get(name) for score in scores] for name in names},
        "paired": {} if blocking else _paired(paths, seed),
        "published": sorted({json.dumps(score["published"]) for score in scores if score.get("published")}),
    }


def _check_reference(paths: Sequence[Path], scores: Sequence[dict[str, Any]]) -> list[str]:
    """Return the scores of tokenizers that don't record which images were measured, a line each.

    Raises InputError if they were measured on different images: no number of one says anything of another.
    """
    found = [(path, score.get("reference")) for path, score in zip(paths, scores, strict=True)
             if _value(score, "protocol.name") == "lavit-tokenizer"]  # fmt: skip
    known = [(path, reference) for path, reference in found if reference]
    for path, reference in known[1:]:
        first, other = known[0]
        if reference["digest"] != other["digest"]:
            counts = " and ".join(f"{one['images']} ({one['reconstructions']} drawn)" for one in (reference, other))
            raise InputError(
                f"{path}: measured on other images than {first} (SHA-256 {reference['digest'][:SHORT]} and "
                f"{other['digest'][:SHORT]}; {counts}); give `lavit eval tokenizer` the same --data, --images, "
                "--reconstructions and --seed"
            )
    return [f"the images measured: {path}: reference not recorded" for path, reference in found if not reference]


def _partial(paths: Sequence[Path], scores: Sequence[dict[str, Any]]) -> list[str]:
    """Return the scores of a part of the items, a line each: two of them may agree in everything, and are no scores."""
    parts = [(path, score["partial"]) for path, score in zip(paths, scores, strict=True) if score.get("partial")]
    return [f"{path}: {part['scored']:,} of {part['expected']:,} items" for path, part in parts]


def _metrics(score: dict[str, Any]) -> dict[str, Any]:
    return score["figures"] or score.get("partial", {}).get("figures", {})


def _value(score: dict[str, Any], key: str) -> Any:
    value: Any = score
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _differences(scores: Sequence[dict[str, Any]], keys: dict[str, str]) -> list[str]:
    lines = []
    for key, words in keys.items():
        values = [_value(score, key) for score in scores]
        # A score of a foreign result file does not record how the answers were made, so no difference can be named.
        if key in MAKES and None in values:
            continue
        if len({json.dumps(value, sort_keys=True) for value in values}) > 1:
            lines.append(f"{words}: {' | '.join(_shown(key, value) for value in values)}")
    if keys is MAKES and len({isinstance(score.get("generation"), dict) for score in scores}) > 1:
        lines.append("how some of the answers were made is not known")
    return lines


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "not recorded"
    is_digest = "SHA-256" in DECIDES.get(key, "") and isinstance(value, str)
    return value[:SHORT] if is_digest else json.dumps(value) if isinstance(value, dict | list | bool) else str(value)


def _paired(paths: Sequence[Path], seed: int) -> dict[str, list[dict[str, Any] | None]]:
    """Return for each metric of items.jsonl the mean difference of every run from the first, item by item."""
    tables = [_items(path) for path in paths]
    first = tables[0]
    if first is None:
        return {}
    metrics = [name for name in next(iter(first.values()), {}) if name not in ("id", "image")]
    return {name: [_difference(first, other, name, seed) for other in tables[1:]] for name in metrics}


def _difference(
    first: dict[str, dict[str, Any]], other: dict[str, dict[str, Any]] | None, name: str, seed: int
) -> dict[str, Any] | None:
    if other is None or first.keys() != other.keys() or any(name not in row for row in other.values()):
        return None
    gaps = np.array([other[key][name] - row[name] for key, row in first.items()], dtype=np.float64)
    images = [str(row.get("image", key)) for key, row in first.items()]
    return bootstrap_mean(gaps, images, seed, f"paired {name}").as_json()


def _items(path: Path) -> dict[str, dict[str, Any]] | None:
    file = _score_file(path).with_name("items.jsonl")
    if not file.is_file():
        return None
    return {str(row["id"]): row for row in read_json_lines(file)} or None
