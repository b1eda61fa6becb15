"""`lavit push`, `lavit tokens push` and `LaVIT.from_pretrained` of a name: the hub's client against a server here."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import Done, Mini, environment, lavit
from hub_storage import Storage, hub_storage

pytest.importorskip("huggingface_hub")

LOAD = """
import sys
from lavit import LaVIT
image, local = sys.argv[1:]
models = [LaVIT.from_pretrained("me/mini", parts="tokenizer", allow_network=True), LaVIT.from_pretrained(local)]
print(*(model.encode(image).codes[0].tolist() for model in models), sep="\\n")
"""


def hub_environment(hub: Storage, home: Path, **more: str) -> dict[str, str]:
    plain = environment(HF_ENDPOINT=hub.address, HF_HOME=str(home), NO_PROXY="*", no_proxy="*", HF_HUB_DISABLE_XET="1")
    plain.pop("HF_HUB_OFFLINE", None)
    plain.pop("HF_TOKEN", None)
    return {**plain, **more}


def pushed(hub: Storage, home: Path, *arguments: str | Path) -> Done:
    return lavit(*arguments, "--allow-network", env=hub_environment(hub, home, HF_TOKEN="hf_here"))


def test_nothing_is_sent_without_leave(mini: Mini, here) -> None:
    done = here("push", mini.run / "model", "me/mini", "--license", "mit")
    assert done.code == 0, done.err
    assert 'LaVIT.from_pretrained("me/mini", allow_network=True)' in done.out
    assert "license: mit" in done.out
    assert "not sent: no command connects unless --allow-network is given" in done.out
    refused = here("push", mini.run / "model", "mini")
    assert (refused.code, "expected OWNER/NAME" in refused.last_error) == (3, True)
    refused = here("push", mini.run, "me/mini")
    assert (refused.code, f"give {mini.run / 'model'}" in refused.last_error) == (3, True)


def test_the_card_tells_what_the_run_recorded(mini: Mini, here, tmp_path: Path) -> None:
    card = here("push", mini.run / "model", "me/mini").out
    assert "| train | 96 |" in card
    assert "protocol lavit-shapes 1" in card
    assert "| questions answered correctly | " in card
    shutil.copytree(mini.run / "model", tmp_path / "alone")
    assert "nothing is known here of its data" in here("push", tmp_path / "alone", "me/mini").out
    assert "| train | 96 |" in here("push", tmp_path / "alone", "me/mini", "--run", mini.run).out


def test_a_damaged_model_is_not_sent(mini: Mini, tmp_path: Path, here) -> None:
    shutil.copytree(mini.run / "model", tmp_path / "model")
    weights = tmp_path / "model" / "tokenizer" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    done = here("push", tmp_path / "model", "me/mini", "--allow-network")
    assert done.code == 4
    assert "tokenizer/model.safetensors" in done.last_error
    assert "nothing was sent" in done.last_error


@pytest.mark.slow
def test_a_model_goes_to_the_hub_and_comes_back(mini: Mini, tmp_path: Path) -> None:
    (mini.run / "model" / "note.txt").write_text("not part of the model")
    with hub_storage() as hub:
        done = pushed(hub, tmp_path, "push", mini.run / "model", "me/mini")
        assert done.code == 0, done.err
        stored = hub.repositories["models/me/mini"]
        local = {file.relative_to(mini.run / "model").as_posix(): file for file in (mini.run / "model").rglob("*")}
        local.pop("note.txt")
        assert stored.keys() == {name for name, file in local.items() if file.is_file()} | {"README.md"}
        assert all(stored[name] == file.read_bytes() for name, file in local.items() if file.is_file())
        assert str(mini.run).encode() not in stored["README.md"]
        # A second time nothing large is sent, and a repository holds whole commits only.
        sent = hub.puts
        assert pushed(hub, tmp_path, "push", mini.run / "model", "me/mini").code == 0
        assert (hub.puts, hub.tokens) == (sent, {"Bearer hf_here"})
        image = min((mini.run / "data" / "heldout" / "images").iterdir())
        command = [sys.executable, "-c", LOAD, image, mini.run / "model"]
        loaded = subprocess.run(
            command, env=hub_environment(hub, tmp_path), capture_output=True, text=True, check=False
        )
        from_hub, from_here = loaded.stdout.splitlines() or ("", loaded.stderr)
        assert from_hub == from_here
        refused = lavit("push", mini.run / "model", "me/mini", "--allow-network", env=hub_environment(hub, tmp_path))
        assert refused.code == 3
        assert "`hf auth login` stores a token that may write" in refused.last_error
    (mini.run / "model" / "note.txt").unlink()


@pytest.mark.slow
def test_tokens_go_to_the_hub_without_the_record_of_their_run(mini: Mini, tmp_path: Path) -> None:
    tokens = mini.run / "tokens" / "train"
    with hub_storage() as hub:
        done = pushed(hub, tmp_path, "tokens", "push", tokens, "me/tokens")
        assert done.code == 0, done.err
        stored = hub.repositories["datasets/me/tokens"]
    assert stored.keys() == {"README.md", "manifest.json", *(file.name for file in tokens.glob("shard-*"))}
    assert b"96 images" in stored["README.md"]
