"""Opening a model for a server, and its socket. Processes are in tests/test_serve.py."""

import asyncio
import shutil
import socket
from pathlib import Path

import pytest
from lavit import LaVIT
from lavit_core.errors import InputError
from lavit_serve.config import ServeSettings
from lavit_serve.server import Opened, bind, open_model
from lavit_serve.service import new_service

from .serving import DRAW, IMAGES, client_of_service, refused


def test_a_model_directory_that_changes_is_the_server_s_fault(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    held, not_yet = open_model(Opened(folder=moved, device="cpu")), LaVIT.from_pretrained(moved, device="cpu")

    async def scenario() -> None:
        async with client_of_service(new_service(held, moved, ServeSettings())) as client:
            before = await client.post(IMAGES, json=DRAW)
            (moved / "llm" / "model.safetensors").unlink()
            after = await client.post(IMAGES, json=DRAW)
            assert before.json()["data"] == after.json()["data"]  # what is held is not read again
        async with client_of_service(new_service(not_yet, moved, ServeSettings())) as client:
            answer = await client.post(IMAGES, json=DRAW)
            refused(answer, 500, "the server failed")
            assert str(tmp_path) not in answer.text
            assert str(tmp_path) in capsys.readouterr().err

    asyncio.run(scenario())


def test_a_blind_model_is_served_too(blind_model: LaVIT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LaVIT, "from_pretrained", lambda *given, **how: blind_model)
    assert open_model(Opened(folder=Path("anywhere"), device="cpu")).image_input == "none"


def test_a_missing_part_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "part", ignore=shutil.ignore_patterns("detokenizer"))
    with pytest.raises(InputError, match="detokenizer"):
        open_model(Opened(folder=tmp_path / "part", device="cpu"))


def test_an_address_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port}: Address already in use; another --port"):
            bind("127.0.0.1", port, 1)
    with bind("127.0.0.1", 0, 1) as bound, socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(bound.getsockname())  # it does not listen yet
    with pytest.raises(InputError, match=r"--host nowhere\.invalid"):
        bind("nowhere.invalid", 0, 1)
