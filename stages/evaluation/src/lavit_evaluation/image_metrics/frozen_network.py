"""Networks that a metric looks through: from a local transformers directory, frozen, in fp32."""

from pathlib import Path
from typing import Any

from lavit_core.distributions import require_stages
from lavit_core.errors import InputError
from lavit_core.files import file_sha256


def load_frozen(kind: str, folder: Path, device: str, *, option: str, what: str, metric: str, **arguments: Any) -> Any:
    """Return the network of the transformers class `kind` in a folder, which `option` gave.

    Raises InputError, naming the network as `what`, if it can't be loaded, or if a library that `metric` needs is not
    installed.
    """
    try:
        with require_stages(metric):
            import torch
            import transformers
            from lavit_trainkit.device import pick_device
            from lavit_trainkit.pretrained import load_pretrained
    except ModuleNotFoundError as error:
        raise InputError(f"{metric} needs {error.name}; run `pip install {error.name}`") from None
    where = pick_device(device)
    # In fp32 also where half-precision weights are stored: a score must not hang on how a folder was saved.
    network = load_pretrained(
        getattr(transformers, kind), folder, option=option, what=what, dtype=torch.float32, **arguments
    )
    return network.eval().requires_grad_(False).to(where)


def describe(name: str, folder: Path, config: Any) -> dict[str, Any]:
    """Return what score.json records of a vision transformer: its folder, shape and weights, under `name`."""
    shape = f"patch {config.patch_size}, width {config.hidden_size}, {config.num_hidden_layers} layers"
    return {name: str(folder), f"{name}_shape": shape, f"{name}_digests": weight_digests(folder)}


def weight_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each weights file of a transformers directory, by file name."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])
    return {file.name: file_sha256(file) for file in files}
