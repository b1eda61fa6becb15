"""What networks find in reconstructions: LPIPS of each pair, and the reconstruction FID of all of them.

rFID is FID of the reconstructions against their own images, both at the size at which they are compared and without
another resize before Inception's (torch-fidelity's), as papers on tokenizers compute it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.errors import UsageError
from lavit_core.files import file_sha256
from lavit_scoring.bootstrap import bootstrap_mean
from lavit_scoring.estimate import exact
from lavit_scoring.score import Score

from lavit_evaluation.config import EvalTokenizerConfig
from lavit_evaluation.editing.judges import load_distance
from lavit_evaluation.evaluation_session import EvaluationSession
from lavit_evaluation.image_metrics.fid import BIASED, FEW, FidConfig, check_inception, load_network, too_few
from lavit_evaluation.image_metrics.moments import frechet_distance, moments_of
from lavit_evaluation.options import ReconstructionWeights

BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The metric networks that were given, checked."""

    inception: Path | None
    fid: FidConfig
    lpips: Callable[[np.ndarray, np.ndarray], float] | None
    lpips_name: str
    digests: dict[str, str]
    """SHA-256 of each file, by role."""
    device: str


def open_networks(weights: ReconstructionWeights, config: EvalTokenizerConfig, *, device: str) -> Networks:
    """Check what was given. Raises UsageError for half of what LPIPS needs, InputError, VerificationError."""
    trunk, heads = weights.lpips_trunk, weights.lpips_heads
    if (trunk is None) != (heads is None):
        raise UsageError("LPIPS needs two files: give --lpips-trunk and --lpips-heads, or neither")
    fid = FidConfig(size=None, crop="none", few=config.few, any_inception=config.any_inception)
    digests, distance, name = dict[str, str](), None, "lpips"
    if weights.inception is not None:
        digests["rfid_inception"] = check_inception(weights.inception, fid)
    if trunk is not None and heads is not None:
        distance, name = load_distance(trunk, heads, any_weights=config.any_lpips, device=device)
        digests |= {"lpips_trunk": file_sha256(trunk), "lpips_heads": file_sha256(heads)}
    return Networks(
        inception=weights.inception, fid=fid, lpips=distance, lpips_name=name, digests=digests, device=device
    )


def add_networks(
    score: Score, session: EvaluationSession, drawn: np.ndarray, real: np.ndarray, keys: Sequence[str],
    networks: Networks, seed: int,
) -> dict[str, list[float]]:  # fmt: skip
    """Add `reconstruction.lpips` and `.rfid` of uint8 images [N, px, px, 3]; return the LPIPS of each image."""
    columns = {}
    places = {key: place for place, key in enumerate(keys)}
    if networks.lpips is None:
        score.skipped["reconstruction.lpips"] = "no LPIPS weights given (--lpips-trunk FILE --lpips-heads FILE)"
    else:
        distance = networks.lpips
        rows = session.ask(
            places, lambda some: [{"lpips": distance(drawn[place], real[place])} for place in some],
            session.row_store("lpips"), batch_size=BATCH, unit="image", part="LPIPS",
        )  # fmt: skip
        columns[networks.lpips_name] = [float(row["lpips"]) for row in rows]
        title = f"reconstruction.{networks.lpips_name}"
        score.metrics[title] = bootstrap_mean(columns[networks.lpips_name], keys, seed, title)
    _add_rfid(score, session, {"drawn": drawn, "real": real}, places, networks)
    return columns


def _add_rfid(
    score: Score, session: EvaluationSession, sides: dict[str, np.ndarray], places: dict[str, int], networks: Networks
) -> None:
    name = "reconstruction.rfd" if networks.fid.any_inception else "reconstruction.rfid"
    if networks.inception is None:
        score.skipped[name] = "no Inception weights given (--inception FILE)"
        return
    if reason := too_few(len(places), networks.fid):
        score.skipped[name] = f"{reason}; --set few=true computes it"
        return
    network = load_network(networks.inception, networks.fid, networks.device)
    moments = []
    for side, images in sides.items():

        def answer(some: list[int], images: np.ndarray = images) -> list[dict[str, Any]]:
            return [{"features": row} for row in network([images[place] for place in some])]

        rows = session.ask(
            places, answer, session.array_store(f"inception-{side}"), batch_size=BATCH, unit="image",
            part=f"Inception features, {side}",
        )  # fmt: skip
        moments.append(moments_of(np.stack([row["features"] for row in rows])))
    score.metrics[name] = exact(frechet_distance(*moments), len(places))
    if len(places) < FEW:
        score.notes["rank_deficient"] = f"{len(places):,} images for {FEW:,} features"
    if len(places) < BIASED:
        score.notes["biased"] = f"rFID falls with the number of images; papers use 50,000, here are {len(places):,}"
