"""score.json and the samples beside it: figures with everything that is needed to say what they are figures of."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.files import write_json
from lavit_core.modeldir import MADE_BY, part_digest
from lavit_core.rundir import versions
from PIL import Image

from lavit_evaluation.intervals import Figure


@dataclasses.dataclass(kw_only=True)
class Score:
    """What a benchmark found, filled section by section."""

    protocol: str
    """Name of the protocol; with `version` it says exactly what was counted."""
    version: int
    """Goes up whenever the same model on the same data could get another figure."""
    figures: dict[str, Figure] = dataclasses.field(default_factory=dict)
    """Dotted name -> figure."""
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    """Section -> why it was not computed."""
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Facts a reader of the figures needs, say where the majority answers come from."""
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    """Wall seconds of each section."""

    def as_json(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of score.json; `about` says what was evaluated and how."""
        return {
            "protocol": {"name": self.protocol, "version": self.version},
            "figures": {name: dataclasses.asdict(figure) for name, figure in self.figures.items()},
            "skipped": self.skipped,
            "notes": self.notes,
            **about,
            "versions": versions(),
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
        }


def model_digests(model: Path) -> dict[str, str]:
    """Return the digest of each part that a model directory holds."""
    return {part: part_digest(model / part) for part in MADE_BY if (model / part).is_dir()}


def write_samples(run: Path, sections: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write samples.json and samples/*.png; a row's arrays are pictures, and become the file's path under `run`."""
    folder = run / "samples"
    folder.mkdir(exist_ok=True)
    written: dict[str, list[dict[str, Any]]] = {}
    for section, rows in sections.items():
        written[section] = []
        for number, row in enumerate(rows):
            said: dict[str, Any] = {}
            for key, value in row.items():
                said[key] = value
                if isinstance(value, np.ndarray):
                    said[key] = f"samples/{section}-{number:03d}-{key}.png"
                    Image.fromarray(value).save(run / said[key])
            written[section].append(said)
    write_json(run / "samples.json", written)
