"""Images as codes or continuous rows, as sequences hold them."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedImages:
    """B images as a language model reads them: T codes, or T continuous rows of width D, one image after another."""

    counts: np.ndarray
    """int64 [B]"""
    codes: np.ndarray | None = None
    """int64 [T]"""
    features: np.ndarray | None = None
    """float32 [T, D]; for a live model already through its own merger."""

    def __len__(self) -> int:
        return len(self.counts)

    def each(self) -> list[np.ndarray]:
        """Return each image's codes int64 [n], or its continuous rows float32 [n, D]."""
        flat = self.codes if self.codes is not None else self.features
        assert flat is not None, "images of a model that reads none"
        return np.split(flat, np.cumsum(self.counts)[:-1])

    def take(self, indices: Sequence[int] | np.ndarray) -> "EncodedImages":
        """Return images in another order, or some of them several times (one a question, say)."""
        starts = np.concatenate([[0], np.cumsum(self.counts)])
        chosen = np.asarray(indices, dtype=np.int64)
        rows = [np.arange(starts[i], starts[i + 1]) for i in chosen]
        flat = np.concatenate(rows) if rows else np.empty(0, np.int64)
        return EncodedImages(
            counts=self.counts[chosen],
            codes=None if self.codes is None else self.codes[flat],
            features=None if self.features is None else self.features[flat],
        )


def join_images(parts: Sequence[EncodedImages]) -> EncodedImages:
    """Return several batches of images as one."""
    codes = [part.codes for part in parts if part.codes is not None]
    features = [part.features for part in parts if part.features is not None]
    return EncodedImages(
        counts=np.concatenate([part.counts for part in parts]),
        codes=np.concatenate(codes) if codes else None,
        features=np.concatenate(features) if features else None,
    )
