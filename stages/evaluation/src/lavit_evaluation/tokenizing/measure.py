"""Reconstructions against their images: the same measures for a model of ours and for files of anyone."""

from collections.abc import Mapping, Sequence

import numpy as np
from lavit_core.json_lines import write_json_lines
from lavit_scoring.score import Score

from lavit_evaluation.evaluation_session import EvaluationSession
from lavit_evaluation.tokenizing.metrics import add_reconstruction
from lavit_evaluation.tokenizing.networks import Networks, add_networks

PROTOCOL, VERSION = "lavit-tokenizer", 1


def measure_reconstructions(
    score: Score, session: EvaluationSession, drawn: np.ndarray, real: np.ndarray, keys: Sequence[str], *,
    grid: tuple[int, int] | None, networks: Networks, seed: int,
) -> dict[str, list[float]]:  # fmt: skip
    """Add `reconstruction.*` of uint8 images [N, px, px, 3], and return the metrics of each image."""
    columns = add_reconstruction(score, drawn, real, keys, grid=grid, seed=seed)
    return columns | add_networks(score, session, drawn, real, keys, networks, seed)


def write_items(session: EvaluationSession, keys: Sequence[str], columns: Mapping[str, Sequence[float]]) -> None:
    """Write items.jsonl, the metrics of each image, by which two scores are compared image by image."""
    if session.run is not None:
        values = zip(*columns.values(), strict=True)
        rows = [{"id": key, **dict(zip(columns, own, strict=True))} for key, own in zip(keys, values, strict=True)]
        write_json_lines(session.run.path / "items.jsonl", rows)
