"""`lavit eval clip-score`: how well drawn images fit their prompts, by a CLIP from a local directory.

"CLIPScore" names several metrics; each is computed and named:
  clip_score               2.5 max(cos, 0), prompt after "A photo depicts "    Hessel et al. 2021 (arXiv 2104.08718)
  clip_score.torchmetrics  100 max(cos, 0), prompt alone                      torchmetrics
  clip_score.cosine        cos, prompt alone
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.errors import InputError
from lavit_core.files import file_sha256, read_json
from lavit_core.images import CLIP_MEAN, CLIP_STD, Preprocessing, middle_square, open_rgb
from lavit_scoring.bootstrap import bootstrap_mean
from lavit_scoring.references import read_references
from lavit_scoring.score import Score

from lavit_evaluation.compute import Compute
from lavit_evaluation.evaluation_session import evaluation_session
from lavit_evaluation.image_metrics.features import open_folder
from lavit_evaluation.image_metrics.frozen_network import describe, load_frozen, weight_digests
from lavit_evaluation.stores import AnswerLog

VERSION = 2
"""2: the longer side is rounded down before the middle square is cut, as CLIP's preprocessing does."""
PREFIX, WEIGHT = "A photo depicts ", 2.5
VARIANTS = ("clip_score", "clip_score.torchmetrics", "clip_score.cosine")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A CLIP as functions: images (paths) and texts -> unit vectors."""

    images: Callable[[Sequence[np.ndarray]], np.ndarray]
    """uint8 [S, S, 3] images -> float32 [N, D] of length one."""
    texts: Callable[[Sequence[str]], np.ndarray]
    """Texts -> float32 [N, D] of length one."""
    image_px: int
    """Side of its input in pixels."""
    metadata: dict[str, Any]


def clip_scores(images_ND: np.ndarray, prefixed_ND: np.ndarray, plain_ND: np.ndarray) -> dict[str, np.ndarray]:
    """Return each variant's score of each pair, from unit vectors of images, prefixed prompts and prompts alone."""
    prefixed, plain = (images_ND * prefixed_ND).sum(1), (images_ND * plain_ND).sum(1)
    scores = (WEIGHT * prefixed.clip(min=0), 100 * plain.clip(min=0), plain)
    return dict(zip(VARIANTS, scores, strict=True))


def evaluate_clip_score(
    generated: Path, out: Path, clip: Path, *, prompts: Path | None = None, seed: int = 0,
    compute: Compute = Compute(),
) -> dict[str, Any]:  # fmt: skip
    """Score every image of a folder against its prompt and return score.json's content.

    `prompts` is a captions.jsonl (that of `generated` by default); the first caption is the prompt. Raises InputError
    naming what has no partner.
    """
    folder = open_folder(generated, "--generated")
    file = prompts or generated / "captions.jsonl"
    texts = read_prompts(file)
    if lacking := [key for key in folder.keys if key not in texts]:
        raise InputError(f"{prompts or generated}: {len(lacking)} images have no prompt, say {lacking[0]}")
    if absent := sorted(texts.keys() - set(folder.keys)):
        raise InputError(f"--generated {generated}: {len(absent)} prompts have no image, say {absent[0]}")

    inputs = weight_digests(clip) | {"generated": folder.digest, "prompts": file_sha256(file)}
    with evaluation_session(
        out, command="eval clip-score", settings={"seed": seed}, inputs=inputs, quiet=compute.quiet
    ) as session:
        if session.finished:
            return session.finished
        model = load_clip(clip, compute.device)
        with ThreadPoolExecutor(8) as pool:

            def rows(keys: list[str]) -> list[dict[str, float]]:
                pixels = list(pool.map(lambda key: center_square(generated / key, model.image_px), keys))
                said = [texts[key] for key in keys]
                prefixed = model.texts([PREFIX + text for text in said])
                scores = clip_scores(model.images(pixels), prefixed, model.texts(said))
                return [{name: float(values[row]) for name, values in scores.items()} for row in range(len(keys))]

            items = list(
                session.ask({key: key for key in folder.keys}, rows, AnswerLog(out / "items.jsonl"),
                            batch_size=compute.batch_size, unit="image")
            )  # fmt: skip
        found = Score(protocol="clip-score", version=VERSION)
        for name in VARIANTS:
            values = np.array([item[name] for item in items], dtype=np.float64)
            found.metrics[name] = bootstrap_mean(values, range(len(values)), seed, name)
        result = found.as_json({
            "benchmark": "clip-score",
            "inputs": {"generated": folder.digest},
            "settings": model.metadata | {"seed": seed},
            "unit": "see the names",
        })  # fmt: skip
        return session.finish(result)


def read_prompts(file: Path) -> dict[str, str]:
    """Return {image: prompt} of captions.jsonl. Raises InputError."""
    if not file.is_file():
        raise InputError(f"{file}: file not found, expected lines with file_name and captions; give --prompts FILE")
    return {name: captions[0] for name, captions in next(iter(read_references(file).by_kind.values())).items()}


def center_square(file: Path, image_px: int) -> np.ndarray:
    """Return an image as CLIP's own preprocessing cuts it: shorter side to `image_px` (bicubic), middle square."""
    return middle_square(open_rgb(file), image_px, image_px)


def load_clip(folder: Path, device: str, *, option: str = "--clip-model") -> Clip:
    """Load a CLIP from the transformers directory that `option` gave. Raises InputError if `folder` is not one."""
    if not (folder / "config.json").is_file():
        raise InputError(f"{option} {folder}: no config.json here, expected a transformers directory of a CLIP")
    model = load_frozen("CLIPModel", folder, device, option=option, what="CLIP", metric="CLIPScore")
    import torch
    from lavit_trainkit.pixels import normalise
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{option} {folder}: not a CLIP ({' '.join(str(error).split())[:200]})") from None
    file = folder / "preprocessor_config.json"
    preprocessor = read_json(file) if file.is_file() else {}
    preprocessing = Preprocessing(
        image_px=model.config.vision_config.image_size,
        mean=preprocessor.get("image_mean", CLIP_MEAN),
        std=preprocessor.get("image_std", CLIP_STD),
    )
    longest = model.config.text_config.max_position_embeddings

    @torch.inference_mode()
    def images(arrays: Sequence[np.ndarray]) -> np.ndarray:
        pixels = normalise(torch.from_numpy(np.stack(arrays)).to(model.device), preprocessing)
        pooled = model.vision_model(pixel_values=pixels).pooler_output
        return _unit(model.visual_projection(pooled).cpu().numpy())

    @torch.inference_mode()
    def texts(said: Sequence[str]) -> np.ndarray:
        tokens = tokenizer(list(said), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        tokens = tokens.to(model.device)
        pooled = model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).pooler_output
        return _unit(model.text_projection(pooled).cpu().numpy())

    return Clip(
        images=images,
        texts=texts,
        image_px=preprocessing.image_px,
        metadata=describe("clip", folder, model.config.vision_config),
    )


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
