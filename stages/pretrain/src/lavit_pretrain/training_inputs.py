"""The inputs of a pretraining run: checked before its directory records the settings, and digested."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from lavit_core.data import Data, Source, open_data, source_of
from lavit_core.errors import InputError, UsageError
from lavit_core.files import file_sha256
from lavit_core.modeldir import recorded_digest
from lavit_core.progress import warn
from lavit_core.tokens import TokenReader, check_tokenizer, open_token_sources, token_digests

from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.corpus import is_question_list


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingInputs:
    """Token files and, for live input, images; with the digests of everything a run reads."""

    reader: TokenReader
    images: Data | None
    digests: dict[str, str]


def open_inputs(
    config: PretrainConfig,
    tokens: Sequence[Path],
    model: Path,
    *,
    questions: Sequence[Path | Source],
    text: Sequence[Path],
    llm: Path | None,
    data: Path | Source | None,
) -> TrainingInputs:
    """Open token files and images.

    Raises InputError for a missing file or tokens of another tokenizer, UsageError for an image input without its data.
    """
    reader = open_token_sources(tokens)
    check_tokenizer(reader, model)
    if not (reader.num_texts or questions or text):
        warn(
            f"{', '.join(map(str, tokens))}: no image has a caption, and neither --questions nor --text is given: the "
            "language model learns codes alone and no words (`lavit data inspect` shows where captions are looked for)"
        )
    images = _live_data(config, reader, data)
    digests = token_digests(reader) | _input_digests(model, questions, text, llm)
    digests |= {} if images is None else {"data": images.digest}
    return TrainingInputs(reader=reader, images=images, digests=digests)


def _live_data(config: PretrainConfig, reader: TokenReader, data: Path | Source | None) -> Data | None:
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


def _input_digests(
    model: Path, questions: Sequence[Path | Source], text: Sequence[Path], llm: Path | None
) -> dict[str, str]:
    digests = {"tokenizer": recorded_digest(model, "tokenizer")}
    for place, data in enumerate(questions):
        file = source_of(data).path
        digests[f"questions {place}"] = file_sha256(file) if is_question_list(file) else open_data(data).digest
    for place, file in enumerate(text):
        if not file.is_file():
            raise InputError(f"{file}: file not found, expected a file for --text")
        digests[f"text {place}"] = file_sha256(file)
    if llm is not None:
        if not (llm / "config.json").is_file():
            raise InputError(f"{llm}: no config.json here, expected a transformers directory for --llm")
        digests["llm"] = recorded_digest(llm.parent, llm.name)
    return digests
