"""`lavit eval probe`: what a linear reader finds at every station of a tokenizer, beside chance and majority."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lavit_core.data import Data, Source, open_data
from lavit_core.errors import InputError
from lavit_core.files import file_sha256
from lavit_core.seeds import derive_seed
from lavit_scoring import Estimate
from lavit_scoring.estimate import clustered_proportion, exact
from lavit_scoring.score import Score

from lavit_evaluation.compute import Compute
from lavit_evaluation.config import ProbeConfig
from lavit_evaluation.evaluation_session import EvaluationSession, evaluation_session
from lavit_evaluation.model import find_parts, open_model
from lavit_evaluation.probing.features import STATIONS, Place, PlaceFeatures, read_places
from lavit_evaluation.probing.labels import LABELS_FILE, Label, read_labels
from lavit_evaluation.probing.linear_probe import fit_probe
from lavit_evaluation.shapes.heldout import scenes_digest
from lavit_evaluation.token_warnings import note_findings

if TYPE_CHECKING:
    from lavit import LaVIT

PROTOCOL, VERSION = "lavit-probe", 1


@dataclass(frozen=True, kw_only=True)
class Part:
    """The labels one side of the split has, by kind, and the data set that contains their images."""

    data: Data
    by_kind: dict[str, list[Label]]

    @property
    def images(self) -> list[str]:
        """Keys of the labelled images."""
        return sorted({label.key for labels in self.by_kind.values() for label in labels})

    @property
    def places(self) -> list[Place]:
        """The labelled places, each once: an object's colour and shape are read at the same one."""
        return list(dict.fromkeys((label.key, label.box) for labels in self.by_kind.values() for label in labels))


def eval_probe(
    model: "Path | LaVIT", data: Path | Source, out: Path | None, config: ProbeConfig, *,
    train_data: Path | Source | None = None, labels: Path | None = None, seed: int = 0, compute: Compute = Compute(),
) -> dict[str, Any]:  # fmt: skip
    """Fit and score the probes of a model directory's tokenizer; return score.json's content, and write it into `out`.

    With `train_data` the probes are fitted there and scored on `data`; otherwise the images of `data` are split.
    Raises InputError, UsageError, Interrupted.
    """
    source, training = open_data(data), None if train_data is None else open_data(train_data)
    inputs = {**find_parts(model, ("tokenizer",)), "data": source.digest}
    inputs |= label_digests(source, labels)
    if training is not None:
        inputs["train_data"] = training.digest
    settings = {**config.model_dump(mode="json"), "seed": seed}
    # Before the run directory exists: what is wrong with the inputs must not bind it to them.
    fit, test, label_source = _split(source, training, labels, config, seed)

    with evaluation_session(
        out, command="eval probe", settings=settings, inputs=inputs, quiet=compute.quiet
    ) as session:
        if session.finished:
            return session.finished
        found = Score(protocol=PROTOCOL, version=VERSION, notes={"labels": label_source})
        began = time.monotonic()
        lavit = open_model(model, ("tokenizer",), compute)
        fit_features, test_features = (
            read_places(session, lavit, part.data, part.places, batch_size=config.batch_size, part=name)
            for name, part in (("fitted images", fit), ("scored images", test))
        )
        found.seconds["features"] = time.monotonic() - began
        began = time.monotonic()
        _score_kept(found, test, test_features)
        _score_probes(found, session, (fit, fit_features), (test, test_features), config, seed)
        found.seconds["probes"] = time.monotonic() - began
        note_findings(found, test_features.facts)
        counts = {"fit_pictures": len(fit.images), "test_pictures": len(test.images)}
        result = found.as_json({"inputs": inputs, "data": {"path": str(data), **counts}, "settings": settings})
        return session.finish(result)


def check_labels(data: Data, config: ProbeConfig, seed: int) -> None:
    """Raise InputError if `eval_probe` would: for data without labels, or with too few to split."""
    _split(data, None, None, config, seed)


def label_digests(data: Data, labels: Path | None = None) -> dict[str, str]:
    """Return the SHA-256 of each file, beside the data, that labels may come from; "" for one that is not there."""
    file = labels if labels is not None else data.root / LABELS_FILE
    return {"scenes": scenes_digest(data), "labels": file_sha256(file) if file.is_file() else ""}


def _split(
    source: Data, training: Data | None, file: Path | None, config: ProbeConfig, seed: int
) -> tuple[Part, Part, str]:
    """Return what is fitted on, what is scored, and where the labels came from; no image is on both sides."""
    found = read_labels(source, file)
    if training is not None:
        taught = read_labels(training, file)
        fit = _choose(training, taught.by_kind, None, config.fit_pictures, derive_seed(seed, "probe fit"))
        test = _choose(source, found.by_kind, None, config.test_pictures, derive_seed(seed, "probe test"))
        if (training.root.resolve(), training.files) == (source.root.resolve(), source.files):
            raise InputError(f"--train-data {training.root}: is the data itself; leave it out to split the images")
        return fit, test, found.source
    everything = Part(data=source, by_kind=found.by_kind).images
    # Images with a combination that training never shows are for scoring alone.
    new = {label.key for labels in found.by_kind.values() for label in labels if label.combination == "unseen"}
    old = [key for key in everything if key not in new]
    order = np.random.default_rng(derive_seed(seed, "probe split")).permutation(len(old))
    num_test = max(1, round(config.test_share * len(old)))
    held = {old[index] for index in order[:num_test]} | new
    if len(held) == len(everything):
        raise InputError(f"{source.root}: {len(everything)} labelled images are too few to split; label more")
    fit = _choose(source, found.by_kind, set(everything) - held, config.fit_pictures, derive_seed(seed, "probe fit"))
    test = _choose(source, found.by_kind, held, config.test_pictures, derive_seed(seed, "probe test"))
    return fit, test, found.source


