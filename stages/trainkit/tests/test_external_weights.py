"""Other people's checkpoints: what is read, and what is refused."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lavit_core.errors import InputError
from lavit_trainkit.external_weights import (
    copy_weights,
    folder_shapes,
    load_strictly,
    read_tensor,
    read_tensors,
    require_shapes,
    weight_files,
)
from safetensors.torch import load_file, save_file
from torch import nn


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("zipped", [True, False])
def test_both_forms_of_torch_checkpoints_are_read(zipped: bool, tmp_path: Path) -> None:
    weights = {"a": torch.randn(3, 4).bfloat16(), "b": torch.arange(5)}
    torch.save(weights, tmp_path / "w.bin", _use_new_zipfile_serialization=zipped)
    found = read_tensors(tmp_path / "w.bin")
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


@pytest.mark.parametrize("write", [torch.save, lambda thing, file: file.write_bytes(pickle.dumps(thing, protocol=2))])
def test_code_is_refused_and_not_run(write: Callable[[Any, Path], Any], tmp_path: Path) -> None:
    write({"a": Trap(tmp_path / "sprung")}, tmp_path / "w.bin")
    with pytest.raises(InputError, match=r"w\.bin: asks to run [\w.]+, expected plain tensors; refused, and nothing"):
        read_tensors(tmp_path / "w.bin")
    assert not (tmp_path / "sprung").exists()


def test_views_become_tensors_of_their_own(tmp_path: Path) -> None:
    whole = torch.randn(4, 6)
    torch.save({"left": whole[:, :3], "turned": whole.T, "whole": whole}, tmp_path / "w.bin")
    found = read_tensors(tmp_path / "w.bin")
    assert all(value.is_contiguous() for value in found.values())
    assert len({value.untyped_storage().data_ptr() for value in found.values()}) == 3
    assert torch.equal(found["turned"], whole.T)


def test_a_claim_beyond_the_file_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1).expand(10**6, 10**6)}, tmp_path / "w.bin")
    with pytest.raises(InputError, match="its tensors claim 4000000000000 bytes"):
        read_tensors(tmp_path / "w.bin")


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1000)}, tmp_path / "w.bin")
    content = (tmp_path / "w.bin").read_bytes()
    (tmp_path / "w.bin").write_bytes(content[:-300])
    with pytest.raises(InputError, match=r"w\.bin: not a whole torch checkpoint"):
        read_tensors(tmp_path / "w.bin")
    (tmp_path / "w.safetensors").write_bytes(content[:100])
    with pytest.raises(InputError, match=r"w\.safetensors: not a whole safetensors file"):
        read_tensors(tmp_path / "w.safetensors")


def test_one_tensor_alone(tmp_path: Path) -> None:
    torch.save(torch.ones(1, 2, 3), tmp_path / "one.bin")
    assert read_tensor(tmp_path / "one.bin").shape == (1, 2, 3)
    with pytest.raises(InputError, match="holds a Tensor, expected a dictionary of named tensors"):
        read_tensors(tmp_path / "one.bin")
    torch.save([torch.ones(1)], tmp_path / "list.bin")
    with pytest.raises(InputError, match="it is a list, expected a tensor"):
        read_tensor(tmp_path / "list.bin")


def test_every_difference_is_named_at_once() -> None:
    expected = {"a": (1,), "b": (2,), "c": (3,), "d": (4,), "e": (5,)}
    found = {"a": (9,), "z": (1,)}
    with pytest.raises(InputError) as error:
        require_shapes(Path("w.bin"), found, expected)
    assert "4 missing (b, c, d and 1 more), 1 unexpected (z), 1 of another shape (a is (9,), expected (1,))" in str(
        error.value
    )


def test_shards_are_copied_one_for_one(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for number, name in enumerate("ab", 1):
        torch.save({name: torch.full((2,), number)}, source / f"pytorch_model-0000{number}-of-00002.bin")
    index = {"weight_map": {name: f"pytorch_model-0000{n}-of-00002.bin" for n, name in enumerate("ab", 1)}}
    (source / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    files = weight_files(source, ["model", "pytorch_model"])
    assert folder_shapes(files) == {"a": (2,), "b": (2,)}
    copy_weights(files, target, "model")
    placed = json.loads((target / "model.safetensors.index.json").read_text())
    assert placed["weight_map"] == {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    assert placed["metadata"]["total_size"] == 32
    assert load_file(target / "model-00002-of-00002.safetensors")["b"].tolist() == [2, 2]
    assert weight_files(target, ["model"]) == sorted(target.glob("*.safetensors"))


def test_an_index_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    torch.save({"a": torch.ones(1)}, tmp_path / "outside.bin")
    index = {"weight_map": {"a": "../outside.bin"}}
    (tmp_path / "folder" / "model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"names outside\.bin, which is not in"):
        weight_files(tmp_path / "folder", ["model"])


def test_a_module_takes_all_of_a_file_and_no_other_tensor(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    stored, network = nn.Linear(3, 2), nn.Linear(3, 2)
    save_file(stored.state_dict(), file)
    load_strictly(network, file)
    assert torch.equal(network.weight, stored.weight)
    assert torch.equal(network.bias, stored.bias)

    tensors = {**stored.state_dict(), "decoder.weight": torch.zeros(1)}
    load_strictly(network, file, tensors, without=["decoder."])
    for wrong, told in (
        (tensors, r"w\.safetensors: weights 1 unexpected \(decoder\.weight\)"),
        ({"weight": stored.weight}, r"weights 1 missing \(bias\)"),
        (
            {**stored.state_dict(), "bias": torch.zeros(5)},
            r"weights 1 of another shape \(bias is \(5,\), expected \(2,\)",
        ),
    ):
        with pytest.raises(InputError, match=told):
            load_strictly(network, file, wrong)
    assert torch.equal(network.bias, stored.bias)  # a refused file changes nothing
