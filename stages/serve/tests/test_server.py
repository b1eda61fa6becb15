"""Opening a model for a server, and its socket. Processes are in tests/test_serve.py."""

import shutil
import socket
from pathlib import Path

import pytest
from lavit import LaVIT
from lavit_core.errors import InputError
from lavit_serve.server import bind, open_model

HOW = {"device": "cpu", "precision": "auto", "preset": None, "highres": False}


def test_all_parts_are_loaded_before_the_first_request(folder: Path, tmp_path: Path) -> None:
    model = open_model(folder, **HOW)
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    served = open_model(moved, **HOW)
    for file in moved.rglob("*.safetensors"):
        file.unlink()
    drawing = model.draw_settings(num_steps=1)
    [expected], [image] = (one.generate("blue", drawing=drawing) for one in (model, served))
    assert image.tobytes() == expected.tobytes()
    assert served.caption(image) == model.caption(image)


def test_a_blind_model_is_served_too(blind_model: LaVIT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LaVIT, "from_pretrained", lambda *given, **how: blind_model)
    assert open_model(Path("anywhere"), **HOW).image_input == "none"


def test_a_missing_part_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "part", ignore=shutil.ignore_patterns("detokenizer"))
    with pytest.raises(InputError, match="detokenizer"):
        open_model(tmp_path / "part", **HOW)


def test_an_address_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port}: Address already in use; another --port"):
            bind("127.0.0.1", port, 1)
    with bind("127.0.0.1", 0, 1) as bound, socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(bound.getsockname())  # it does not listen yet
    with pytest.raises(InputError, match=r"--host nowhere\.invalid"):
        bind("nowhere.invalid", 0, 1)
