"""Checkpoints: whole or absent, newest valid first, optimiser state exact."""

from pathlib import Path

import pytest
import torch
from lavit_trainkit.checkpoint import TYPE_NAMES, load_newest, save_checkpoint
from lavit_trainkit.optimizers import adamw, restore_optimizers, stored_optimizers
from safetensors.torch import save_file
from torch import nn


def train(model: nn.Linear, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        model(torch.full((2, 3), float(step + 1))).square().mean().backward()
        optimizer.step()


def fresh() -> tuple[nn.Linear, torch.optim.AdamW]:
    torch.manual_seed(0)
    model = nn.Linear(3, 3)
    return model, adamw({"model": (model, 1e-2)}, betas=(0.9, 0.99), weight_decay=0.1)


def test_resumed_optimiser_equals_uninterrupted_to_the_last_bit(tmp_path: Path) -> None:
    whole, optimizer = fresh()
    train(whole, optimizer, range(7))
    first, optimizer = fresh()
    train(first, optimizer, range(3))
    save_checkpoint(tmp_path, 3, {"model": first.state_dict(), **stored_optimizers({"adamw": optimizer})})
    second, optimizer = fresh()
    found = load_newest(tmp_path)
    assert found is not None
    assert found.step == 3
    second.load_state_dict(found.tensors["model"])
    restore_optimizers({"adamw": optimizer}, found.tensors)
    train(second, optimizer, range(3, 7))
    assert torch.equal(whole.weight, second.weight)
    assert torch.equal(whole.bias, second.bias)


def test_damaged_checkpoint_is_named_and_the_older_one_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"model": {"x": torch.full((4,), float(step))}}, {"note": step})
    file = tmp_path / "step-00000002" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    found = load_newest(tmp_path)
    assert found is not None
    assert (found.step, found.state) == (1, {"note": 1})
    assert "step-00000002/model.safetensors: SHA-256 " in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"{}",
        b"{",
        b'{"step": 2, "state": {}, "sha256": {}}',
        b'{"step": 2, "state": {}}',
        b'{"step": 1, "state": {}, "sha256": {"model.safetensors": "0"}}',
        None,
    ],
)
def test_malformed_state_falls_back_to_the_older_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"model": {"x": torch.zeros(4)}})
    (tmp_path / "step-foo").mkdir()
    (tmp_path / "step-foo" / "state.json").write_bytes(b"[]")
    file = tmp_path / "step-00000002" / "state.json"
    file.unlink() if content is None else file.write_bytes(content)
    found = load_newest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert f"{file}: " in (said := capsys.readouterr().err)
    assert said.endswith("; using an older checkpoint\n")


def test_an_edited_step_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = save_checkpoint(tmp_path, 12, {"model": {"x": torch.zeros(4)}}, {"seen": {3: 0.1}})
    assert (found := load_newest(tmp_path)) is not None
    assert found.state == {"seen": {"3": 0.1}}
    content = (target / "state.json").read_text()
    for old, new in (('"step": 12', '"step": 11'), ("0.1", "0.2")):
        (target / "state.json").write_text(content.replace(old, new))
        assert load_newest(tmp_path) is None
        said = capsys.readouterr().err
        assert "state.json: SHA-256 " in said
        assert said.endswith("; none is whole: starting over from step 0\n")


def test_no_checkpoint_is_none_and_old_ones_are_dropped(tmp_path: Path) -> None:
    assert load_newest(tmp_path) is None
    for step in range(4):
        save_checkpoint(tmp_path, step, {"model": {"x": torch.zeros(1)}}, keep=2)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_failed_save_leaves_nothing_half_written(tmp_path: Path) -> None:
    class Unsavable(dict):
        def items(self):  # type: ignore[no-untyped-def]
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path, 1, {"model": Unsavable()})
    assert list(tmp_path.iterdir()) == []


def test_files_are_byte_for_byte_what_safetensors_writes(tmp_path: Path) -> None:
    tensors = {"empty": torch.zeros(0, 4), "scalar": torch.tensor(3.0), "across": torch.arange(6.0).view(2, 3).T}
    for place, dtype in enumerate(TYPE_NAMES):
        tensors |= {f"b{place} \u00fc": torch.arange(3).to(dtype), f"a{place}": torch.arange(6).view(2, 3).to(dtype)}
    save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / "reference.safetensors")
    target = save_checkpoint(tmp_path, 1, {"model": tensors})
    assert (target / "model.safetensors").read_bytes() == (tmp_path / "reference.safetensors").read_bytes()
