"""`lavit eval fid` and `lavit eval fid-stats`: drawn images against real ones, or against saved statistics."""

import time
from collections.abc import Iterable, Mapping
from functools import cache, reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lavit_core.config import Config
from lavit_core.errors import InputError, UsageError
from lavit_core.files import file_sha256
from lavit_scoring.estimate import exact
from lavit_scoring.score import Score
from pydantic import Field

from lavit_evaluation.compute import Compute
from lavit_evaluation.evaluation_session import evaluation_session
from lavit_evaluation.image_metrics.features import Featurize, Folder, open_folder, read_features
from lavit_evaluation.image_metrics.kid import SUBSET_SIZE, SUBSETS, kid
from lavit_evaluation.image_metrics.moments import (
    Moments,
    frechet_distance,
    load_moments,
    merge,
    moments_of,
    save_moments,
)

VERSION = 1
STATISTICS_FILE = "statistics.safetensors"
FEW, BIASED = 2048, 10_000
"""Below as many images as features the covariance has no full rank; below 10,000 the bias is about a point."""
INSTEAD = "look at KID, or give --allow-small-sample"
NO_FEATURES = "statistics hold no single features; give --real"


class FidConfig(Config):
    """How images reach Inception; the defaults are those of LaVIT's script."""

    size: int | None = Field(512, ge=1)
    """Side in pixels that images are brought to before Inception's own resize; null leaves them as they are."""
    crop: Literal["squash", "center", "none"] = "squash"
    """How they are brought there: squashed, or cut to the middle square first; bicubic either way."""
    preprocess: Literal["torch-fidelity", "torchmetrics", "pytorch-fid", "clean-fid"] = "torch-fidelity"
    """Whose resize to 299 pixels and scaling; FIDs of different ones are not comparable."""
    few: bool = False
    """Compute FID of fewer than 2,048 images too (rank-deficient, marked)."""
    any_inception: bool = False
    """Take other weights than the published; the metrics are then named fd and kd."""

    @property
    def protocol(self) -> str:
        """lavit where everything is as in the release, else custom."""
        same = (self.size, self.crop, self.preprocess) == (512, "squash", "torch-fidelity") and not self.any_inception
        return "lavit" if same else "custom"

    @property
    def names(self) -> tuple[str, str]:
        """What the Fréchet distance and the kernel distance are called."""
        return ("fd", "kd") if self.any_inception else ("fid", "kid")

    def image_settings(self) -> dict[str, Any]:
        """Return what two sides must have in common to be compared."""
        return {"size": self.size, "crop": self.crop, "preprocess": self.preprocess}


def statistics(
    images: Path, inception: Path, out: Path, config: FidConfig, *, compute: Compute = Compute()
) -> dict[str, Any]:
    """Write the feature statistics of a folder into a run directory, for use as a reference."""
    digest = check_inception(inception, config)
    folder = open_folder(images, "IMAGES")
    inputs = {"inception": digest, "pictures_digest": folder.digest}

    with evaluation_session(
        out, command="eval fid-stats", settings=config.model_dump(mode="json"), inputs=inputs, quiet=compute.quiet
    ) as session:
        if session.finished:
            return session.finished
        network = load_network(inception, config, compute.device)
        metadata = {**config.image_settings(), "inception": digest, "pictures_digest": folder.digest}
        features = read_features(
            session, {"real": folder}, out / "features", size=config.size, crop=config.crop, featurize=network,
            batch_size=compute.batch_size,
        )  # fmt: skip
        moments = moments_of_all(features["real"])
        save_moments(out / STATISTICS_FILE, moments, metadata)
        return session.finish({"statistics": str(out / STATISTICS_FILE), "pictures": moments.count, **metadata})


def evaluate_fid(
    generated: Path, out: Path, inception: Path, config: FidConfig, *, real: Path | Folder | None = None,
    reference: Path | None = None, seed: int = 0, compute: Compute = Compute(),
) -> dict[str, Any]:  # fmt: skip
    """Compare drawn images with real ones, or with saved statistics, and return score.json's content.

    Raises UsageError, InputError, VerificationError, Interrupted.
    """
    if (real is None) == (reference is None):
        raise UsageError("give either --real FOLDER or --reference STATISTICS")
    digest = check_inception(inception, config)
    sides = {"generated": open_folder(generated, "--generated")}
    inputs = {"inception": digest, "generated": sides["generated"].digest}
    metadata: dict[str, Any] = {}
    known: Moments | None = None
    if real is not None:
        sides["real"] = real if isinstance(real, Folder) else open_folder(real, "--real")
        inputs["real"] = sides["real"].digest
    elif reference is not None:
        known, metadata = read_reference(reference, config, digest)
        inputs["reference"] = file_sha256(reference)
    settings = {**config.model_dump(mode="json"), "seed": seed}

    with evaluation_session(
        out, command="eval fid", formerly="eval coco-fid", settings=settings, inputs=inputs, quiet=compute.quiet
    ) as session:
        if session.finished:
            return session.finished
        began = time.monotonic()
        network = load_network(inception, config, compute.device)
        features = read_features(
            session, sides, out / "features", size=config.size, crop=config.crop, featurize=network,
            batch_size=compute.batch_size,
        )  # fmt: skip
        found = Score(protocol=config.protocol, version=VERSION)
        mine = moments_of_all(features["generated"])
        truth = known if known is not None else moments_of_all(features["real"])
        _add_fid(found, mine, truth, metadata, config)
        _add_kid(found, features, config, seed)
        found.seconds["score"] = time.monotonic() - began
        counts = {"generated": mine.count, "real": truth.count if is_counted(metadata) else None}
        result = found.as_json(
            {"benchmark": "fid", "inputs": inputs, "pictures": counts, "settings": settings, "unit": "1",
             "reference": metadata or None}
        )  # fmt: skip
        return session.finish(result)


