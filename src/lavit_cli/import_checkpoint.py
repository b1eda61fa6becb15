"""`lavit import-checkpoint`: the released folder (jy0205/LaVIT on the hub) -> a model directory, whole or not at all.

Every file is opened, and every name and shape in it checked, before anything is written.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavit_core.distributions import require_stages
from lavit_core.errors import InputError, UsageError
from lavit_core.files import atomic_folder
from lavit_core.modeldir import IMPORTED, export_part, part_digest
from lavit_core.peak_memory import peak_resident_bytes
from lavit_core.progress import Progress

if TYPE_CHECKING:
    from lavit_detokenizer.api import ReleasedDetokenizer
    from lavit_pretrain.api import ReleasedLanguageModel
    from lavit_tokenizer.api import ReleasedTokenizer

SOFTMAXES = ("released", "exact")

VISUAL, LANGUAGE = "visual_tokenizer", "language_model"
LOWRES, HIGHRES = "pixel_decoding", "highres_pixel_decoding"
DECODERS = {
    "detokenizer": (f"{VISUAL}/tokenizer_decoder.bin", LOWRES),
    "detokenizer-highres": (f"{VISUAL}/highres_tokenizer_decoder.bin", HIGHRES),
}
TOKENIZER_FILE = f"{VISUAL}/tokenizer_encoder.bin"
TOKENIZER_FILES = (f"{VISUAL}/eva_vitg_psz14.bin", TOKENIZER_FILE)
WEIGHT_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".safetensors")
LEFT_OUT = {
    f"{LOWRES}/safety_checker": "not part of the model",
    f"{LOWRES}/feature_extractor": "not part of the model",
    "openai_clip_ViT-L-14.bin": "re-ranks images in the FID script only",
}
"""What a whole download holds beside the model, and why it stays behind."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What a released folder holds, checked."""

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
    softmax: str = "released",
    dry_run: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Turn `src` into the model directory `out`, or with `dry_run` only say what is in it; return the summary.

    Raises InputError for a file that is damaged, hostile or of another geometry, or an `out` that is there already;
    UsageError for an unknown softmax. Nothing is written then.
    """
    began = time.monotonic()
    if softmax not in SOFTMAXES:
        raise UsageError(f"--softmax {softmax}: expected {' or '.join(SOFTMAXES)}")
    if not dry_run:
        require_new(out)
    found = inspect(src, encoder_heads=encoder_heads, heads=heads, released_softmax=softmax == "released")
    summary = describe(found)
    if not dry_run:
        with writing(out) as scratch:
            write(found, scratch, quiet=quiet)
    return {"out": str(out), **summary, "seconds": time.monotonic() - began, "peak_memory_bytes": peak_resident_bytes()}


def require_new(out: Path) -> None:
    """Refuse a folder that holds something already. Raises InputError."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"--out {out}: is there already, expected a new folder; choose another or remove it")


def inspect(src: Path, *, encoder_heads: int | None, heads: int | None, released_softmax: bool) -> Found:
    """Return what `src` holds, every file opened and checked. Raises InputError."""
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
        left_out=left_behind(src, has_tokenizer=shape is not None),
    )


def left_behind(src: Path, *, has_tokenizer: bool) -> dict[str, str]:
    """Return what stays behind, and why: files without those they need, and weights this command doesn't know."""
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
    """Return which parts there are and of what geometry, and what is left out and why."""
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
        ids = None if llm.layout is None else dataclasses.asdict(llm.layout)
        parts["llm"] = {"image_input": llm.image_input, "shards": len(llm.weights), "ids": ids}
    for one in found.detokenizers:
        parts[one.layout.part] = {"drawable": one.drawable, **one.config.model_dump(mode="json")}
    return {"parts": parts, "left_out": found.left_out}


