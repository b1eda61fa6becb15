"""Pictures that a benchmark has a model draw: a folder with one PNG a prompt, which a killed job goes on filling.

The folder is what `coco-fid --generated` and `clip-score` read: pictures, and captions.jsonl once all are there.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from lavit_core.errors import Interrupted
from lavit_core.files import write_bytes, write_text
from lavit_core.images import png_bytes
from lavit_core.interrupt import stop_signals
from lavit_core.progress import Progress
from lavit_core.seeds import derive_seed, epoch_batches

P = TypeVar("P")
"""What a picture is drawn from: a text, texts and picture files, codes."""

Draw = Callable[[Sequence[P], Sequence[int]], Iterable[np.ndarray]]
"""Prompts and one seed each -> uint8 pictures [H, W, 3]; a picture depends on its own prompt and seed alone."""


def draw_missing(
    folder: Path, prompts: Mapping[str, P], load: Callable[[], Draw[P]], *, title: str, seed: int = 0,
    batch_size: int = 16, quiet: bool = False,
) -> int:  # fmt: skip
    """Draw each prompt into `folder` under its name (`000001.png`), batch by batch, and return how many were drawn now.

    Pictures that are there are kept: files are written whole, so none is drawn twice, whenever the job was killed. A
    picture's seed comes from `seed` and its name, not from its batch. `load` gives the model, and is called only when
    something is missing. What the pictures depend on belongs into the run directory's record (`open_run`) around this.
    Raises Interrupted at a stop signal.
    """
    missing = [name for name in prompts if not (folder / name).exists()]
    if not missing:
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    draw, done = load(), len(prompts) - len(missing)
    with stop_signals() as stop, Progress(title, len(prompts), unit="picture", start=done, quiet=quiet) as progress:
        for rows in epoch_batches(len(missing), batch_size):
            if stop():
                so_far = f"{done + rows.start} of {len(prompts)} pictures"
                raise Interrupted(f"{title}: stopped after {so_far}; run the same command to go on")
            names = missing[rows]
            pictures = draw([prompts[name] for name in names], [picture_seed(seed, name) for name in names])
            for name, pixels in zip(names, pictures, strict=True):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                write_bytes(folder / name, png_bytes(pixels))
            progress.advance(len(names))
    return len(missing)


def picture_seed(seed: int, name: str) -> int:
    """Return the seed of the picture `name`."""
    return derive_seed(seed, "drawn picture", name)


def write_captions(folder: Path, captions: Mapping[str, str], more: Mapping[str, Mapping[str, object]]) -> None:
    """Write captions.jsonl: of each picture its file, the text it was drawn from, and what `more` says of it."""
    rows = ({"file_name": name, "captions": [text], **more.get(name, {})} for name, text in captions.items())
    write_text(folder / "captions.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
