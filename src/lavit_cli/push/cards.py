"""Cards of the hub, written from what a run recorded: counts, metrics with intervals, protocol, limits, how to load."""

from pathlib import Path
from typing import Any

import jinja2
from lavit_core.files import read_json
from lavit_core.modeldir import read_metadata
from lavit_core.token_format import read_manifest

from lavit_cli.headline import headline_of


def model_card(model: Path, run: Path | None, name: str, license_name: str | None) -> str:
    """Return the card of a model; `run` is the quickstart run that made it, None where nothing is known of one."""
    summary = read_json(run / "summary.json") if run is not None else {}
    score = read_json(run / "evaluation" / "score.json") if run is not None else {}
    parts = read_metadata(model)["parts"]
    return _render(
        "model_card.md",
        name=name,
        license=license_name,
        parts={
            part: {**found, "bytes": sum(file["bytes"] for file in found["files"].values())}
            for part, found in parts.items()
        },
        summary=summary,
        protocol=score.get("protocol"),
        headline={title: metric for title, metric in headline_of(score).items() if metric["value"] is not None},
    )


def token_card(tokens: Path, name: str, license_name: str | None) -> str:
    """Return the card of a token directory."""
    manifest = read_manifest(tokens)
    samples, codes = (sum(getattr(shard, what) for shard in manifest.shards) for what in ("samples", "codes"))
    return _render("token_card.md", name=name, license=license_name, manifest=manifest, samples=samples, codes=codes)


def run_of(model: Path) -> Path | None:
    """Return the quickstart run that a model directory lies in, if it does and has ended."""
    run = model.resolve().parent
    return run if (run / "summary.json").is_file() and (run / "evaluation" / "score.json").is_file() else None


def _render(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lavit_cli", "push"), trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template(template).render(**values)