def moments_of_all(shards: Iterable[np.ndarray]) -> Moments:
    """Return the moments of all shards together."""
    return reduce(merge, map(moments_of, shards))


def _add_fid(score: Score, mine: Moments, truth: Moments, metadata: dict[str, Any], config: FidConfig) -> None:
    name, _ = config.names
    smallest = min(mine.count, truth.count) if is_counted(metadata) else mine.count
    if reason := too_few(smallest, config):
        score.skipped[name] = f"{reason}; {INSTEAD}"
        return
    score.metrics[name] = exact(frechet_distance(mine, truth), mine.count)
    if smallest < FEW:
        score.notes["rank_deficient"] = f"{smallest:,} images for {FEW:,} features"
    if smallest < BIASED:
        score.notes["biased"] = f"FID falls with the number of images; papers use 30,000, here are {smallest:,}"


def _add_kid(score: Score, features: Mapping[str, list[np.ndarray]], config: FidConfig, seed: int) -> None:
    _, name = config.names
    if "real" not in features:
        score.skipped[name] = NO_FEATURES
        return
    one, other = (np.concatenate(features[side]) for side in ("generated", "real"))
    if min(len(one), len(other)) < 2:
        score.skipped[name] = "needs two images a side"
        return
    drawn = kid(one, other, seed=seed)
    score.metrics[name] = exact(float(drawn.mean()), len(one))
    size = min(SUBSET_SIZE, len(one), len(other))
    score.notes[name] = f"mean over {SUBSETS} subsets of {size}; their standard deviation is {drawn.std():.3g}"


def too_few(smallest: int, config: FidConfig) -> str | None:
    """Return why the smaller of two sides gives no FID, None where it gives one."""
    if smallest >= FEW or config.few:
        return None
    return f"{smallest:,} images, fewer than {FEW:,} features: the covariance has no full rank"


def is_counted(metadata: dict[str, Any]) -> bool:
    """Return whether statistics say of how many images they are (pytorch-fid's do not)."""
    return bool(metadata.get("count") != "not known")


def check_inception(inception: Path, config: FidConfig) -> str:
    """Return the SHA-256 of the weights. Raises InputError without them or torch, VerificationError for others."""
    try:
        from lavit_evaluation.image_metrics.inception import check_weights
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise InputError("FID needs torch, which is not installed; run `pip install torch`") from None
    return check_weights(inception, any_weights=config.any_inception)


def read_reference(file: Path, config: FidConfig, digest: str) -> tuple[Moments, dict[str, Any]]:
    """Return saved statistics and what they are of. Raises InputError when they were made in another way."""
    moments, metadata = load_moments(file)
    wanted = {**config.image_settings(), "inception": digest}
    for key, value in wanted.items():
        if metadata.get(key, value) != value and metadata.get(key) != "not known":
            raise InputError(
                f"--reference {file}: made with {key} = {metadata[key]!r}, now it is {value!r}; make it again"
            )
    return moments, metadata


def load_network(inception: Path, config: FidConfig, device: str) -> Featurize:
    """Return Inception as a function; it is loaded when features are first asked for."""

    @cache
    def loaded() -> tuple[Any, Any, Any]:
        from lavit_trainkit.device import pick_device

        from lavit_evaluation.image_metrics.inception import load_inception
        from lavit_evaluation.image_metrics.preprocess import PREPROCESS

        where = pick_device(device)
        return load_inception(inception, where), PREPROCESS[config.preprocess], where

    def featurize(images: list[np.ndarray]) -> np.ndarray:
        import torch

        network, preprocess, where = loaded()
        with torch.inference_mode():
            inputs = [preprocess(torch.from_numpy(one.copy()).permute(2, 0, 1)[None].to(where)) for one in images]
            features: np.ndarray = network(torch.cat(inputs)).float().cpu().numpy()
        return features

    return featurize
