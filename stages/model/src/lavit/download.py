"""Models by name from the Hugging Face hub, when the caller allows the network."""

from pathlib import Path

from lavit_core.errors import InputError
from lavit_core.hub import download, is_name

FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
"""What a model directory may hold; nothing that could be executed is fetched."""


def model_folder(path: Path, *, allow_network: bool) -> Path:
    """Return the model directory that `path` names: itself, or the downloaded OWNER/NAME[@REVISION].

    Raises InputError if there is no such directory and the network is not allowed, or nothing comes.
    """
    if not is_name(path):
        return path
    if not allow_network:
        raise InputError(
            f"{path}: no such directory; `make demo` makes a model, and LaVIT.from_pretrained(..., allow_network=True) "
            "reads OWNER/NAME from the Hugging Face hub"
        )
    return download(path.as_posix(), FILES, kind="model", said="model")
