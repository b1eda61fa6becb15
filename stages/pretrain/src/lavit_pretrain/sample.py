"""`lavit sample`: a prompt becomes a token directory that `lavit detokenize` turns into images."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.errors import InputError
from lavit_core.files import atomic_folder
from lavit_core.tokens import Manifest, TokenSample, write_manifest, write_shard

from lavit_pretrain.config import SampleSettings
from lavit_pretrain.language_model import LanguageModel, load_llm
from lavit_pretrain.sample_codes import sample_codes

SOURCE = "sampled"
"""`source` of a shard whose codes a language model wrote; such codes have no known patches, so keep masks are empty."""


def sample(
    prompts: Sequence[str],
    model: Path,
    out: Path,
    settings: SampleSettings,
    *,
    num_images: int = 1,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
) -> dict[str, Any]:
    """Draw `num_images` images of each prompt as codes and write them to the token directory `out`.

    Raises InputError if `out` is not empty, or the model has no language model.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: a file, expected a folder; give a new --out")
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: not empty; give a new --out")
    llm = load_llm(model, device=device, precision=precision).arrange()
    wanted = [prompt for prompt in prompts for _ in range(num_images)]
    seeds = [seed + place % num_images for place in range(len(wanted))]
    began = time.monotonic()
    codes = sample_codes(llm, wanted, seeds=seeds, settings=settings)
    seconds = time.monotonic() - began
    write_sampled(llm, wanted, codes, out)
    num_codes = sum(map(len, codes))
    return {
        "tokens": str(out),
        "images": len(codes),
        "codes": num_codes,
        "mean_codes": num_codes / max(1, len(codes)),
        "seconds": seconds,
        "per_second": num_codes / seconds,
    }


def write_sampled(llm: LanguageModel, prompts: Sequence[str], codes: Sequence[np.ndarray], out: Path) -> None:
    """Write drawn codes as a token directory, the prompts as captions."""
    visual = llm.visual
    nowhere = np.zeros(visual.grid[0] * visual.grid[1], dtype=bool)
    samples = [
        TokenSample(key=f"{place:06d}", codes=own, keep_mask=nowhere, texts=(prompt,))
        for place, (prompt, own) in enumerate(zip(prompts, codes, strict=True))
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(out) as folder:
        shard = write_shard(
            folder,
            "shard-000000.safetensors",
            samples,
            codebook_size=visual.codebook_size,
            grid=visual.grid,
            source=SOURCE,
        )
        manifest = Manifest(
            tokenizer_digest=visual.tokenizer_digest,
            codebook_size=visual.codebook_size,
            grid=visual.grid,
            preprocessing=visual.preprocessing,
            selection={"policy": SOURCE},
            shards=(shard,),
        )
        write_manifest(folder, manifest)
