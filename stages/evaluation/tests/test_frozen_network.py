"""What networks of local directories have in common; test_dino and test_clip_score compare their vectors."""

import re
import sys
from pathlib import Path

import pytest
from lavit_core.errors import InputError
from lavit_evaluation.image_metrics.frozen_network import load_frozen

torch = pytest.importorskip("torch")


def load(folder: Path):
    return load_frozen("CLIPModel", folder, "cpu", option="--clip-model", what="CLIP", metric="CLIPScore")


def test_weights_of_half_precision_become_fp32_and_are_frozen(tiny_clip: Path, tmp_path: Path) -> None:
    import transformers

    transformers.CLIPModel.from_pretrained(tiny_clip).half().save_pretrained(tmp_path)
    network = load(tmp_path)
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
    assert not network.training
    assert not any(weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize(
    ("module", "message"),
    [("transformers", "CLIPScore needs transformers; run `pip install transformers`"),
     ("lavit_trainkit.device", "CLIPScore needs lavit-trainkit, which is not installed; run `pip install ./stages/")],
)  # fmt: skip
def test_a_library_that_is_missing_is_one_line(
    module: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        load(tmp_path)
