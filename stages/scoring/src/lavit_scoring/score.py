"""score.json: figures with everything that is needed to say what they are figures of."""

import dataclasses
import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

from lavit_scoring.estimate import Estimate


@dataclasses.dataclass(kw_only=True)
class Score:
    """What a benchmark found, filled section by section."""

    protocol: str
    """Name of the protocol; with `version` it says exactly what was counted."""
    version: int
    """Goes up whenever the same model on the same data could get another figure."""
    metrics: dict[str, Estimate] = dataclasses.field(default_factory=dict)
    """Dotted name -> metric."""
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
            "figures": {name: metric.as_json() for name, metric in self.metrics.items()},
            "skipped": self.skipped,
            "notes": self.notes,
            **about,
            "versions": versions(),
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
        }


def versions() -> dict[str, str]:
    """Return the versions of Python and of every installed library that may have influenced a score."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    libraries = ("torch", "transformers", "diffusers", "accelerate", "safetensors", "tokenizers", "numpy", "pillow")
    names = {distribution.name for distribution in importlib.metadata.distributions()}
    for name in (*libraries, *sorted(name for name in names if name == "lavit" or name.startswith("lavit-"))):
        if name in names:
            found[name] = importlib.metadata.version(name)
    return found
