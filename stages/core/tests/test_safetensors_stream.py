"""The stream writer against safetensors' own reader and writer."""

from pathlib import Path

import numpy as np
import pytest
from lavit_core.files import write_chunks
from lavit_core.safetensors_stream import safetensors_chunks
from safetensors import safe_open
from safetensors.numpy import load_file, save

TENSORS = {"wide": np.arange(6, dtype=np.int64).reshape(2, 3), "empty \u00fc": np.zeros((0, 4), np.float32)}


def layout() -> dict[str, tuple[str, tuple[int, ...], int]]:
    names = {np.dtype(np.int64): "I64", np.dtype(np.float32): "F32"}
    return {name: (names[value.dtype], value.shape, value.nbytes) for name, value in TENSORS.items()}


@pytest.mark.parametrize("metadata", [None, {"note": "n\u00f6te"}])
def test_bytes_are_those_of_safetensors_and_its_reader_reads_them(tmp_path: Path, metadata: dict[str, str]) -> None:
    file = tmp_path / "one.safetensors"
    write_chunks(file, safetensors_chunks(layout(), [value.tobytes() for value in TENSORS.values()], metadata))
    assert file.read_bytes() == save(TENSORS, metadata=metadata)
    found = load_file(file)
    assert all(np.array_equal(found[name], value) for name, value in TENSORS.items())
    with safe_open(file, framework="np") as opened:
        assert opened.metadata() == metadata


def test_one_tensor_is_asked_for_at_a_time() -> None:
    taken = []

    def data():
        for name, value in TENSORS.items():
            taken.append(name)
            yield value.tobytes()

    chunks = safetensors_chunks(layout(), data())
    next(chunks)
    assert taken == []
    next(chunks)
    assert taken == ["wide"]
