"""The merger of a clone of the released code (jy0205/LaVIT), as one more baseline.

Its file is executed, as any program is that one runs; nothing is downloaded and no weights are read. timm, of which it
uses one function of torch's, and the encoder beside it are stood in for while it is imported.
"""

import contextlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lavit_core.errors import InputError

FILES = ("LaVIT/models/modeling_visual_tokenzier.py", "models/modeling_visual_tokenzier.py")
"""Where the released code keeps it, in the order of its versions, spelt as there."""


def official_merger(clone: Path, *, width: int, heads: int, mlp_dim: int, layers: int) -> Any:
    """Return the released code's merger, untrained. Raises InputError if the clone has none that can be imported."""
    file = next((clone / name for name in FILES if (clone / name).is_file()), None)
    if file is None:
        raise InputError(f"--official {clone}: found no {FILES[0]}; give the folder of a clone of jy0205/LaVIT")
    spec = importlib.util.spec_from_file_location("lavit_official_tokenizer", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        with _stand_ins():
            spec.loader.exec_module(module)
        # Half above, since the released code cuts the product to an integer.
        ratio = (mlp_dim + 0.5) / width
        return module.TokenMerger(dim=width, num_heads=heads, depth=layers, mlp_ratio=ratio, qkv_bias=True)
    except Exception as error:  # noqa: BLE001 - a program of somebody else may fail in any way
        raise InputError(f"{file}: does not run here ({type(error).__name__}: {error})") from None


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    """Put modules in the place of those that the file imports, while the block lasts."""
    names = ("timm", "timm.models", "timm.models.layers", "models", "models.modeling_visual_encoder")
    before = {name: sys.modules.get(name) for name in names}
    made = {name: types.ModuleType(name) for name in names}
    layers, encoder = made["timm.models.layers"], made["models.modeling_visual_encoder"]
    layers.__dict__.update(trunc_normal_=torch.nn.init.trunc_normal_, drop_path=None, to_2tuple=None)
    encoder.__dict__.update(build_eva_clip=None)
    sys.modules.update(made)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
