"""`lavit eval probe`: what a linear reader finds at every station of a tokenizer, beside chance and majority."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.data import Data, open_data
from lavit_core.errors import InputError
from lavit_core.files import file_sha256, write_json
from lavit_core.interrupt import stop_signals
from lavit_core.modeldir import find_part, part_digest
from lavit_core.progress import Progress
from lavit_core.rundir import Run, open_run
from lavit_core.seeds import derive_seed
from lavit_scoring.estimate import Estimate, clustered_proportion, exact
from lavit_scoring.score import Score

from lavit_evaluation.config import ProbeConfig
from lavit_evaluation.probing.features import STATIONS, PlaceFeatures, load_probed, read_places
from lavit_evaluation.probing.labels import LABELS_FILE, Label, read_labels
from lavit_evaluation.probing.linear_probe import fit_probe
from lavit_evaluation.shapes.heldout import scenes_digest

PROTOCOL, VERSION = "lavit-probe", 1


@dataclass(frozen=True, kw_only=True)
class Part:
    """The labels one side of the split has, by kind, and the data set that holds their pictures."""

    data: Data
    by_kind: dict[str, list[Label]]

    @property
    def pictures(self) -> list[str]:
        """Keys of the labelled pictures."""
        return sorted({label.key for labels in self.by_kind.values() for label in labels})


def eval_probe(
    model: Path,
    data: Path,
    out: Path | None,
    config: ProbeConfig,
    *,
    train_data: Path | None = None,
    labels: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    quiet: bool = False,
) -> dict[str, Any]:
    """Fit and score the probes of a model directory's tokenizer; return score.json's content, and write it into `out`.

    With `train_data` the probes are fitted there and scored on `data`; otherwise the pictures of `data` are split.
    Raises InputError, UsageError, Interrupted.
    """
    source, training = open_data(data), None if train_data is None else open_data(train_data)
    inputs = {"model.tokenizer": part_digest(find_part(model, "tokenizer")), "data": source.digest}
    inputs |= {"scenes": scenes_digest(source), "labels": _labels_digest(source, labels)}
    if training is not None:
        inputs["train_data"] = training.digest
    settings = {**config.model_dump(mode="json"), "seed": seed}
    # Before the run directory exists: what is wrong with the inputs must not bind it to them.
    fit, test, label_source = _split(source, training, labels, config, seed)
    with contextlib.ExitStack() as stack:
        run: Run | None = None
        if out is not None:
            run = stack.enter_context(open_run(out, command="eval probe", config=settings, inputs=inputs))
            if run.done:
                return run.done
        stop = stack.enter_context(stop_signals())
        score = Score(protocol=PROTOCOL, version=VERSION)
        score.notes = {"labels": label_source}
        _run(model, fit, test, config, seed, device, quiet, stop, score)
        about = {
            "inputs": inputs,
            "data": {"path": str(data), "fit_pictures": len(fit.pictures), "test_pictures": len(test.pictures)},
            "settings": settings,
        }
        result = score.as_json(about)
        if run is not None:
            write_json(run.path / "score.json", result)
            run.finish(result)
        return result


def _labels_digest(source: Data, labels: Path | None) -> str:
    file = labels if labels is not None else source.root / LABELS_FILE
    return file_sha256(file) if file.is_file() else ""


def _split(
    source: Data, training: Data | None, file: Path | None, config: ProbeConfig, seed: int
) -> tuple[Part, Part, str]:
    """Return what is fitted on, what is scored, and where the labels came from; no picture is on both sides."""
    found = read_labels(source, file)
    if training is not None:
        taught = read_labels(training, file)
        fit = _choose(training, taught.by_kind, None, config.fit_pictures, derive_seed(seed, "probe fit"))
        test = _choose(source, found.by_kind, None, config.test_pictures, derive_seed(seed, "probe test"))
        if training.root.resolve() == source.root.resolve():
            raise InputError(f"--train-data {training.root}: is the data itself; leave it out to split the pictures")
        return fit, test, found.source
    everything = Part(data=source, by_kind=found.by_kind).pictures
    # Pictures with a combination that training never shows are for scoring alone.
    new = {label.key for labels in found.by_kind.values() for label in labels if label.combination == "unseen"}
    old = [key for key in everything if key not in new]
    order = np.random.default_rng(derive_seed(seed, "probe split")).permutation(len(old))
    num_test = max(1, round(config.test_share * len(old)))
    held = {old[index] for index in order[:num_test]} | new
    if len(held) == len(everything):
        raise InputError(f"{source.root}: {len(everything)} labelled pictures are too few to split; label more")
    fit = _choose(source, found.by_kind, set(everything) - held, config.fit_pictures, derive_seed(seed, "probe fit"))
    test = _choose(source, found.by_kind, held, config.test_pictures, derive_seed(seed, "probe test"))
    return fit, test, found.source


def _choose(data: Data, by_kind: dict[str, list[Label]], allowed: set[str] | None, most: int, seed: int) -> Part:
    """Return the labels of at most `most` of the allowed pictures, drawn by `seed`."""
    keys = sorted({label.key for labels in by_kind.values() for label in labels})
    keys = [key for key in keys if allowed is None or key in allowed]
    order = np.random.default_rng(seed).permutation(len(keys))
    chosen = {keys[index] for index in order[:most]}
    return Part(data=data, by_kind={kind: [one for one in some if one.key in chosen] for kind, some in by_kind.items()})


def _run(
    model: Path, fit: Part, test: Part, config: ProbeConfig, seed: int, device: str, quiet: bool,
    stop: Callable[[], bool], score: Score,
) -> None:  # fmt: skip
    """Read the features, then fit and score one probe a kind and station."""
    tokenizer = load_probed(model, device)
    began = time.monotonic()
    with Progress("eval probe", len(fit.pictures) + len(test.pictures), unit="picture", quiet=quiet) as progress:
        read = {
            name: read_places(
                tokenizer, part.data, _places(part), batch_size=config.batch_size, progress=progress, stop=stop
            )
            for name, part in (("fit", fit), ("test", test))
        }
    score.seconds["features"] = time.monotonic() - began
    began = time.monotonic()
    fit_index, test_index = ({place: index for index, place in enumerate(_places(part))} for part in (fit, test))
    boxed = [(key, index) for (key, box), index in test_index.items() if box is not None]
    if boxed:
        inside = read["test"].kept_inside
        score.metrics["probe.kept_inside"] = clustered_proportion(
            [bool(inside[index]) for _, index in boxed], [key for key, _ in boxed]
        )
    classes: dict[str, list[str]] = {}
    with Progress("probes", len(fit.by_kind) * len(STATIONS), unit="probe", quiet=quiet) as progress:
        for kind, labels in fit.by_kind.items():
            values = _classes(labels, config.min_labels)
            known = {value: number for number, value in enumerate(values)}
            learned = [label for label in labels if label.value in known]
            asked = [label for label in test.by_kind.get(kind, []) if label.value in known]
            if len(values) < 2 or not asked:
                score.skipped[f"probe.{kind}"] = (
                    f"{len(values)} values with at least {config.min_labels} labels to fit and {len(asked)} labels to "
                    "score, expected 2 and 1"
                )
                progress.advance(len(STATIONS))
                continue
            classes[kind] = values
            rows = [fit_index[label.key, label.box] for label in learned]
            asked_rows = [test_index[label.key, label.box] for label in asked]
            score.metrics |= _yardsticks(kind, learned, asked)
            for station in read["fit"].by_station:
                x, y = read["fit"].by_station[station][rows], np.array([known[label.value] for label in learned])
                probe = fit_probe(x, y, [label.key for label in learned], num_classes=len(values), seed=seed)
                said = probe.predict(_rows(read["test"], station, asked_rows))
                hits = [values[number] == label.value for number, label in zip(said, asked, strict=True)]
                score.metrics |= _figures(f"probe.{kind}.{station}", hits, asked)
                progress.advance(1)
    score.seconds["probes"] = time.monotonic() - began
    score.notes["stations"] = {station: STATIONS[station] for station in read["fit"].by_station}
    score.notes |= {"classes": classes, "fit_labels": {kind: len(fit.by_kind[kind]) for kind in classes}}


def _rows(features: PlaceFeatures, station: str, rows: Sequence[int]) -> np.ndarray:
    return features.by_station[station][rows]


def _places(part: Part) -> list[tuple[str, Any]]:
    """Return the labelled places, each once: an object's colour and shape are read at the same one."""
    return list(dict.fromkeys((label.key, label.box) for labels in part.by_kind.values() for label in labels))


def _classes(labels: Sequence[Label], at_least: int) -> list[str]:
    counts = Counter(label.value for label in labels)
    return sorted(value for value, count in counts.items() if count >= at_least)


def _yardsticks(kind: str, learned: Sequence[Label], asked: Sequence[Label]) -> dict[str, Estimate]:
    """Return what guessing gets: blindly, and with the value that was most frequent where the probe was fitted."""
    most = Counter(label.value for label in learned).most_common(1)[0][0]
    chance = 1 / len({label.value for label in learned})
    return {
        f"probe.{kind}.chance": exact(chance, len(asked)),
        **_figures(f"probe.{kind}.majority", [label.value == most for label in asked], asked),
    }


def _figures(name: str, hits: Sequence[bool], asked: Sequence[Label]) -> dict[str, Estimate]:
    """Return the figure over everything, and apart for seen and unseen combinations where the data tells."""
    figures = {name: clustered_proportion(hits, [label.key for label in asked])}
    for group in ("seen", "unseen"):
        mine = [(hit, label.key) for hit, label in zip(hits, asked, strict=True) if label.combination == group]
        if mine:
            figures[f"{name}.{group}"] = clustered_proportion([hit for hit, _ in mine], [key for _, key in mine])
    return figures
