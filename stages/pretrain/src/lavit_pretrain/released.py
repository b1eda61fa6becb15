"""The released `language_model/` folder as a language model part, and back.

LLaMA's weights keep their names and shards. `visual_weight.bin` (the merger trained along with it, and the projector)
becomes visual.safetensors. The text tokenizer learns `[IMG]` and `[/IMG]`; its files are kept as they came too, so that
export gives them back.
"""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import torch
from lavit_core.errors import InputError
from lavit_core.files import read_json, write_json
from lavit_tokenizer.api import TokenizerConfig, merger_shapes
from lavit_trainkit.external_weights import (
    Shapes,
    copy_weights,
    folder_shapes,
    read_tensors,
    require_shapes,
    save_tensors,
    shapes_of,
    weight_files,
)
from lavit_trainkit.pretrained import WEIGHT_STEMS

from lavit_pretrain.language_model import VISUAL_CONFIG_FILE, VISUAL_FILE, VisualConfig
from lavit_pretrain.text_tokenizer import load_text_tokenizer
from lavit_pretrain.vocabulary import Vocabulary, register

FOLDER = "language_model"
RELEASED_VISUAL = "visual_weight.bin"
ORIGINAL_TEXT = "released_text"
"""Folder beside the weights: the text tokenizer's files as they came."""

TEXT_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
DERIVED = "rotary_emb.inv_freq"
"""A table that old checkpoints store and every version computes."""

CODE_RANGE = (20, 200)
"""Fewest and most codes of an image in the released inference code; the training data's are published nowhere."""

RENAMED = {"merger.": "causal_encoder.", "projector.": "vit_proj."}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReleasedLanguageModel:
    """Contents of a released folder for this stage: checked, and not read yet."""

    src: Path
    tokenizer: TokenizerConfig | None
    vocabulary: Vocabulary | None
    """Ids of text, brackets and codes; None: no language model, or no tokenizer to tell the number of codes."""
    weights: tuple[Path, ...]
    """Shards of the language model; none: only merger and projector are there."""
    image_input: str
    """How it reads images: live (merger and projector), features (projector), codes (neither)."""

    @property
    def folder(self) -> Path:
        """The released folder."""
        return self.src / FOLDER


def inspect_language_model(src: Path, tokenizer: TokenizerConfig | None) -> ReleasedLanguageModel | None:
    """Return what `src/language_model` holds, every name and shape checked; None when there is nothing.

    Raises InputError for files that are damaged, or do not fit each other or the tokenizer of the codes.
    """
    folder = src / FOLDER
    visual, has_llm = folder / RELEASED_VISUAL, (folder / "config.json").exists()
    if not visual.exists() and not has_llm:
        return None
    width = None
    image_input = "codes"
    if visual.exists():
        if tokenizer is None:
            raise InputError(f"{visual}: needs visual_tokenizer/tokenizer_encoder.bin, whose features it reads")
        shapes = shapes_of(read_tensors(visual))
        width, image_input = _check_visual(visual, shapes, tokenizer)
    weights, vocabulary = _check_llm(folder, tokenizer, width) if has_llm else ((), None)
    return ReleasedLanguageModel(
        src=src, tokenizer=tokenizer, vocabulary=vocabulary, weights=weights, image_input=image_input
    )


def _check_visual(file: Path, shapes: Shapes, tokenizer: TokenizerConfig) -> tuple[int, str]:
    """Return the language model's width, and how it reads images."""
    projector = shapes.get("vit_proj.weight", ())
    if len(projector) != 2:
        raise InputError(f"{file}: vit_proj.weight is {projector or 'missing'}, expected two dimensions")
    expected = {"vit_proj.weight": (projector[0], tokenizer.feature_dim), "vit_proj.bias": (projector[0],)}
    has_merger = any(name.startswith(RENAMED["merger."]) for name in shapes)
    if has_merger:
        own = merger_shapes(tokenizer)
        expected |= {RENAMED["merger."] + name: shape for name, shape in own.items()}
    require_shapes(file, shapes, expected)
    return projector[0], "live" if has_merger else "features"


