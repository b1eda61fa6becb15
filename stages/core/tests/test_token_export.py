import json
import os

import numpy as np
import pytest
from lavit_core.errors import InputError, UsageError
from lavit_core.token_export import export_tokens


def test_export(tmp_path, samples, tokens):
    content = samples(25)
    folder = tokens(tmp_path / "t", content)
    assert export_tokens(folder, "jsonl", tmp_path / "new" / "t.jsonl") == 25
    with pytest.raises(InputError, match="a folder, expected a file name"):
        export_tokens(folder, "jsonl", tmp_path)
    lines = (tmp_path / "new" / "t.jsonl").read_text(encoding="utf-8").splitlines()
    expected = [
        {
            "key": sample.key,
            "codes": sample.codes.tolist(),
            "patches": np.flatnonzero(sample.keep_mask).tolist(),
            "captions": list(sample.texts),
        }
        for sample in content
    ]
    assert [json.loads(line) for line in lines] == expected
    parquet = pytest.importorskip("pyarrow.parquet")
    assert export_tokens(folder, "parquet", tmp_path / "t.parquet") == 25
    assert parquet.read_table(tmp_path / "t.parquet").to_pylist() == expected
    with pytest.raises(UsageError, match="--to csv: expected parquet or jsonl"):
        export_tokens(folder, "csv", tmp_path / "t.csv")


def test_export_without_pyarrow_says_how_to_get_it(tmp_path, samples, tokens, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'lavit-core\[parquet\]'"):
        export_tokens(tokens(tmp_path / "t", samples(3)), "parquet", tmp_path / "t.parquet")
    assert not (tmp_path / "t.parquet").exists()


@pytest.mark.parametrize("to", ["jsonl", "parquet"])
def test_export_never_replaces_a_device_a_pipe_or_a_link(tmp_path, samples, tokens, to):
    folder = tokens(tmp_path / "t", samples(3))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for name, kind in (("pipe", "a pipe"), ("null", "a device")):
        with pytest.raises(InputError, match=f"--out .*{name}: {kind}, expected a file name"):
            export_tokens(folder, to, tmp_path / name)
    assert (tmp_path / "pipe").is_fifo()
    assert not os.path.isfile("/dev/null")
    if to == "jsonl":
        (tmp_path / "link").symlink_to("real")
        assert export_tokens(folder, to, tmp_path / "link") == 3
        assert (tmp_path / "link").is_symlink()
        assert len((tmp_path / "real").read_text(encoding="utf-8").splitlines()) == 3
