"""No stage opens a socket: the miniature pipeline runs with the network shut."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_the_whole_pipeline_opens_no_connection(mini) -> None:
    assert mini.done.code == 0
    assert not mini.sockets.exists() or not mini.sockets.read_text()


def test_the_shut_network_refuses_and_records_connections(shut_env: dict[str, str], tmp_path: Path) -> None:
    env = {**shut_env, "LAVIT_SOCKET_LOG": str(tmp_path / "log")}
    for attempt in (
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')",
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.socket().connect(('127.0.0.1', 9))",
    ):
        done = subprocess.run([sys.executable, "-c", attempt], env=env, capture_output=True, text=True, check=False)
        assert "the network is shut" in done.stderr
    assert len((tmp_path / "log").read_text().splitlines()) == 3


def test_the_host_sets_libraries_offline_before_any_stage_loads() -> None:
    code = (
        "import os, lavit_cli.main as m\n"
        "try: m.main(['--version'])\n"
        "except SystemExit: pass\n"
        "assert os.environ['HF_HUB_OFFLINE'] == '1' and os.environ['TOKENIZERS_PARALLELISM'] == 'false'\n"
        "assert os.environ['DO_NOT_TRACK'] == '1'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_hub_is_reached_only_where_the_command_line_allows_it() -> None:
    """huggingface_hub reads the variable once, when it is imported: what it read decides, not what is set later."""
    pytest.importorskip("huggingface_hub")
    code = (
        "import lavit_cli.main as m\n"
        "try: m.main({line})\n"
        "except SystemExit: pass\n"
        "import huggingface_hub.constants as hub\n"
        "print(hub.HF_HUB_OFFLINE)"
    )
    plain = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}

    def offline(line: list[str], env: dict[str, str]) -> str:
        words = [sys.executable, "-c", code.format(line=line)]
        return subprocess.run(words, env=env, check=True, capture_output=True, text=True).stdout.splitlines()[-1]

    line = ["eval", "vqav2", "--model", "nothing", "--data", "a/b", "--out", "nothing"]
    assert offline(line, plain) == "True"
    assert offline([*line, "--allow-network"], plain) == "False"
    # Who sets it says no to every command.
    assert offline([*line, "--allow-network"], {**plain, "HF_HUB_OFFLINE": "1"}) == "True"
