"""Data sets of the Hugging Face hub by name: its client against a server on this machine, and nothing without leave."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from commandline import Done, Mini, environment, lavit
from hub_server import CONVERTED, Hub, hub_server
from lavit_core.data import Source, open_data
from lavit_core.tokens import open_tokens
from PIL import Image

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("huggingface_hub")


@pytest.fixture(name="folder")
def folder_fixture(tmp_path: Path) -> Path:
    """A data set of 12 large images in 3 row groups, as the hub stores it."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(12):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (128, 128, 3), dtype=np.uint8)).save(buffer, "PNG")
        cell = {"bytes": buffer.getvalue(), "path": f"{number:02d}.png"}
        rows.append({"image": cell, "text": f"photo {number}", "long": f"a photo with number {number}"})
    (tmp_path / "set" / "data").mkdir(parents=True)
    parquet.write_table(
        pa.Table.from_pylist(rows), tmp_path / "set/data/train-00000-of-00001.parquet", row_group_size=4
    )
    return tmp_path / "set"


def asked(hub: Hub, *arguments: str | Path, **more: str) -> Done:
    address = f"http://127.0.0.1:{hub.server_address[1]}"
    plain = environment(HF_ENDPOINT=address, NO_PROXY="*", no_proxy="*", HF_HUB_DISABLE_XET="1")
    plain.pop("HF_HUB_OFFLINE", None)
    return lavit(*arguments, env={**plain, **more})


def test_nothing_is_asked_for_without_leave(folder: Path, here, tmp_path: Path) -> None:
    with hub_server({"main": folder}) as hub:
        done = asked(hub, "data", "inspect", "hub:owner/photos")
        assert (done.code, hub.asked) == (3, [])
    assert "no command connects unless --allow-network is given" in done.last_error
    assert "hf download owner/photos --repo-type dataset" in done.last_error
    (tmp_path / "sources.yaml").write_text("sources: [{data: 'hub:owner/photos'}]")
    listed = here("data", "inspect", tmp_path / "sources.yaml")
    assert (listed.code, "--allow-network" in listed.last_error) == (3, True)
    wrong = here("data", "inspect", "hub:photos", "--allow-network")
    assert (wrong.code, "expected hub:OWNER/NAME" in wrong.last_error) == (3, True)
    for_training = here("train-encoder", "hub:owner/photos", "--out", tmp_path / "run")
    assert (for_training.code, "--allow-network" in for_training.last_error) == (3, True)
    assert not (tmp_path / "run").exists()


def test_images_are_fetched_in_place_by_ranges(folder: Path) -> None:
    line = ("data", "inspect", "hub:owner/photos", "--caption-column", "text", "--allow-network", "--json")
    with hub_server({"main": folder}) as hub:
        done = asked(hub, *line)
        found = json.loads(done.out)
        assert (found["layout"], found["images"], found["captions"], found["unreadable"]) == ("hub", 12, 12, [])
        assert found["sizes"]["common"] == [{"width": 128, "height": 128, "images": 12}]
        # Each image once, before them texts and the footer; nothing is stored, so it costs the same again.
        size = (folder / "data/train-00000-of-00001.parquet").stat().st_size
        assert size * 0.9 < sum(hub.ranges) < size * 1.3
        commit = found["notes"][0].split("; @")[1].split(" reads")[0]
        pinned = asked(hub, *line[:2], f"hub:owner/photos@{commit}", *line[3:])
        assert json.loads(pinned.out)["digest"] == found["digest"]


@pytest.mark.slow
def test_tokens_are_those_of_the_same_files_here(folder: Path, mini: Mini, tmp_path: Path) -> None:
    common = ("--model", mini.model, "--caption-column", "long", "--set", "workers=1")
    with hub_server({"main": folder}) as hub:
        done = asked(hub, "tokenize-images", "hub:owner/photos", *common, "--out", tmp_path / "hub", "--allow-network")
        assert done.code == 0, done.err
    there, here = open_tokens(tmp_path / "hub"), open_data(Source(folder, caption_column="long"))
    assert there.keys(np.arange(12)) == [record.key for record in here.records]
    assert there.texts(np.arange(12))[3] == ("a photo with number 3",)
    local = lavit("tokenize-images", folder, *common, "--out", tmp_path / "local")
    assert local.code == 0, local.err
    shards = [sorted((tmp_path / name).glob("*.safetensors")) for name in ("hub", "local")]
    assert [file.read_bytes() for file in shards[0]] == [file.read_bytes() for file in shards[1]]


@pytest.mark.slow
def test_the_hubs_own_conversion_is_read_and_failures_are_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    (tmp_path / "main/README.md").write_text("images are in a tar")
    with hub_server({"main": tmp_path / "main", CONVERTED: folder}) as hub:
        done = asked(
            hub, "data", "inspect", "hub:owner/photos", "--caption-column", "text", "--allow-network", "--json"
        )
        assert json.loads(done.out)["images"] == 12
        lines = {
            "hub:owner/nothing": "not read",
            "hub:owner/photos@v9": "not read",
        }
        for name, message in lines.items():
            failed = asked(hub, "data", "inspect", name, "--allow-network")
            assert (failed.code, message in failed.last_error) == (3, True), failed.err
    with hub_server({"main": folder}) as hub:
        # Who sets it says no to every command.
        offline = asked(hub, "data", "inspect", "hub:owner/photos", "--allow-network", HF_HUB_OFFLINE="1")
        assert (offline.code, hub.asked) == (3, [])
        assert "not read (" in offline.last_error
