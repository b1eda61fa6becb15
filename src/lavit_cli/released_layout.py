"""The layout of the released folder (jy0205/LaVIT on the hub), and a new output folder written whole or not at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from lavit_core.errors import InputError
from lavit_core.files import atomic_folder

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
"""Content of a whole download beside the model, and why it is left out."""


def require_new(out: Path) -> None:
    """Raise InputError if `out` is a file or a folder that is not empty."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"--out {out}: is there already, expected a new folder; choose another or remove it")


@contextlib.contextmanager
def writing(out: Path) -> Iterator[Path]:
    """Yield a scratch folder that becomes `out` when the block succeeds. Raises InputError if it can't be written."""
    from safetensors import SafetensorError

    try:
        with atomic_folder(out) as scratch:
            yield scratch
    except (OSError, SafetensorError, InputError) as error:
        # A part inside is a folder of its own, whose message would name the scratch folder.
        cause = error.__cause__ if isinstance(error, InputError) else error
        if not isinstance(cause, OSError | SafetensorError):
            raise
        reason = getattr(cause, "strerror", None) or " ".join(str(cause).split())
        remedy = "nothing was kept; free some space there or choose another --out, then run the same command again"
        raise InputError(f"--out {out}: can't be written ({reason}); {remedy}") from None
