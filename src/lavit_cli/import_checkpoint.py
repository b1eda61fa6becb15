"""`lavit import-checkpoint`: the released folder (jy0205/LaVIT on the hub) -> a model directory, whole or not at all.

Every file is opened, and every name and shape in it checked, before anything is written.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavit_core.distributions import require_stages
from lavit_core.errors import InputError, UsageError
from lavit_core.modeldir import IMPORTED, export_part, recorded_digest
from lavit_core.peak_memory import peak_resident_bytes
from lavit_core.progress import Progress

from lavit_cli.released_layout import (
    DECODERS,
    HIGHRES,
    LANGUAGE,
    LEFT_OUT,
    LOWRES,
    TOKENIZER_FILE,
    TOKENIZER_FILES,
    VISUAL,
    WEIGHT_SUFFIXES,
    require_new,
    writing,
)

if TYPE_CHECKING:
    from lavit_detokenizer.api import ReleasedDetokenizer
    from lavit_pretrain.api import ReleasedLanguageModel
    from lavit_tokenizer.api import ReleasedTokenizer

ATTENTIONS = ("dense", "packed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """Checked content of a released folder."""

    tokenizer: "ReleasedTokenizer | None"
    language_model: "ReleasedLanguageModel | None"
    detokenizers: "list[ReleasedDetokenizer]"
    left_out: dict[str, str]


def import_checkpoint(
    src: Path,
    out: Path,
    *,
    encoder_heads: int | None = None,
    heads: int | None = None,
    attention: str = "dense",
    dry_run: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Turn `src` into the model directory `out`, or with `dry_run` only inspect it; return the summary.

    Raises InputError for a file that is damaged, hostile or of another geometry, or an `out` that is there already;
    UsageError for an unknown attention. Nothing is written then.
    """
    began = time.monotonic()
    if attention not in ATTENTIONS:
        raise UsageError(f"--attention {attention}: expected {' or '.join(ATTENTIONS)}")
    if not dry_run:
        require_new(out)
    found = inspect(src, encoder_heads=encoder_heads, heads=heads, released_softmax=attention == "dense")
    summary = describe(found)
    if not dry_run:
        with writing(out) as scratch:
            write(found, scratch, quiet=quiet)
    return {"out": str(out), **summary, "seconds": time.monotonic() - began, "peak_memory_bytes": peak_resident_bytes()}


def inspect(src: Path, *, encoder_heads: int | None, heads: int | None, released_softmax: bool) -> Found:
    """Open and check every file of `src`. Raises InputError if one is damaged or of another geometry."""
    if not src.is_dir():
        raise InputError(f"{src}: no such folder, expected a download of the released weights")
    if not any((src / name).exists() for name in (VISUAL, LANGUAGE)):
        raise InputError(f"{src}: holds neither {VISUAL}/ nor {LANGUAGE}/, expected the released folder layout")
    with require_stages("lavit import-checkpoint"):
        from lavit_tokenizer.api import inspect_tokenizer

        tokenizer = None
        if (src / VISUAL).exists():
            tokenizer = inspect_tokenizer(
                src, encoder_heads=encoder_heads, heads=heads, released_softmax=released_softmax
            )
        shape = None if tokenizer is None else tokenizer.config
        language_model, detokenizers = None, []
        if (src / LANGUAGE).exists():
            from lavit_pretrain.api import inspect_language_model

            language_model = inspect_language_model(src, shape)
        if shape is not None and any((src / file).exists() for file, _ in DECODERS.values()):
            from lavit_detokenizer.api import inspect_detokenizers

            detokenizers = inspect_detokenizers(src, shape)
    return Found(
        tokenizer=tokenizer,
        language_model=language_model,
        detokenizers=detokenizers,
        left_out=files_left_out(src, has_tokenizer=shape is not None),
    )


def files_left_out(src: Path, *, has_tokenizer: bool) -> dict[str, str]:
    """Return the files that are left out, with the reason: others that they need are missing, or they are unknown."""
    left_out = {name: why for name, why in LEFT_OUT.items() if (src / name).exists()}
    for file, pixels in DECODERS.values():
        if (src / file).exists() and not has_tokenizer:
            left_out[file] = f"of no use without {TOKENIZER_FILE}, which is not there"
        if (src / pixels).exists() and not ((src / file).exists() and has_tokenizer):
            left_out[pixels] = f"of no use without {file if has_tokenizer else TOKENIZER_FILE}, which is not there"
    known = {*TOKENIZER_FILES, *(file for file, _ in DECODERS.values()), *left_out}
    folders = (LANGUAGE, LOWRES, HIGHRES, *left_out)
    for found in sorted(src.rglob("*")):
        name = found.relative_to(src).as_posix()
        inside = any(name.startswith(f"{folder}/") for folder in folders)
        if found.suffix in WEIGHT_SUFFIXES and name not in known and not inside:
            left_out[name] = "not a file of the release that this command knows"
    return left_out


def describe(found: Found) -> dict[str, Any]:
    """Return the parts with their geometry, and what is left out and why."""
    parts: dict[str, Any] = {}
    if found.tokenizer is not None:
        encoder = dataclasses.asdict(found.tokenizer.encoder)
        config = found.tokenizer.config
        if config is None:
            parts["encoder"] = encoder
        else:
            parts["tokenizer"] = {"encoder": encoder, **config.model_dump(mode="json")}
    llm = found.language_model
    if llm is not None:
        ids = None if llm.vocabulary is None else dataclasses.asdict(llm.vocabulary)
        parts["llm"] = {"image_input": llm.image_input, "shards": len(llm.weights), "ids": ids}
    for one in found.detokenizers:
        parts[one.layout.part] = {"drawable": one.drawable, **one.config.model_dump(mode="json")}
    return {"parts": parts, "left_out": found.left_out}


def write(found: Found, model: Path, *, quiet: bool) -> None:
    """Write every part of `found` into the model directory `model`."""
    digest = None
    parts = [found.tokenizer, found.language_model, *found.detokenizers]
    total = sum(part is not None for part in parts)

    def part(name: str, fill: Callable[[Path], None]) -> None:
        metadata = dict(IMPORTED)
        if name in ("llm", *DECODERS) and digest is not None:
            metadata["tokenizer_digest"] = digest
        with export_part(model, name, metadata=metadata) as scratch:
            fill(scratch)
        progress.advance(written=name)

    with Progress("import-checkpoint", total, unit="part", quiet=quiet) as progress:
        if found.tokenizer is not None:
            from lavit_tokenizer.api import import_encoder_part, import_tokenizer

            if found.tokenizer.config is None:
                part("encoder", functools.partial(import_encoder_part, found.tokenizer))
            else:
                part("tokenizer", functools.partial(import_tokenizer, found.tokenizer))
                digest = recorded_digest(model, "tokenizer")
        if found.language_model is not None:
            from lavit_pretrain.api import import_language_model

            fill = functools.partial(import_language_model, found.language_model, tokenizer_digest=digest or "")
            part("llm", fill)
        for one in found.detokenizers:
            from lavit_detokenizer.api import import_detokenizer

            part(one.layout.part, functools.partial(import_detokenizer, one))
