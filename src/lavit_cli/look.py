"""Samples of a model on pictures nobody drew by rule: captions it writes, pictures it draws. Nothing judges them."""

import dataclasses
from pathlib import Path
from typing import Any

from lavit_core.config import Config
from lavit_core.data import Record, open_data
from lavit_core.files import write_json
from lavit_core.images import square_pixels
from lavit_core.modeldir import part_digest
from lavit_core.rundir import open_run
from lavit_core.seeds import derive_seed
from pydantic import Field

from lavit_cli.drawing import draw_codes, draw_settings, sample_settings
from lavit_cli.pictures import save_png


class LookConfig(Config):
    """How many samples a quickstart keeps of your own pictures."""

    pictures: int = Field(16, ge=1)
    """Held-out pictures that are captioned, and whose first caption is drawn."""
    preset: str = "tiny"
    """Preset of `lavit sample` and `lavit detokenize`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Example:
    record: Record
    seed: int


def look_at(
    model: Path, data: Path, out: Path, config: LookConfig, *, seed: int, device: str = "auto"
) -> dict[str, Any]:
    """Caption held-out pictures and draw their captions; write out/samples.json and out/samples/*.png.

    Raises InputError when the model lacks a part.
    """
    source = open_data(data)
    inputs = {"model": part_digest(model), "data": source.digest}
    with open_run(out, command="look", config={**config.model_dump(mode="json"), "seed": seed}, inputs=inputs) as run:
        if run.done:
            return run.done
        order = sorted(source.records, key=lambda record: derive_seed(seed, "look", record.key))
        chosen = [_Example(record=r, seed=derive_seed(seed, "look seed", r.key)) for r in order[: config.pictures]]
        samples = {
            "captions": _captions(model, chosen, out, device),
            "generation": _drawings(model, chosen, out, config, device),
        }
        write_json(out / "samples.json", samples)
        summary = {name: len(rows) for name, rows in samples.items()}
        run.finish(summary)
        return summary


def _captions(model: Path, chosen: list[_Example], out: Path, device: str) -> list[dict[str, Any]]:
    import numpy as np
    from lavit_pretrain.api import caption, load_llm, look
    from lavit_tokenizer.api import load_tokenizer

    tokenizer, llm = load_tokenizer(model, device=device), load_llm(model, device=device)
    side_px = tokenizer.config.preprocessing.image_px
    pixels = np.stack([square_pixels(one.record.path, side_px) for one in chosen])
    said = caption(llm, look(llm, tokenizer, pixels))
    rows = []
    for number, (one, text) in enumerate(zip(chosen, said, strict=True)):
        name = f"samples/captions-{number:03d}.png"
        save_png(out / name, pixels[number])
        expected = one.record.captions[0] if one.record.captions else ""
        rows.append({"key": one.record.key, "caption": text, "expected": expected, "picture": name})
    return rows


def _drawings(model: Path, chosen: list[_Example], out: Path, config: LookConfig, device: str) -> list[dict[str, Any]]:
    from lavit_detokenizer.api import load_detokenizer
    from lavit_pretrain.api import load_llm, sample_codes
    from lavit_tokenizer.api import load_tokenizer

    asked = [one for one in chosen if one.record.captions]
    if not asked:
        return []
    prompts, seeds = [one.record.captions[0] for one in asked], [one.seed for one in asked]
    llm = load_llm(model, device=device)
    codes = sample_codes(llm, prompts, seeds=seeds, settings=sample_settings(config.preset))
    tokenizer, detokenizer = load_tokenizer(model, device=device), load_detokenizer(model, device=device)
    drawn = draw_codes(tokenizer, detokenizer, codes, seeds, draw_settings(config.preset))
    rows = []
    for number, (one, prompt, some, picture) in enumerate(zip(asked, prompts, codes, drawn, strict=True)):
        name = f"samples/generation-{number:03d}.png"
        save_png(out / name, picture)
        rows.append({"key": one.record.key, "prompt": prompt, "num_codes": len(some), "picture": name})
    return rows
