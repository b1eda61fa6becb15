"""Write the reference curves from a finished quickstart: `python docs/build_reference.py RUN`.

It writes src/lavit_cli/report/reference.json, docs/reference-curves.md and docs/curves/*.svg. Optional:
`--collapsed RUN`, `--undecided RUN` of train-tokenizer, shown as what it looks like when it goes wrong; without them
the ones already stored are kept. `--check` writes nothing and fails when page or plots are not those of the json.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import jinja2
from lavit_core.files import write_json, write_text
from lavit_core.rundir import TIMING_KEYS

from lavit_cli.report.collect import Collected, collect
from lavit_cli.report.curves import HIGH, WIDE, charts, short
from lavit_cli.report.reference import FORMAT, aligned, describe, pack, settings_digest, unpack

DOCS = Path(__file__).parent
STORED = DOCS.parent / "src" / "lavit_cli" / "report" / "reference.json"
PAGE, PLOTS = DOCS / "reference-curves.md", DOCS / "curves"

SHOWN = {
    "encoder": ("clip_loss", "caption_loss", "pixel_mse"),
    "tokenizer": (
        "cos_loss",
        "mean_predictor",
        "nmse",
        "kept_mean",
        "decided",
        "code_usage",
        "perplexity",
        "restarted",
    ),
    "pretrain": ("image_loss", "text_loss", "grad_norm", "answer_gain", "caption_gain", "prompt_gain"),
    "blind": ("text_loss",),
    "detokenizer": ("loss", "grad_norm"),
}
"""Metrics worth a plot, by stage."""

FAILURES = {"collapsed": "tokenizer", "undecided": "tokenizer"}
"""What can go wrong, and the stage whose curves show it."""

GAP, COLUMNS = 12, 3

STYLE = (
    "svg{background:#fff}text{font:10.5px sans-serif;fill:#6a6f7a}.name{font-size:12px;font-weight:600;fill:#1d1f24}"
    ".last{font-size:12px;font-weight:600;fill:#3556c8;text-anchor:end}.end{text-anchor:end}.mid{text-anchor:middle}"
    ".axis{stroke:#e4e1d9}.line{fill:none;stroke:#3556c8;stroke-width:1.8}.raw{fill:none;stroke:#3556c855}"
    ".behind{fill:none;stroke:#9a9da5;stroke-width:1.4}.phase{stroke:#6a6f7a;stroke-dasharray:2 3;stroke-width:.8}"
)


def main() -> None:
    """Build or check the reference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="finished quickstart")
    for name, stage in FAILURES.items():
        parser.add_argument(f"--{name}", type=Path, help=f"run directory of a {stage} that went wrong this way")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    options = parser.parse_args()
    old = json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else {}
    if options.check:
        stale = [file.name for file, text in files(old).items() if not file.exists() or file.read_text("utf-8") != text]
        if stale:
            raise SystemExit(f"{', '.join(stale)}: not what reference.json gives; run docs/build_reference.py RUN")
        return
    if options.run is None:
        parser.error("give the directory of a finished quickstart, or --check")
    given = {name: getattr(options, name) for name in FAILURES}
    content = build(collect(options.run), {name: collect(run) for name, run in given.items() if run is not None}, old)
    write_json(STORED, content)
    # A metric's numbers stand on one line: with a line for each number the file would have thousands.
    write_text(STORED, re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]",
                              STORED.read_text(encoding="utf-8")))  # fmt: skip
    PLOTS.mkdir(exist_ok=True)
    for file, text in files(content).items():
        write_text(file, text)


