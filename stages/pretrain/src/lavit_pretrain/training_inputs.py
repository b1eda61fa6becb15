"""What a pretraining run reads: checked before its directory records the settings, and digested."""

from collections.abc import Sequence
from pathlib import Path

from lavit_core.data import Data, open_data
from lavit_core.errors import InputError, UsageError
from lavit_core.files import file_sha256
from lavit_core.modeldir import find_part, part_digest
from lavit_core.tokens import TokenReader

from lavit_pretrain.config import PretrainConfig


def live_data(config: PretrainConfig, reader: TokenReader, data: Path | None) -> Data | None:
    """Return the images of live input, None for the other kinds.

    Raises UsageError for an image input that is not there: before the run directory records the settings.
    """
    if config.image_input == "features" and reader.manifest.feature_dim is None:
        raise UsageError(
            "setting image_input: features, but these tokens hold none; "
            "run lavit tokenize-images with --features, or choose codes or live"
        )
    if config.image_input != "live":
        return None
    if data is None:
        raise UsageError(
            "setting image_input: live, but no images were given; add --data DIR, or choose codes or features"
        )
    return open_data(data)


def input_digests(
    tokens: Sequence[Path], model: Path, questions: Sequence[Path], text: Sequence[Path], llm: Path | None
) -> dict[str, str]:
    """Return the SHA-256 digests of everything a run reads. Raises InputError for a file that is missing."""
    digests = {"tokenizer": part_digest(find_part(model, "tokenizer"))}
    digests |= {f"tokens {place}": file_sha256(folder / "manifest.json") for place, folder in enumerate(tokens)}
    for name, files in (("questions", questions), ("text", text)):
        for place, file in enumerate(files):
            if not file.is_file():
                raise InputError(f"{file}: file not found, expected a file for --{name}")
            digests[f"{name} {place}"] = file_sha256(file)
    if llm is not None:
        if not (llm / "config.json").is_file():
            raise InputError(f"{llm}: no config.json here, expected a transformers directory for --llm")
        digests["llm"] = part_digest(llm)
    return digests