def _check_llm(
    folder: Path, tokenizer: TokenizerConfig | None, width: int | None
) -> tuple[tuple[Path, ...], Vocabulary | None]:
    for name in ("config.json", "tokenizer_config.json"):
        config = read_json(folder / name) if (folder / name).exists() else {}
        if not isinstance(config, dict) or "auto_map" in config:
            raise InputError(f"{folder / name}: asks for code of its own (auto_map), expected settings; refused")
    files = tuple(weight_files(folder, WEIGHT_STEMS))
    expected = _llm_shapes(folder)
    found = {name: shape for name, shape in folder_shapes(files).items() if not name.endswith(DERIVED)}
    config = read_json(folder / "config.json")
    if config.get("tie_word_embeddings") and "lm_head.weight" not in found:
        expected.pop("lm_head.weight", None)
    require_shapes(files[0] if len(files) == 1 else folder, found, expected)
    if width is not None and config.get("hidden_size") != width:
        raise InputError(
            f"{folder / RELEASED_VISUAL}: projects to {width}, expected hidden_size {config.get('hidden_size')} "
            "of config.json beside it"
        )
    text_vocab = _text_vocab(folder)
    if tokenizer is None:
        return files, None
    vocabulary = Vocabulary(text_vocab=text_vocab, codebook_size=tokenizer.codebook_size)
    if config.get("vocab_size") != vocabulary.total:
        raise InputError(
            f"{folder / 'config.json'}: vocab_size is {config.get('vocab_size')}, expected {vocabulary.total} "
            f"({text_vocab} text ids, 2 brackets, {tokenizer.codebook_size} codes)"
        )
    return files, vocabulary


def _text_vocab(folder: Path) -> int:
    """Return the number of text ids. Raises InputError for a text tokenizer that is missing or damaged."""
    from sentencepiece import SentencePieceProcessor

    pieces, whole = folder / "tokenizer.model", folder / "tokenizer.json"
    if not pieces.exists() and not whole.exists():
        # transformers would make up an empty one.
        raise InputError(f"{pieces}: file not found, expected the text tokenizer (or tokenizer.json)")
    if pieces.exists():
        try:
            SentencePieceProcessor(model_file=str(pieces))
        except (RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())[:120]
            raise InputError(f"{pieces}: not a whole sentencepiece model ({reason}); copy it again") from None
    return register(load_text_tokenizer(folder))


def _llm_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            return shapes_of(AutoModelForCausalLM.from_config(config, trust_remote_code=False).state_dict())
    # A file that is not a configuration fails wherever a constructor happens to trip over it.
    except Exception as error:  # noqa: BLE001
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder / 'config.json'}: not a causal language model's ({reason})") from None


def import_language_model(found: ReleasedLanguageModel, folder: Path, *, tokenizer_digest: str) -> None:
    """Write a language model folder; weights keep their dtype and their shards."""
    folder.mkdir(parents=True, exist_ok=True)
    if found.image_input != "codes":
        released = read_tensors(found.folder / RELEASED_VISUAL)
        save_tensors({_our_name(name): value for name, value in released.items()}, folder / VISUAL_FILE)
    if not found.weights:
        return
    copy_weights(found.weights, folder, "model", keep=lambda name: not name.endswith(DERIVED))
    for name in ("config.json", "generation_config.json"):
        if (found.folder / name).exists():
            write_json(folder / name, read_json(found.folder / name))
    text = load_text_tokenizer(found.folder)
    register(text)
    text.save_pretrained(folder)
    _copy_text(found.folder, folder / ORIGINAL_TEXT)
    if found.vocabulary is None or found.tokenizer is None:
        return
    fewest, most = CODE_RANGE
    patches = found.tokenizer.num_patches
    visual = VisualConfig(
        image_input=found.image_input,
        text_vocab=found.vocabulary.text_vocab,
        codebook_size=found.vocabulary.codebook_size,
        feature_dim=found.tokenizer.feature_dim,
        grid=found.tokenizer.grid,
        preprocessing=found.tokenizer.preprocessing.model_dump(mode="json"),
        tokenizer_digest=tokenizer_digest,
        code_range=(min(fewest, patches), min(most, patches)),
    )
    write_json(folder / VISUAL_CONFIG_FILE, dataclasses.asdict(visual))


def export_language_model(folder: Path, dst: Path) -> None:
    """Write a language model part as `dst/language_model`. Raises InputError for one the released code can't run."""
    target = dst / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    visual = folder / VISUAL_FILE
    if visual.exists():
        tensors = read_tensors(visual)
        torch.save({_released_name(name): value for name, value in tensors.items()}, target / RELEASED_VISUAL)
    if not (folder / "config.json").exists():
        return
    kind = read_json(folder / "config.json").get("model_type")
    if kind != "llama":
        raise InputError(f"{folder}: model_type is {kind}, expected llama: the released code runs nothing else")
    copy_weights(weight_files(folder, WEIGHT_STEMS), target, "pytorch_model", suffix="bin")
    for name in ("config.json", "generation_config.json"):
        if (folder / name).exists():
            write_json(target / name, read_json(folder / name))
    original = folder / ORIGINAL_TEXT
    _copy_text(original if original.is_dir() else folder, target)


def _copy_text(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in TEXT_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _our_name(name: str) -> str:
    ours = next(ours for ours, theirs in RENAMED.items() if name.startswith(theirs))
    return ours + name.removeprefix(RENAMED[ours])


def _released_name(name: str) -> str:
    ours = next(ours for ours in RENAMED if name.startswith(ours))
    return RENAMED[ours] + name.removeprefix(ours)
