"""What an edited image is compared by: pixels always, CLIP, DINO and LPIPS where their local weights are given.

l1, l2     mean absolute and mean squared difference, edited image resized to the target (MagicBrush's script)
ssim       structural similarity of the same
lpips      LPIPS 0.1 of the same; lpips_vgg with VGG-16's weights
clip_i     cosine of the CLIP vectors of edited image and target; "CLIP-im" of others
dino       the same by DINO's class token
clip_t     cosine of the CLIP vectors of edited image and description; clip_t_oracle: of target and description
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.distributions import require_stages
from lavit_core.errors import InputError, UsageError
from lavit_core.files import file_sha256
from lavit_core.images import middle_square, open_rgb, resize_to_square
from lavit_scoring.metrics.pixels import WINDOW, l1_distance, l2_distance, ssim
from PIL import Image

from lavit_evaluation.editing.config import EditScoreConfig
from lavit_evaluation.editing.dino import INPUT_PX, SHORTER_PX, Dino, load_dino
from lavit_evaluation.editing.turns import Edit
from lavit_evaluation.image_metrics.clip_score import Clip, load_clip
from lavit_evaluation.options import Weights

TARGETS_KEPT = 64
"""Targets whose vectors are remembered: a target is compared with a single-turn and a multi-turn image."""


@dataclass(frozen=True, kw_only=True)
class Judges:
    """The metrics that can be computed, and why the others can't."""

    clip: Clip | None = None
    dino: Dino | None = None
    lpips: Callable[[np.ndarray, np.ndarray], float] | None = None
    """Two uint8 images [H, W, 3] of one size -> their distance."""
    lpips_name: str = "lpips"
    skipped: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    """Which weights, with their digests."""


def load_judges(weights: Weights, config: EditScoreConfig, *, device: str) -> Judges:
    """Load what was given.

    Raises UsageError for half of what LPIPS needs, InputError and VerificationError for weights that can't be used.
    """
    trunk, heads = weights.lpips_trunk, weights.lpips_heads
    if (trunk is None) != (heads is None):
        raise UsageError("LPIPS needs two files: give --lpips-trunk and --lpips-heads, or neither")
    clip = dino = distance = None
    name, skipped, metadata = "lpips", dict[str, str](), dict[str, Any]()
    if weights.clip is None:
        skipped |= dict.fromkeys(("clip_i", "clip_t"), "no CLIP weights given (--clip-model DIR)")
    else:
        clip = load_clip(weights.clip, device)
        metadata |= clip.metadata
    if weights.dino is None:
        skipped["dino"] = "no DINO weights given (--dino DIR)"
    else:
        dino = load_dino(weights.dino, device)
        metadata |= dino.metadata
    if trunk is None or heads is None:
        skipped["lpips"] = "no LPIPS weights given (--lpips-trunk FILE --lpips-heads FILE)"
    else:
        distance, name = load_distance(trunk, heads, any_weights=config.any_lpips, device=device)
        metadata["lpips_digests"] = {"trunk": file_sha256(trunk), "heads": file_sha256(heads)}
    return Judges(clip=clip, dino=dino, lpips=distance, lpips_name=name, skipped=skipped, metadata=metadata)


def load_distance(
    trunk: Path, heads: Path, *, any_weights: bool, device: str
) -> tuple[Callable[[np.ndarray, np.ndarray], float], str]:
    """Return LPIPS of two uint8 images [H, W, 3], and what the metric is called with these weights.

    Raises InputError, and VerificationError for weights other than the published unless `any_weights`.
    """
    try:
        with require_stages("LPIPS"):
            from lavit_trainkit.device import pick_device

            from lavit_evaluation.editing.lpips import ALEXNET, load_lpips, lpips_distance
    except ModuleNotFoundError as error:
        raise InputError(f"LPIPS needs {error.name}; run `pip install {error.name}`") from None
    network = load_lpips(trunk, heads, any_weights=any_weights, device=pick_device(device))
    name = "lpips" if network.trunk is ALEXNET else "lpips_vgg"
    return lambda one, other: lpips_distance(network, one, other), "lpips_other" if any_weights else name


class Measure:
    """Measures edited images one by one, so that no metric depends on which others are measured beside it."""

    def __init__(self, judges: Judges, config: EditScoreConfig) -> None:
        self.judges, self.config = judges, config
        self._of_target = lru_cache(TARGETS_KEPT)(lambda target: self._vectors(open_rgb(target)))

    def pixels(self, edit: Edit, edited: Path) -> dict[str, float]:
        """Return what needs no network: l1, l2 and, where both are large enough, ssim."""
        one, other = self._pair(edit, edited)
        row = {"l1": l1_distance(one, other), "l2": l2_distance(one, other)}
        return row | ({"ssim": ssim(one, other)} if min(one.shape[:2]) >= WINDOW else {})

    def networks(self, edit: Edit, edited: Path) -> dict[str, float]:
        """Return what CLIP, DINO and LPIPS say, of those that are there."""
        judges, row = self.judges, dict[str, float]()
        mine, target = self._vectors(open_rgb(edited)), self._of_target(edit.target)
        row |= {name: float(mine[name] @ target[name]) for name in mine}
        if judges.clip is not None and edit.description is not None:
            said = judges.clip.texts([edit.description])[0]
            row |= {"clip_t": float(mine["clip_i"] @ said), "clip_t_oracle": float(target["clip_i"] @ said)}
        if judges.lpips is not None:
            row[judges.lpips_name] = judges.lpips(*self._pair(edit, edited))
        return row

    def _pair(self, edit: Edit, edited: Path) -> tuple[np.ndarray, np.ndarray]:
        target, image = open_rgb(edit.target), open_rgb(edited)
        if self.config.size is not None:
            return resize_to_square(image, self.config.size), resize_to_square(target, self.config.size)
        if image.size != target.size:
            image = image.resize(target.size, Image.Resampling.BICUBIC)
        return np.asarray(image), np.asarray(target)

    def _vectors(self, image: Image.Image) -> dict[str, np.ndarray]:
        vectors, clip, dino = {}, self.judges.clip, self.judges.dino
        if clip is not None:
            vectors["clip_i"] = clip.images([middle_square(image, clip.image_px, clip.image_px)])[0]
        if dino is not None:
            vectors["dino"] = dino.images([middle_square(image, SHORTER_PX, INPUT_PX)])[0]
        return vectors
