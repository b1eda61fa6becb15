"""`lavit detokenize`: a token directory to a folder of images, which is a data set itself (captions.jsonl)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.files import file_sha256, write_bytes
from lavit_core.images import png_bytes
from lavit_core.interrupt import stop_signals
from lavit_core.json_lines import write_json_lines
from lavit_core.modeldir import check_made_with, detokenizer_part, recorded_digest
from lavit_core.progress import Progress
from lavit_core.rundir import open_run
from lavit_core.seeds import derive_seed
from lavit_core.tokens import TokenReader, check_tokenizer, open_tokens
from lavit_tokenizer.api import load_tokenizer
from lavit_trainkit.device import check_device
from lavit_trainkit.stopping import stopped
from lavit_trainkit.throughput import Meter

from lavit_detokenizer.config import DrawSettings
from lavit_detokenizer.draw import draw_codes
from lavit_detokenizer.folder import load_detokenizer
from lavit_detokenizer.sizes import model_image_size


def detokenize(
    tokens: Path,
    model: Path,
    out: Path,
    settings: DrawSettings,
    *,
    highres: bool = False,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    quiet: bool = False,
) -> dict[str, Any]:
    """Draw every sample of `tokens` into `out/images`, list the images in captions.jsonl, return the summary.

    `highres` draws with the SDXL detokenizer of imported weights.
    An image's noise depends on `seed` and its key alone; images that were drawn before a restart are kept.
    Raises InputError for unusable input or parts that do not belong together, UsageError for a size that the
    detokenizer does not draw, Interrupted if a signal stops it.
    """
    check_device(device)
    reader = open_tokens(tokens)
    check_tokenizer(reader, model)
    part = detokenizer_part(highres=highres)
    check_made_with(model, part)
    model_image_size(model, part, settings)  # refuses before a run directory is made
    inputs = {
        "tokens": file_sha256(tokens / "manifest.json"),
        "tokenizer": reader.manifest.tokenizer_digest,
        "detokenizer": recorded_digest(model, part),
    }
    # Precision is part of it: a resumed run must draw the missing images as the first run would have.
    config = {**settings.model_dump(mode="json", exclude={"batch_size"}), "precision": precision, "seed": seed}
    with (
        open_run(out, command="detokenize", config=config, inputs=inputs, settings=type(settings)) as run,
        stop_signals() as stop,
    ):
        if run.done:
            return run.done
        (out / "images").mkdir(exist_ok=True)
        missing = [index for index in range(len(reader)) if not (out / file_name(index)).exists()]
        tokenizer = load_tokenizer(model, device=device, use="decode")
        detokenizer = load_detokenizer(model, part=part, device=device, precision=precision)
        meter, start = Meter(), len(reader) - len(missing)
        with Progress("detokenize", len(reader), unit="image", start=start, quiet=quiet) as progress:
            for first in range(0, len(missing), settings.batch_size):
                if stop():
                    raise stopped(out, start + first, len(reader))
                indices = np.array(missing[first : first + settings.batch_size])
                codes, counts = reader.codes(indices)
                each = np.split(codes, np.cumsum(counts)[:-1])
                seeds = [derive_seed(seed, "detokenize", key) for key in reader.keys(indices)]
                pixels = draw_codes(detokenizer, tokenizer, each, seeds=seeds, settings=settings)
                for index, image in zip(indices.tolist(), pixels, strict=True):
                    write_bytes(out / file_name(index), png_bytes(image))
                meter.count(len(indices))
                progress.advance(len(indices))
        write_json_lines(out / "captions.jsonl", caption_rows(reader))
        summary = {"images": len(reader), "drawn": len(missing), **meter.summary()}
        run.finish(summary)
        return summary


def file_name(index: int) -> str:
    """Return an image's file name: a counter, because a key may contain any character."""
    return f"images/{index:06d}.png"


def caption_rows(reader: TokenReader) -> Iterator[dict[str, Any]]:
    """Yield the rows of captions.jsonl: each image's file, its captions, and its key in the token directory."""
    everything = np.arange(len(reader))
    for index, (key, texts) in enumerate(zip(reader.keys(everything), reader.texts(everything), strict=True)):
        yield {"file_name": file_name(index), "captions": list(texts), "key": key}
