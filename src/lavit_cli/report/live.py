"""The report of a run that still trains: written again and again, and reloaded by the browser that shows it."""

import time
from pathlib import Path

from lavit_cli.report.page import write_report

SECONDS = 10
"""Between two pages."""


def follow_run(run: Path, out: Path | None = None, *, against: str | None = None) -> Path:
    """Write the report until the run is finished, or Ctrl-C; the last page does not reload. Returns its path.

    Raises as `write_report` does.
    """
    try:
        while not (run / "DONE").exists():
            write_report(run, out, against=against, reload_seconds=SECONDS)
            time.sleep(SECONDS)
    finally:
        file = write_report(run, out, against=against)
    return file
