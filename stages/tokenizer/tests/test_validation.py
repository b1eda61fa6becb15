"""The validation split, and what held-out images tell about the tokens."""

import numpy as np
import pytest
import torch
from lavit_tokenizer.features import FeatureSource
from lavit_tokenizer.token_findings import diagnose_tokens
from lavit_tokenizer.validation import evaluate, split_validation, token_facts
from lavit_trainkit.pixels import Pixels
from PIL import Image
from torch import nn

from .conftest import make_tokenizer


@pytest.mark.parametrize(("items", "asked", "held"), [(100, 256, 10), (100, 5, 5), (3, 5, 3), (1, 5, 1)])
def test_validation_split(items, asked, held):
    train, validation = split_validation(items, asked, seed=0)
    assert len(validation) == held
    assert len(train) == (items if items < 10 else items - held)
    if items >= 10:
        assert not np.intersect1d(train, validation).size


class ByPlace(nn.Module):
    """A selector that keeps the right half of every image, or the left one."""

    def __init__(self, *, right: bool) -> None:
        super().__init__()
        self.right = right

    def forward(self, x_BPD):
        column = torch.arange(x_BPD.shape[1]) % 4
        keep = torch.where((column >= 2) == self.right, 0.9, 0.1).expand(x_BPD.shape[:2])
        return torch.stack([keep, 1 - keep], dim=-1).log()


@pytest.mark.parametrize("right", [True, False])
def test_a_selector_that_keeps_empty_patches_is_found_out(tmp_path, right):
    draw = np.random.default_rng(0)
    pixels = np.full((12, 16, 16, 3), 200, dtype=np.uint8)
    pixels[:, :, :8] = draw.integers(0, 256, (12, 16, 8, 3), dtype=np.uint8)  # the left half shows something
    paths = [tmp_path / f"{index}.png" for index in range(12)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    tokenizer = make_tokenizer()
    tokenizer.selector = ByPlace(right=right)
    source = FeatureSource(tokenizer, Pixels(paths, 16), cache_bytes=1 << 20, precision="fp32", quiet=True)
    metrics = evaluate(tokenizer, source, np.arange(12), quantised=True, batch_size=5)
    whole = pixels / 255
    shown = np.mean([whole[:, y : y + 4, x : x + 4].std((1, 2)) ** 2 for y in (0, 4, 8, 12) for x in (0, 4)])
    details = (0, pytest.approx(np.sqrt(shown), abs=0.02))
    assert (metrics["detail_kept"], metrics["detail_dropped"]) == (details if right else details[::-1])
    assert metrics["kept_mean"] == 8
    assert metrics["place_explained"] == pytest.approx(1, abs=1e-5)
    assert metrics["decided"] == pytest.approx(0.64, abs=1e-4)  # 0.4 squared over 0.5 times 0.5
    kinds = [finding.kind for finding in diagnose_tokens(token_facts(metrics, tokenizer.config, quantised=False))]
    assert kinds == (["empty patches kept"] if right else [])
