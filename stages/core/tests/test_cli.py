import json
import subprocess
import sys

import pytest
import typer
from lavit_core.cli import data, tokens
from lavit_core.errors import InputError, UsageError, VerificationError
from PIL import Image
from typer.testing import CliRunner


@pytest.fixture(name="run")
def run_fixture():
    app = typer.Typer()
    app.add_typer(data, name="data")
    app.add_typer(tokens, name="tokens")

    def run(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def test_help_imports_nothing_heavy():
    script = (
        "import sys, lavit_core.cli\n"
        "print([m for m in ('numpy', 'PIL', 'pydantic', 'yaml', 'rich', 'torch', 'safetensors') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_core_never_imports_torch(tmp_path):
    script = (
        "import sys, pkgutil, importlib, lavit_core\n"
        "for module in pkgutil.iter_modules(lavit_core.__path__):\n"
        "    importlib.import_module('lavit_core.' + module.name)\n"
        "print('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_inspect_a_data_folder(run, tmp_path):
    folder = tmp_path / "data" / "train"
    (folder / "images").mkdir(parents=True)
    rows = []
    for index in range(12):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(folder / "images" / f"{index}.png")
        rows.append(json.dumps({"file_name": f"images/{index}.png", "captions": ["one", "two"]}))
    (folder / "captions.jsonl").write_text("\n".join(rows) + "\n")
    report = json.loads(run("data", "inspect", folder, "--json").stdout)
    assert (report["layout"], report["images"], report["captions"], report["unreadable"]) == ("lavit", 12, 24, [])
    assert "images     12" in run("data", "inspect", folder).stdout
    with pytest.raises(InputError, match="give one of them"):
        run("data", "inspect", tmp_path / "data")
    # What training refuses, a script learns from the exit code; what is only left out is counted.
    (folder / "images" / "scan.HEIC").touch()
    assert "not read   1 .heic files" in run("data", "inspect", folder).stdout
    (folder / "images" / "3.png").unlink()
    with pytest.raises(InputError, match=r"[1-9]\d* problem\(s\), listed above"):
        run("data", "inspect", folder)


def test_a_split_is_compared_with_another_of_the_same_data(run, photos, tmp_path):
    from .layout_writers import karpathy_of, write_karpathy

    folder, value = write_karpathy(photos, tmp_path / "out"), karpathy_of(photos)
    for place, row in enumerate(value["images"]):
        row["split"] = "train" if place < 4 else "test"
    (folder / "dataset.json").write_text(json.dumps(value))
    same = ("data", "inspect", folder, "--split", "test", "--against", folder, "--json")
    assert json.loads(run(*same, "--against-split", "train").stdout)["shared"] == []
    assert json.loads(run(*same, "--against-split", "all").stdout)["shared"]
    with pytest.raises(InputError, match=r"give --split NAME"):
        run(*same)
    with pytest.raises(UsageError, match="--against-split needs --against"):
        run("data", "inspect", folder, "--against-split", "train")


def test_tokens_inspect_verify_export(run, tmp_path, samples, tokens):
    folder = tokens(tmp_path / "t", samples(25))
    report = json.loads(run("tokens", "inspect", folder, "--json").stdout)
    assert (report["images"], report["shards"]) == (25, 3)
    assert "codes per image  min" in run("tokens", "inspect", folder).stdout
    assert json.loads(run("tokens", "verify", folder, "--json").stdout)["ok"] is True
    assert "every shard is whole" in run("tokens", "verify", folder).stdout
    result = run("tokens", "export", folder, "--to", "jsonl", "--out", tmp_path / "t.jsonl", "--json")
    assert json.loads(result.stdout) == {"path": str(tmp_path / "t.jsonl"), "rows": 25, "format": "jsonl"}
    result = run("tokens", "export", folder, "--out", tmp_path / "u.jsonl", "--json")
    assert json.loads(result.stdout)["format"] == "jsonl", "as the name ends"
    for wrong in (("--out", tmp_path / "t.csv"), ("--to", "parquet", "--out", tmp_path / "t.jsonl")):
        with pytest.raises(UsageError, match=r"expected a name that ends in|ends in \.jsonl, but --to is parquet"):
            run("tokens", "export", folder, *wrong)
    with pytest.raises(InputError, match=r"holds t; give one of them"):
        run("tokens", "inspect", tmp_path)


def test_verify_names_the_damaged_shard_and_exits_4(run, tmp_path, samples, tokens):
    folder = tokens(tmp_path / "t", samples(25))
    shard = folder / "shard-000002.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(VerificationError, match=r"shard-000002.safetensors: SHA-256") as caught:
        run("tokens", "verify", folder)
    assert caught.value.exit_code == 4
