"""A tiny random model, opened once, and images of its size."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lavit import LaVIT


def _random_models() -> Any:
    """Return the module of lavit-model's own fixtures: importlib mode has no path to it."""
    file = Path(__file__).parents[2] / "model" / "tests" / "conftest.py"
    spec = importlib.util.spec_from_file_location("lavit_model_fixtures", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory whose language model reads codes."""
    return Path(_random_models().write_model(tmp_path_factory.mktemp("models") / "codes", "codes"))


@pytest.fixture(scope="session")
def model(folder: Path) -> LaVIT:
    """The model, opened once."""
    return LaVIT.from_pretrained(folder, device="cpu")


@pytest.fixture(scope="session")
def sized_model(tmp_path_factory: pytest.TempPathFactory) -> LaVIT:
    """A model whose detokenizer draws three sizes."""
    sizes = ("16x16", "24x16", "16x24")
    return LaVIT.from_pretrained(_random_models().write_model(tmp_path_factory.mktemp("models") / "x", "codes", sizes))


@pytest.fixture(scope="session")
def blind_model(tmp_path_factory: pytest.TempPathFactory) -> LaVIT:
    """A model whose language model was trained without images."""
    return LaVIT.from_pretrained(_random_models().write_model(tmp_path_factory.mktemp("models") / "none", "none"))


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """uint8 [5, 16, 16, 3]"""
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
