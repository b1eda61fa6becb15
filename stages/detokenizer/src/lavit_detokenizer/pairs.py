"""Training pairs: the decoded features of stored codes, and the images that the codes were made from, joined by key."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from lavit_core.data import Data, Record
from lavit_core.errors import InputError
from lavit_core.images import ImageFile
from lavit_core.tokens import TokenReader
from lavit_tokenizer.api import VisualTokenizer
from lavit_trainkit.cached_rows import CachedRows
from lavit_trainkit.device import generator
from lavit_trainkit.pixels import Pixels
from torch import Tensor

from lavit_detokenizer.network import Detokenizer, to_sample, to_unit_range
from lavit_detokenizer.sizes import trained_sizes
from lavit_detokenizer.vae import latent_moments, sample_latents


def image_records(reader: TokenReader, images: Data, tokens: Path) -> list[Record]:
    """Return the image of every sample. Raises InputError naming the first key that has none."""
    by_key = {record.key: record for record in images.records}
    keys = reader.keys(np.arange(len(reader)))
    missing = [key for key in keys if key not in by_key]
    if missing:
        more = f" (and {len(missing) - 1} more)" if missing[1:] else ""
        raise InputError(
            f"{images.root}: no image {missing[0]}{more}, but {tokens} has its codes; "
            "give --images the folder that was tokenized"
        )
    return [by_key[key] for key in keys]


class TrainingPairs:
    """Condition and clean sample of each stored code sequence, by index.

    `bucket_N` is the index of each image's size in `trained_sizes` (None: all are of the first); what is asked for
    together is of one size. Decoded features, images and posteriors of latents are each cached if they fit in
    `cache_bytes`, or those of a size in its images' share of it.
    """

    def __init__(
        self,
        reader: TokenReader,
        paths: Sequence[ImageFile],
        tokenizer: VisualTokenizer,
        detokenizer: Detokenizer,
        *,
        cache_bytes: int,
        bucket_N: np.ndarray | None = None,
        quiet: bool,
    ) -> None:
        self.detokenizer, self.device = detokenizer, detokenizer.device
        self.bucket_N = np.zeros(len(paths), dtype=np.int64) if bucket_N is None else bucket_N
        self.sizes_px = trained_sizes(detokenizer.config)

        def decode(indices: np.ndarray) -> Tensor:
            codes, counts = reader.codes(indices)
            return tokenizer.decode_codes(torch.from_numpy(codes), torch.from_numpy(counts)).cpu().bfloat16()

        row_bytes = tokenizer.config.num_patches * tokenizer.config.decoder_width * 2
        self._features = CachedRows(
            decode, len(reader), row_bytes, cache_bytes=cache_bytes, title="decode codes", quiet=quiet
        )
        self._row_N = np.empty(len(paths), dtype=np.int64)  # of each image among those of its size
        self._images: dict[int, _SizedImages] = {}
        for bucket in np.unique(self.bucket_N).tolist():
            own = np.flatnonzero(self.bucket_N == bucket)
            self._row_N[own] = np.arange(len(own))
            share = cache_bytes * len(own) // len(paths)
            files, size_px = [paths[index] for index in own.tolist()], self.sizes_px[bucket]
            self._images[bucket] = _SizedImages(files, size_px, detokenizer, cache_bytes=share, quiet=quiet)

    def features(self, indices: np.ndarray) -> Tensor:
        """Return the decoded features of samples, float32 [B, P, D]."""
        return self._features.batch(indices).float().to(self.device)

    def size_px(self, indices: np.ndarray) -> tuple[int, int]:
        """Return the height and width that the images of samples are learned at; they are of one."""
        return self.sizes_px[self._bucket(indices)]

    def pixels(self, indices: np.ndarray) -> np.ndarray:
        """Return the images of samples, uint8 [B, h, w, 3]."""
        return self._images[self._bucket(indices)].pixels.batch(self._row_N[indices]).numpy()

    def clean(self, indices: np.ndarray, rows: slice, *, seed: int, step: int) -> Tensor:
        """Return `rows` of a step's images as diffusion sees them, float32 [B, C, H, W]: pixels, or latents that are
        drawn from their posterior with noise for the whole step."""
        detokenizer, images, own = self.detokenizer, self._images[self._bucket(indices)], self._row_N[indices]
        if detokenizer.vae is None or images.posteriors is None:
            return to_sample(images.pixels.batch(own[rows]), detokenizer.config.unshuffle).to(self.device)
        shape = detokenizer.shape_of(self.size_px(indices))
        noise = torch.randn((len(indices), *shape), generator=generator(seed, "latents", step))
        return sample_latents(detokenizer.vae, images.posteriors.batch(own[rows]), noise[rows]).to(self.device)

    def _bucket(self, indices: np.ndarray) -> int:
        [bucket] = np.unique(self.bucket_N[indices]).tolist()
        return int(bucket)


class _SizedImages:
    """The images of one size, and with a VAE the posteriors of their latents."""

    def __init__(
        self,
        paths: Sequence[ImageFile],
        size_px: tuple[int, int],
        detokenizer: Detokenizer,
        *,
        cache_bytes: int,
        quiet: bool,
    ) -> None:
        self.pixels = Pixels(paths, size_px, cache_bytes=cache_bytes)
        self._vae, self._device = detokenizer.vae, detokenizer.device
        self.posteriors: CachedRows | None = None
        if self._vae is not None:
            row_bytes = self._encode(np.arange(1)).nbytes
            self.posteriors = CachedRows(
                self._encode, len(paths), row_bytes, cache_bytes=cache_bytes, title="encode latents", quiet=quiet
            )

    def _encode(self, indices: np.ndarray) -> Tensor:
        assert self._vae is not None
        return latent_moments(self._vae, to_unit_range(self.pixels.batch(indices).to(self._device))).cpu()
