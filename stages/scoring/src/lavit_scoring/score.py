"""score.json: metrics with everything that is needed to say what was measured."""

import dataclasses
import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

from lavit_scoring.estimate import Estimate

LIBRARIES = ("torch", "transformers", "diffusers", "accelerate", "safetensors", "tokenizers", "numpy", "pillow")


@dataclasses.dataclass(kw_only=True)
class Score:
    """The result of a benchmark, filled section by section."""

    protocol: str
    """Name of the protocol; with `version` it determines exactly what was counted."""
    version: int
    """Goes up whenever the same model on the same data could get another value."""
    metrics: dict[str, Estimate] = dataclasses.field(default_factory=dict)
    """Dotted name -> metric."""
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    """Section -> why it was not computed."""
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Facts a reader of the metrics needs, for example where the majority answers come from."""
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    """Wall seconds of each section."""

    def as_json(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of score.json; `metadata` describes what was evaluated and how."""
        return {
            "protocol": {"name": self.protocol, "version": self.version},
            "figures": {name: metric.as_json() for name, metric in self.metrics.items()},
            "skipped": self.skipped,
            "notes": self.notes,
            **metadata,
            "versions": versions(),
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
        }


def mark_partial(content: dict[str, Any]) -> dict[str, Any]:
    """Return score.json's content; metrics of a part of the items are moved from `figures` to `partial`.

    Under another name, so that nobody can average them as the benchmark's metrics.
    """
    if content["complete"]:
        return content
    counts = {role: content["items"][role] for role in ("scored", "expected")}
    return content | {"figures": {}, "partial": counts | {"figures": content["figures"]}}


def versions() -> dict[str, str]:
    """Return the versions of Python and of every installed library that may have influenced a score."""
    installed = {package.name: package.version for package in importlib.metadata.distributions()}
    names = (*LIBRARIES, *sorted(name for name in installed if name == "lavit" or name.startswith("lavit-")))
    found = {"python": platform.python_version(), "platform": platform.platform()}
    return found | {name: installed[name] for name in names if name in installed}
