"""Every input in the corpus of `fuzz/`: readers give a result or one of our errors, as when the corpus was found."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from lavit_core.data import scan_data
from lavit_core.token_check import verify_tokens

FUZZ = Path(__file__).parents[1] / "fuzz"
INPUTS = sorted(path.relative_to(FUZZ / "corpus").as_posix() for path in (FUZZ / "corpus").glob("*/*"))


def load(reader: str) -> ModuleType:
    """Return the script of one reader; atheris is not needed for it."""
    spec = importlib.util.spec_from_file_location(f"read_{reader}", FUZZ / f"read_{reader}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPTS = {reader: load(reader) for reader in ("tokens", "tar", "json")}


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_of_the_corpus_is_read_or_refused(name):
    SCRIPTS[name.split("/")[0]].read((FUZZ / "corpus" / name).read_bytes())


def test_the_valid_files_of_the_corpus_are_valid(tmp_path):
    """Else inputs that come from them would end at the first check."""
    valid = [FUZZ / "corpus" / name for name in INPUTS if "/valid-" in name]
    assert {file.parent.name for file in valid} == set(SCRIPTS)
    for file in valid:
        folder = tmp_path / file.name
        folder.mkdir()
        if file.parent.name == "tokens":
            (folder / SCRIPTS["tokens"].SHARD).write_bytes(file.read_bytes())
            manifest = SCRIPTS["tokens"].manifest_of(folder / SCRIPTS["tokens"].SHARD)
            (folder / "manifest.json").write_text(manifest.model_dump_json())
            assert verify_tokens(folder, quiet=True) == []
        elif file.parent.name == "tar":
            (folder / "a.tar").write_bytes(file.read_bytes())
            data, problems = scan_data(folder / "a.tar")
            assert (len(data.records), problems) == (1, [])
        else:
            assert file.read_bytes().split(b"\n")[0].decode() in SCRIPTS["json"].READERS


@pytest.mark.parametrize(
    ("reader", "content"),
    [("tokens", b"\0" * 8), ("tar", b"x" * 600), ("json", b"values.json\n{")],
)
def test_an_error_that_is_not_ours_gets_through(reader, content, monkeypatch):
    """A script that hid every error would find nothing."""
    script = SCRIPTS[reader]
    script.read(content)

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    if reader == "json":
        monkeypatch.setitem(script.READERS, "values.json", (fail,))
    else:
        monkeypatch.setattr(script, {"tokens": "verify_tokens", "tar": "scan_data"}[reader], fail)
    with pytest.raises(ZeroDivisionError):
        script.read(content)
