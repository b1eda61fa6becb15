"""`lavit export-checkpoint`: a model directory -> the released folder layout, for the authors' inference code."""

import time
from pathlib import Path
from typing import Any

from lavit_core.distributions import require_stages
from lavit_core.modeldir import check_made_with, find_part
from lavit_core.progress import timed

from lavit_cli.released_layout import DECODERS, require_new, writing


def export_checkpoint(model: Path, out: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Write `model` in the released layout (torch checkpoints: the released code reads nothing else).

    Raises InputError for a part that the released code has no place for, or an `out` that is there already.
    """
    began = time.monotonic()
    require_new(out)
    tokenizer = find_part(model, "tokenizer")
    others = [name for name in ("llm", *DECODERS) if (model / name).is_dir()]
    for name in others:
        check_made_with(model, name)
    with require_stages("lavit export-checkpoint"), writing(out) as scratch:
        from lavit_tokenizer.api import export_tokenizer

        with timed("export tokenizer", quiet=quiet):
            missing, decoder = export_tokenizer(tokenizer, scratch)
        for name in others:
            with timed(f"export {name}", quiet=quiet):
                if name == "llm":
                    from lavit_pretrain.api import export_language_model

                    export_language_model(model / name, scratch)
                else:
                    from lavit_detokenizer.api import export_detokenizer

                    export_detokenizer(model / name, name, decoder, scratch)
        files = sorted(file.relative_to(scratch).as_posix() for file in scratch.rglob("*") if file.is_file())
    left_out = {} if "detokenizer" in others or not decoder else {"decoder": "needs detokenizer/ for its projection"}
    return {
        "out": str(out),
        "parts": ["tokenizer", *others],
        "files": files,
        "missing": {"visual_tokenizer/eva_vitg_psz14.bin": missing} if missing else {},
        "left_out": left_out,
        "seconds": time.monotonic() - began,
    }
