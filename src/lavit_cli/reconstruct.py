"""`lavit reconstruct`: a picture, the patches the tokenizer keeps of it, and what their codes draw, side by side."""

import json
from pathlib import Path
from typing import Any

from lavit_core.distributions import require_stages
from lavit_core.images import square_pixels
from lavit_core.modeldir import check_made_with, detokenizer_part, find_part, part_digest

from lavit_cli import __version__
from lavit_cli.drawing import draw_settings, require_png
from lavit_cli.pictures import dim_dropped, enlarge, in_grid, save_png


def reconstruct(
    image: Path,
    model: Path,
    out: Path,
    *,
    highres: bool = False,
    preset: str = "tiny",
    guidance_scale: float | None = None,
    num_steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
) -> dict[str, Any]:
    """Write original | kept patches | reconstruction as one PNG. Raises InputError for a bad picture or model."""
    require_png(out)
    drawer = detokenizer_part(highres=highres)
    digests = {part: part_digest(find_part(model, part)) for part in ("tokenizer", drawer)}
    check_made_with(model, drawer)
    with require_stages("lavit reconstruct"):
        import torch
        from lavit_detokenizer.api import draw_codes, load_detokenizer
        from lavit_tokenizer.api import load_tokenizer
    tokenizer = load_tokenizer(model, device=device, use="encode")
    pixels = square_pixels(image, tokenizer.config.preprocessing.image_px)
    with torch.inference_mode():
        encoded = tokenizer.encode(torch.from_numpy(pixels.copy())[None])
    keep_mask, codes = encoded.keep_mask[0].cpu().numpy(), encoded.codes.cpu().numpy()
    drawing = draw_settings(preset, guidance_scale=guidance_scale, num_steps=num_steps)
    tokenizer = load_tokenizer(model, device=device, use="decode")  # in the other's place: half the memory
    detokenizer = load_detokenizer(model, part=drawer, device=device, precision=precision)
    back = draw_codes(detokenizer, tokenizer, [codes], seeds=[seed], settings=drawing)[0]
    grid = tokenizer.config.grid
    panels = [enlarge(one) for one in (pixels, dim_dropped(pixels, keep_mask, grid))]
    panels.append(enlarge(back) if back.shape == pixels.shape else enlarge(_as_large(back, pixels.shape[0])))
    made = {
        "image": str(image),
        "seed": seed,
        "model": digests,
        "draw": drawing.model_dump(mode="json"),
        "precision": precision,
    }
    text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in made.items()}
    save_png(out, in_grid(panels, columns=3), {**text, "Software": f"lavit {__version__}"})
    return {
        "out": str(out),
        **made,
        "kept": int(keep_mask.sum()),
        "patches": int(keep_mask.size),
        "codes": codes.tolist(),
    }


def _as_large(pixels: Any, side_px: int) -> Any:
    """The detokenizer may draw at another size than the encoder reads (published: 512 and 224)."""
    import numpy as np
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((side_px, side_px), Image.Resampling.BICUBIC))
