"""Training images by index: decoded once into memory if they fit, else read from disk each time."""

import collections
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from lavit_core.errors import InputError
from lavit_core.image_warnings import count_image_warnings, warning_lines
from lavit_core.images import ImageFile, Preprocessing, resized_pixels
from lavit_core.progress import warn
from torch import Tensor

DECODE_THREADS = 2


class Pixels:
    """uint8 images [N, h, w, 3] of one size, from `paths`: a square of `size_px`, or (height, width). PIL releases the
    GIL while it decodes."""

    def __init__(
        self, paths: Sequence[ImageFile], size_px: int | tuple[int, int], *, cache_bytes: int = 1 << 30
    ) -> None:
        self.paths = list(paths)
        self.size_px = (size_px, size_px) if isinstance(size_px, int) else size_px
        self._warned = False
        self._pool = ThreadPoolExecutor(DECODE_THREADS)
        fits = len(self.paths) * self.size_px[0] * self.size_px[1] * 3 <= cache_bytes
        self._cache = self._read(range(len(self.paths))) if fits else None

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: np.ndarray | Sequence[int]) -> Tensor:
        """Return images uint8 [B, h, w, 3]. Raises InputError naming a file that can't be read."""
        if self._cache is not None:
            return torch.from_numpy(self._cache[np.asarray(indices)])
        return torch.from_numpy(self._read([int(index) for index in indices]))

    def _read(self, indices: Sequence[int]) -> np.ndarray:
        out = np.empty((len(indices), *self.size_px, 3), dtype=np.uint8)

        def place(position: int) -> None:
            out[position] = resized_pixels(self.paths[indices[position]], self.size_px)

        counts: collections.Counter[str] = collections.Counter()
        try:
            with count_image_warnings(counts):
                list(self._pool.map(place, range(len(indices))))
        except InputError as error:
            raise InputError(f"{error}; `lavit data inspect` lists every unreadable image") from None
        if counts and not self._warned:
            self._warned = True
            warn(f"images were read with warnings ({warning_lines(counts)[0]}); `lavit data inspect` counts them all")
        return out


def normalise(pixels_u8: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return float32 [B, 3, px, px], (x / 255 - mean) / std, from uint8 [B, px, px, 3] on the same device."""
    mean = torch.tensor(preprocessing.mean, device=pixels_u8.device)
    std = torch.tensor(preprocessing.std, device=pixels_u8.device)
    return ((pixels_u8.float() / 255 - mean) / std).permute(0, 3, 1, 2)
