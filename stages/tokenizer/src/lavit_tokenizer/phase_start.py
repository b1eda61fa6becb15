"""The start of a phase of `train-tokenizer`: the keep threshold and the first codebook, from training images."""

import numpy as np
import torch
from lavit_core.seeds import derive_seed
from lavit_trainkit.device import generator
from lavit_trainkit.distributed import broadcast_from_main, from_main

from lavit_tokenizer.codebook_stats import CodebookStats
from lavit_tokenizer.config import TrainTokenizerConfig
from lavit_tokenizer.features import FeatureSource
from lavit_tokenizer.objective import code_vectors
from lavit_tokenizer.phase import Phase
from lavit_tokenizer.tokenizer import VisualTokenizer

START_BATCH = 64
"""Images a forward pass while the codebook is started."""


def start_phase(
    tokenizer: VisualTokenizer,
    source: FeatureSource,
    train: np.ndarray,
    config: TrainTokenizerConfig,
    phase: Phase,
    stats: CodebookStats,
    *,
    is_resumed: bool,
    seed: int,
) -> None:
    """Calibrate the keep threshold and start the codebook, where the phase needs them.

    A phase that is resumed within has its codebook from the checkpoint.
    """
    if phase.selection == "fixed" and config.calibrate_threshold:
        calibrate_threshold(tokenizer, source, train[: config.statistics_images])
    if phase.quantise and not is_resumed and not stats.codebook_started:
        start_codebook(tokenizer, source, train, config, phase, seed=seed)
        stats.codebook_started = True


@torch.no_grad()
def calibrate_threshold(tokenizer: VisualTokenizer, source: FeatureSource, indices: np.ndarray) -> None:
    """Set the keep threshold so that `keep_ratio` of the given images' patches are kept (of a frozen selector).

    The loss holds the mean of sampled masks at the ratio; a selector that is still undecided about many patches keeps
    another share once it takes the likelier class.
    """
    parts = [indices[start : start + 128] for start in range(0, len(indices), 128)]
    scores = torch.cat([tokenizer.selector(source.batch(part))[..., 0].exp().flatten() for part in parts])
    kept = max(1, round(tokenizer.config.keep_ratio * len(scores)))
    threshold = from_main(float(scores.sort(descending=True).values[kept - 1]))
    tokenizer.config = tokenizer.config.model_copy(update={"keep_threshold": threshold})


@torch.no_grad()
def start_codebook(
    tokenizer: VisualTokenizer,
    source: FeatureSource,
    train: np.ndarray,
    config: TrainTokenizerConfig,
    phase: Phase,
    *,
    seed: int,
) -> None:
    """Start the codebook by k-means over vectors of random training images: those the phase is about to quantise."""
    order = np.random.default_rng(derive_seed(seed, "kmeans")).permutation(train)
    found, parts = 0, []
    for step, start in enumerate(range(0, len(order), START_BATCH)):
        x_BPD = source.batch(order[start : start + START_BATCH])
        parts.append(code_vectors(tokenizer, x_BPD, phase, step=step, seed=seed))
        found += len(parts[-1])
        if found >= config.kmeans_samples:
            break
    vectors = torch.cat(parts)[: config.kmeans_samples]
    stream = generator(seed, "kmeans")
    tokenizer.quantizer.start_from(vectors, iterations=config.kmeans_iterations, stream=stream)
    broadcast_from_main(tokenizer.quantizer.buffers())