def _choose(data: Data, by_kind: dict[str, list[Label]], allowed: set[str] | None, most: int, seed: int) -> Part:
    """Return the labels of at most `most` of the allowed images, drawn by `seed`."""
    keys = sorted({label.key for labels in by_kind.values() for label in labels})
    keys = [key for key in keys if allowed is None or key in allowed]
    order = np.random.default_rng(seed).permutation(len(keys))
    chosen = {keys[index] for index in order[:most]}
    return Part(data=data, by_kind={kind: [one for one in some if one.key in chosen] for kind, some in by_kind.items()})


def _score_kept(score: Score, test: Part, features: PlaceFeatures) -> None:
    boxed = [(key, bool(kept)) for (key, box), kept in zip(test.places, features.kept_inside, strict=True) if box]
    if boxed:
        kept = clustered_proportion([kept for _, kept in boxed], [key for key, _ in boxed])
        score.metrics["probe.kept_inside"] = kept


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One kind of label to fit at each station."""

    values: list[str]
    learned: list[Label]
    asked: list[Label]


def _score_probes(
    score: Score, session: EvaluationSession, fit: tuple[Part, PlaceFeatures], test: tuple[Part, PlaceFeatures],
    config: ProbeConfig, seed: int,
) -> None:  # fmt: skip
    """Fit and score one probe a kind and station."""
    (fit_part, fit_features), (test_part, test_features) = fit, test
    fit_row, test_row = ({place: row for row, place in enumerate(part.places)} for part in (fit_part, test_part))
    probes: dict[str, Probe] = {}
    for kind, labels in fit_part.by_kind.items():
        values = _classes(labels, config.min_labels)
        learned = [label for label in labels if label.value in values]
        asked = [label for label in test_part.by_kind.get(kind, []) if label.value in values]
        if len(values) < 2 or not asked:
            score.skipped[f"probe.{kind}"] = (
                f"{len(values)} values with at least {config.min_labels} labels to fit and {len(asked)} labels to "
                "score, expected 2 and 1"
            )
            continue
        probes[kind] = Probe(values=values, learned=learned, asked=asked)

    def predict(batch: list[tuple[Probe, str]]) -> list[dict[str, list[str]]]:
        ((probe, station),) = batch
        x = fit_features.by_station[station][[fit_row[label.key, label.box] for label in probe.learned]]
        y = np.array([probe.values.index(label.value) for label in probe.learned])
        images = [label.key for label in probe.learned]
        fitted = fit_probe(x, y, images, num_classes=len(probe.values), seed=seed)
        asked = test_features.by_station[station][[test_row[label.key, label.box] for label in probe.asked]]
        return [{"predicted": [probe.values[number] for number in fitted.predict(asked)]}]

    items = {f"{kind}.{name}": (probe, name) for kind, probe in probes.items() for name in fit_features.by_station}
    rows = session.ask(items, predict, session.row_store("fitting"), batch_size=1, unit="probe", part="fitting")
    predictions = {key: row["predicted"] for key, row in zip(items, rows, strict=True)}
    for kind, probe in probes.items():
        score.metrics |= _yardsticks(kind, probe.learned, probe.asked)
        for station in fit_features.by_station:
            pairs = zip(predictions[f"{kind}.{station}"], probe.asked, strict=True)
            hits = [value == label.value for value, label in pairs]
            score.metrics |= _metrics(f"probe.{kind}.{station}", hits, probe.asked)
    score.notes["stations"] = {station: STATIONS[station] for station in fit_features.by_station}
    score.notes |= {"classes": {kind: probe.values for kind, probe in probes.items()}}
    score.notes["fit_labels"] = {kind: len(fit_part.by_kind[kind]) for kind in probes}


def _classes(labels: Sequence[Label], at_least: int) -> list[str]:
    counts = Counter(label.value for label in labels)
    return sorted(value for value, count in counts.items() if count >= at_least)


def _yardsticks(kind: str, learned: Sequence[Label], asked: Sequence[Label]) -> dict[str, Estimate]:
    """Return what guessing gets: blindly, and with the value that was most frequent where the probe was fitted."""
    most = Counter(label.value for label in learned).most_common(1)[0][0]
    chance = 1 / len({label.value for label in learned})
    return {
        f"probe.{kind}.chance": exact(chance, len(asked)),
        **_metrics(f"probe.{kind}.majority", [label.value == most for label in asked], asked),
    }


def _metrics(name: str, hits: Sequence[bool], asked: Sequence[Label]) -> dict[str, Estimate]:
    """Return the metric over everything, and apart for seen and unseen combinations where the data tells."""
    metrics = {name: clustered_proportion(hits, [label.key for label in asked])}
    for group in ("seen", "unseen"):
        mine = [(hit, label.key) for hit, label in zip(hits, asked, strict=True) if label.combination == group]
        if mine:
            metrics[f"{name}.{group}"] = clustered_proportion([hit for hit, _ in mine], [key for _, key in mine])
    return metrics
