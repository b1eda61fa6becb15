"""The command line of `serve`, before it listens."""

import json
import subprocess
import sys
from pathlib import Path


def serve(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys, typer; from lavit_serve.cli import serve; from lavit_core.errors import LavitError\n"
        "app = typer.Typer(); app.command()(serve)\n"
        "try: app(sys.argv[1:], standalone_mode=False)\n"
        "except LavitError as error: sys.exit(f'error: {error}')\n"
        "finally: print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env or None)


def test_only_this_machine_is_served_without_a_key(tmp_path: Path) -> None:
    done = serve(tmp_path, "--host", "0.0.0.0", "--dry-run")
    assert "--host 0.0.0.0: others can reach it, so give --api-key or set LAVIT_API_KEY" in done.stderr
    done = serve(tmp_path, "--api-key", "", "--dry-run")
    assert "--api-key is empty" in done.stderr
    done = serve(tmp_path, "--host", "0.0.0.0", "--set", "max_body_bytes=9", "--dry-run", "--json", LAVIT_API_KEY="key")
    shown, torch_is_there = done.stdout.splitlines()
    settings = json.loads(shown)
    assert (settings["config"]["host"], settings["config"]["max_body_bytes"]) == ("0.0.0.0", 9)
    assert settings["api_key"] is True
    assert 'key"' not in shown.replace('api_key"', "")
    assert torch_is_there == "False"
