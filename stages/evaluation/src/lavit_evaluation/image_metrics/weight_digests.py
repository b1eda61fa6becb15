"""Which weights a metric looked through, for its record."""

from pathlib import Path

from lavit_core.files import file_sha256


def weight_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each weights file of a transformers directory, by file name."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])
    return {file.name: file_sha256(file) for file in files}
