"""The precision in which a model is used."""

from pathlib import Path

import pytest
import torch
from lavit_core.config import Config
from lavit_core.errors import InputError, UsageError
from lavit_core.rundir import open_run
from lavit_trainkit import precision
from lavit_trainkit.precision import (
    choose_precision,
    computes_bf16,
    dtype_of,
    fastest_precision,
    with_precision,
)
from safetensors.torch import save_file


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ([torch.float32], "fp32"),
        ([torch.bfloat16], "bf16"),
        ([torch.float16], "bf16"),
        ([torch.bfloat16, torch.float32], "fp32"),  # a table or a norm kept wide was kept so for a reason
        ([torch.bfloat16, torch.int64], "bf16"),
    ],
)
def test_auto_is_what_is_stored(stored: list[torch.dtype], expected: str, tmp_path: Path) -> None:
    save_file({f"w{i}": torch.zeros(2, dtype=dtype) for i, dtype in enumerate(stored)}, tmp_path / "model.safetensors")
    assert choose_precision("auto", tmp_path, ["model"]) == expected
    assert choose_precision("fp32", tmp_path, ["model"]) == "fp32"
    assert choose_precision("bf16", tmp_path, ["model"]) == "bf16"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"avx512_bf16": True}, True),
        ({"bf16": True}, True),  # Arm
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({}, False),
    ],
)
def test_a_processor_computes_bf16_if_it_says_so(
    found: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert computes_bf16.__wrapped__("cpu") is expected


def test_an_older_torch_does_not_say() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(torch.cpu, "get_capabilities")
        assert not computes_bf16.__wrapped__("cpu")


@pytest.mark.parametrize("computed", [True, False])
def test_auto_trains_in_what_the_device_computes(computed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Settings(Config):
        precision: str = "auto"
        num_steps: int = 3

    monkeypatch.setattr(precision, "computes_bf16", lambda kind: computed)
    assert fastest_precision("auto", "cpu") == ("bf16" if computed else "fp32")
    assert with_precision(Settings(), "cpu") == Settings(precision="bf16" if computed else "fp32")
    # What is asked for is done, slow or not.
    assert with_precision(Settings(precision="bf16"), "cpu") == Settings(precision="bf16")
    assert with_precision(Settings(precision="fp32"), "cpu") == Settings(precision="fp32")


def test_a_run_goes_on_in_the_precision_that_it_was_begun_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Settings(Config):
        precision: str = "auto"

    computed = True
    monkeypatch.setattr(precision, "computes_bf16", lambda kind: computed)
    begun = with_precision(Settings(), "cpu", out=tmp_path / "run")
    with open_run(tmp_path / "run", command="train", config=begun.model_dump(), inputs={}):
        computed = False  # another machine
        assert with_precision(Settings(), "cpu", out=tmp_path / "run") == begun == Settings(precision="bf16")
        assert with_precision(Settings(precision="fp32"), "cpu", out=tmp_path / "run").precision == "fp32"  # refused
        assert with_precision(Settings(), "cpu", out=tmp_path / "new").precision == "fp32"


def test_bf16_that_is_not_computed_is_told_once_and_only_where_nobody_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"w": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "model.safetensors")
    monkeypatch.setattr(precision, "computes_bf16", lambda kind: kind == "cuda")
    precision._warn_of_emulation.cache_clear()
    for kind, asked in (("cuda", "auto"), (None, "auto"), ("cpu", "bf16"), ("cpu", "fp32")):
        choose_precision(asked, tmp_path, ["model"], kind=kind)
    assert capsys.readouterr().err == ""
    for _ in range(2):
        assert choose_precision("auto", tmp_path, ["model"], kind="cpu") == "bf16"
    precision._warn_of_emulation.cache_clear()
    assert capsys.readouterr().err.count("--precision fp32 is several times as fast and takes twice the memory") == 1


def test_dtypes() -> None:
    assert (dtype_of("fp32"), dtype_of("bf16")) == (torch.float32, torch.bfloat16)


def test_every_shard_counts(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "model-1.safetensors")
    save_file({"b": torch.zeros(2)}, tmp_path / "model-2.safetensors")
    index = '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    (tmp_path / "model.safetensors.index.json").write_text(index)
    assert choose_precision("auto", tmp_path, ["model"]) == "fp32"


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--precision fp8: expected auto, fp32 or bf16"):
        choose_precision("fp8", tmp_path, ["model"])
    with pytest.raises(InputError, match="no weights here"):
        choose_precision("auto", tmp_path, ["model"])
    (tmp_path / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(InputError, match="not a whole safetensors file"):
        choose_precision("auto", tmp_path, ["model"])
