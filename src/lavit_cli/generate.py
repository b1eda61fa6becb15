"""`lavit generate`: prompt -> codes -> features -> pixels, in one process, into a PNG that records how it was made."""

import json
from pathlib import Path
from typing import Any

from lavit_core.modeldir import check_made_with, detokenizer_part, find_part, part_digest

from lavit_cli import __version__
from lavit_cli.drawing import BATCH, draw_codes, draw_settings, require_png, sample_settings, stages_for
from lavit_cli.pictures import enlarge, in_grid, save_png


def generate(
    prompt: str,
    model: Path,
    out: Path,
    *,
    num_images: int = 1,
    highres: bool = False,
    preset: str = "tiny",
    guidance_scale: float | None = None,
    decoder_guidance_scale: float | None = None,
    top_k: int | None = None,
    temperature: float | None = None,
    num_steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> dict[str, Any]:
    """Draw `num_images` pictures of a prompt into one PNG; picture i is the one that `--seed SEED+i` draws alone.

    Raises InputError when the model lacks a part, or its parts were made with another tokenizer.
    """
    require_png(out)
    drawer = detokenizer_part(highres=highres)
    parts = ("tokenizer", "llm", drawer)
    digests = {part: part_digest(find_part(model, part)) for part in parts}
    for part in ("llm", drawer):
        check_made_with(model, part)
    with stages_for("generate"):
        from lavit_detokenizer.api import load_detokenizer
        from lavit_pretrain.api import load_llm, sample_codes
        from lavit_tokenizer.api import load_tokenizer
    sampling = sample_settings(preset, guidance_scale=guidance_scale, top_k=top_k, temperature=temperature)
    drawing = draw_settings(preset, guidance_scale=decoder_guidance_scale, num_steps=num_steps)
    seeds = [seed + index for index in range(num_images)]
    llm = load_llm(model, device=device)
    codes = sample_codes(llm, [prompt] * num_images, seeds=seeds, settings=sampling, batch_size=BATCH)
    tokenizer, detokenizer = load_tokenizer(model, device=device), load_detokenizer(model, part=drawer, device=device)
    pixels = draw_codes(tokenizer, detokenizer, codes, seeds, drawing)
    made = {
        "prompt": prompt,
        "seed": seed,
        "num_images": num_images,
        "model": digests,
        "sample": sampling.model_dump(mode="json"),
        "draw": drawing.model_dump(mode="json"),
    }
    text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in made.items()}
    picture = pixels[0] if num_images == 1 else in_grid([enlarge(one, 128) for one in pixels])
    save_png(out, picture, {**text, "Software": f"lavit {__version__}"})
    return {"out": str(out), **made, "image_px": int(pixels.shape[1]), "num_codes": [len(one) for one in codes]}
