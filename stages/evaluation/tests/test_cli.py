"""The command: light to ask for help, one JSON object on stdout, clear words for wrong settings."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lavit_core.errors import InputError, UsageError
from lavit_evaluation.cli import evaluate
from lavit_evaluation.show_score import show_score
from rich.console import Console
from typer.testing import CliRunner


def test_help_and_scoring_import_no_torch() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom lavit_evaluation.cli import evaluate\n"
        "assert CliRunner().invoke(evaluate, ['shapes', '--help']).exit_code == 0\n"
        "assert 'lavit_evaluation.shapes.judge' not in sys.modules\n"
        "import lavit_evaluation.api\nassert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_dry_run_prints_the_resolved_settings(tmp_path: Path) -> None:
    line = ["shapes", "--model", "M", "--data", "D", "--out", str(tmp_path / "o"), "--dry-run", "--json"]
    done = CliRunner().invoke(evaluate, [*line, "--pictures", "9", "--set", "top_k=3", "--seed", "4"])
    shown = json.loads(done.stdout)
    assert (shown["config"]["pictures"], shown["config"]["top_k"], shown["seed"]) == (9, 3, 4)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        (["--set", "picturs=3"], UsageError, "did you mean pictures"),
        (["--preset", "huge"], UsageError, "shapes has the presets base, tiny"),
        ([], InputError, "found nothing, expected a folder"),
    ],
)
def test_wrong_input_is_one_line(tmp_path: Path, options: list[str], kind: type[Exception], words: str) -> None:
    line = ["shapes", "--model", "M", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "o"), *options]
    done = CliRunner().invoke(evaluate, line)
    assert isinstance(done.exception, kind)
    assert words in str(done.exception)
    assert not (tmp_path / "o").exists()


def test_the_list_names_every_benchmark() -> None:
    listed = CliRunner().invoke(evaluate, ["list"]).stdout
    names = {info.name for info in evaluate.registered_commands} - {"score", "list", "compare"}
    assert not {name for name in names if not re.search(rf"(?<![\w-]){name}(?![\w-])", listed)}
    assert "folder of drawn images" in next(line for line in listed.splitlines() if line.startswith("fid: "))


def test_table_shows_seen_and_unseen_beside_the_whole() -> None:
    metric = {"value": 0.5, "count": 1000, "low": 0.47, "high": 0.53}
    result = {
        "figures": {"questions.kind.two_hop": metric, "questions.kind.two_hop.seen": {**metric, "value": 0.75}},
        "skipped": {"blind": "no --blind model was given"},
    }
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show_score(result, console)
    text = console.export_text()
    row = next(line for line in text.splitlines() if "two hop" in line)
    assert row.split() == ["two", "hop", "0.500", "0.470", "-", "0.530", "1,000", "0.750", "-"]
    assert "blind: not computed, no --blind model was given" in text