def lines(summary: dict[str, Any], model: Path, *, dry_run: bool = False) -> str:
    """Return the summary for a person, and the next command."""
    told = []
    for name, part in summary["parts"].items():
        told.append(f"{name}: {_geometry(name, part)}")
    told += [f"left out: {path} ({why})" for path, why in summary["left_out"].items()]
    if dry_run:
        told.append(f"nothing was written; without --dry-run it goes to {model}")
    elif "tokenizer" in summary["parts"]:
        told.append(f"in {model}; next: lavit tokenize-images DATA --model {model} --out TOKENS")
    elif "encoder" in summary["parts"]:
        told.append(f"in {model}; next: lavit train-tokenizer DATA --model {model} --out RUN")
    else:
        told.append(f"in {model}; next: lavit pretrain TOKENS --model TOKENIZER --llm {model / 'llm'} --out RUN")
    return "\n".join(told)


def _geometry(name: str, part: dict[str, Any]) -> str:
    if name in ("encoder", "tokenizer"):
        encoder = part["encoder"] if name == "tokenizer" else part
        text = (
            f"encoder of {encoder['layers']} layers, width {encoder['width']}, {encoder['heads']} heads, "
            f"{encoder['side']} x {encoder['side']} patches of {encoder['patch_px']} px"
        )
        if name == "encoder":
            return text
        softmax = "released" if part["released_softmax"] else "exact"
        decoder = f"decoder of {part['decoder_layers']}" if part["decoder_layers"] else "no feature decoder"
        return (
            f"{text}; merger of {part['merger_layers']} layers, {part['heads']} heads, {softmax} softmax; "
            f"{part['codebook_size']} codes of {part['code_dim']}; {decoder}"
        )
    if name == "llm":
        if not part["shards"]:
            return f"merger and projector alone (images as {part['image_input']}), no language model"
        if part["ids"] is None:
            return f"{part['shards']} shard(s), as a plain transformers folder: no tokenizer here to number its codes"
        return f"{part['shards']} shard(s), {part['ids']['text_vocab']} text ids, images as {part['image_input']}"
    drawn = f"draws {part['image_px']} px" if part["drawable"] else "condition alone, no UNet and VAE"
    return f"{drawn}, attends to width {sum(part['condition']['cross_dims'])}"


@contextlib.contextmanager
def writing(out: Path) -> Iterator[Path]:
    """Give a scratch folder that becomes `out` when the block ends well; a full disk is one line."""
    from safetensors import SafetensorError

    try:
        with atomic_folder(out) as scratch:
            yield scratch
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"--out {out}: can't be written ({reason}); nothing was kept") from None


def write(found: Found, model: Path, *, quiet: bool) -> None:
    """Write every part that was found into the model directory `model`."""
    digest = None
    parts = [found.tokenizer, found.language_model, *found.detokenizers]
    total = sum(part is not None for part in parts)

    def part(name: str, fill: Callable[[Path], None]) -> None:
        about = dict(IMPORTED)
        if name in ("llm", *DECODERS) and digest is not None:
            about["tokenizer_digest"] = digest
        with export_part(model, name, about=about) as scratch:
            fill(scratch)
        progress.advance(written=name)

    with Progress("import-checkpoint", total, unit="part", quiet=quiet) as progress:
        if found.tokenizer is not None:
            from lavit_tokenizer.api import import_encoder_part, import_tokenizer

            visual = found.tokenizer
            if visual.config is None:
                part("encoder", lambda folder: import_encoder_part(visual, folder))
            else:
                part("tokenizer", lambda folder: import_tokenizer(visual, folder))
                digest = part_digest(model / "tokenizer")
        if found.language_model is not None:
            from lavit_pretrain.api import import_language_model

            llm = found.language_model
            part("llm", lambda folder: import_language_model(llm, folder, tokenizer_digest=digest or ""))
        for one in found.detokenizers:
            from lavit_detokenizer.api import import_detokenizer

            def fill(folder: Path, one: "ReleasedDetokenizer" = one) -> None:
                import_detokenizer(one, folder)

            part(one.layout.part, fill)