def build(run: Collected, failures: dict[str, Collected], old: dict[str, Any]) -> dict[str, Any]:
    """Return the content of reference.json."""
    if not run.config.get("config", {}).get("preset") or not (run.path / "DONE").exists():
        raise SystemExit(f"{run.path}: expected a finished quickstart's directory")
    stages = {stage.kind: pack(stage) for stage in run.stages}
    settings = run.config["config"]
    return {
        "format": FORMAT,
        "preset": settings["preset"],
        "digest": settings_digest(stages),
        "seed": settings["seed"],
        "images": settings["images"],
        "versions": {
            name: run.metadata["versions"][name] for name in ("lavit", "torch") if name in run.metadata["versions"]
        },
        "git": run.metadata.get("git"),
        "stages": stages,
        "failures": {**old.get("failures", {}), **{name: _failure(one) for name, one in failures.items()}},
    }


def _failure(run: Collected) -> dict[str, Any]:
    [stage] = [stage for stage in run.stages if stage.kind == "tokenizer"]
    return {**pack(stage), "warnings": [row["message"] for row in stage.warnings], "stage": stage.kind}


def files(content: dict[str, Any]) -> dict[Path, str]:
    """Return every file that follows from reference.json: the plots and the page."""
    stages = {name: unpack(name, part) for name, part in content["stages"].items()}
    made = {PLOTS / f"{name}.svg": sheet(_chosen(stage.rows, name)) for name, stage in stages.items()}
    for name, part in content["failures"].items():
        failed = unpack(name, part)
        behind = _chosen(aligned(stages[part["stage"]], failed), part["stage"])
        made[PLOTS / f"{name}.svg"] = sheet(_chosen(failed.rows, part["stage"]), behind)
    return {**made, PAGE: page(content)}


def _chosen(rows: list[dict[str, Any]], stage: str) -> list[dict[str, Any]]:
    names = (*SHOWN[stage], "step", "phase")
    return [{key: row[key] for key in names if key in row and key not in TIMING_KEYS} for row in rows]


def sheet(rows: list[dict[str, Any]], behind: list[dict[str, Any]] | None = None) -> str:
    """Return the report's charts side by side, as one SVG that needs nothing else."""
    drawn = charts(rows, behind or ())
    lines = -(-len(drawn) // COLUMNS)
    wide, high = min(COLUMNS, len(drawn)) * (WIDE + GAP) + GAP, lines * (HIGH + GAP) + GAP
    placed = [
        chart.replace(
            '<svg class="chart"',
            f'<svg x="{GAP + index % COLUMNS * (WIDE + GAP)}" y="{GAP + index // COLUMNS * (HIGH + GAP)}" '
            f'width="{WIDE}" height="{HIGH}"',
        )
        for index, chart in enumerate(drawn)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}">'
        f'<style>{STYLE}</style><rect width="{wide}" height="{high}" fill="#fff"/>{"".join(placed)}</svg>\n'
    )


def page(content: dict[str, Any]) -> str:
    """Return the page: the end of each stage's curves, and those of runs that went wrong."""
    failures = {}
    for name in FAILURES:
        failure = content["failures"].get(name)
        warnings = "".join(f"> warning: {message}\n" for message in failure["warnings"]) if failure else ""
        failures[name] = f"![curves](curves/{name}.svg)\n\n{warnings}".strip() if failure else "No run stored."
    template = (DOCS / "reference-curves.template.md").read_text(encoding="utf-8")
    return jinja2.Template(template, undefined=jinja2.StrictUndefined, keep_trailing_newline=True).render(
        run=describe(content),
        images=f"{content['images']:,}",
        revision=(content["git"] or "none")[:12],
        ends={name: _ends(name, content["stages"].get(name)) for name in SHOWN},
        failures=failures,
    )


def _ends(name: str, part: dict[str, Any] | None) -> str:
    """Return the last value of each shown metric in each phase, as a table with a row per phase."""
    if part is None:
        return "Not in the reference run."
    last: dict[str, dict[str, Any]] = {}
    for row in unpack(name, part).rows:
        last.setdefault(row["phase"], {}).update(row)
    names = [metric for metric in SHOWN[name] if metric in part["curves"]]
    rows = [f"| end of | step | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for phase, row in last.items():
        cells = [short(row[metric]) if metric in row else "" for metric in names]
        rows.append(f"| {phase} | {row['step']:,} | {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
