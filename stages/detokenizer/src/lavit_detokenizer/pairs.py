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

    Decoded features, images and posteriors of latents are each cached if they fit in `cache_bytes`.
    """

    def __init__(
        self,
        reader: TokenReader,
        paths: Sequence[ImageFile],
        tokenizer: VisualTokenizer,
        detokenizer: Detokenizer,
        *,
        cache_bytes: int,
        quiet: bool,
    ) -> None:
        self.detokenizer, self.device = detokenizer, detokenizer.device
        self._pixels = Pixels(paths, detokenizer.config.image_px, cache_bytes=cache_bytes)

        def decode(indices: np.ndarray) -> Tensor:
            codes, counts = reader.codes(indices)
            return tokenizer.decode_codes(torch.from_numpy(codes), torch.from_numpy(counts)).cpu().bfloat16()

        row_bytes = tokenizer.config.num_patches * tokenizer.config.decoder_width * 2
        self._features = CachedRows(
            decode, len(reader), row_bytes, cache_bytes=cache_bytes, title="decode codes", quiet=quiet
        )
        self._posteriors: CachedRows | None = None
        if detokenizer.vae is not None:
            row_bytes = self._encode(np.arange(1)).nbytes
            self._posteriors = CachedRows(
                self._encode, len(reader), row_bytes, cache_bytes=cache_bytes, title="encode latents", quiet=quiet
            )

    def features(self, indices: np.ndarray) -> Tensor:
        """Return the decoded features of samples, float32 [B, P, D]."""
        return self._features.batch(indices).float().to(self.device)

    def pixels(self, indices: np.ndarray) -> np.ndarray:
        """Return the images of samples, uint8 [B, px, px, 3]."""
        return self._pixels.batch(indices).numpy()

    def clean(self, indices: np.ndarray, rows: slice, *, seed: int, step: int) -> Tensor:
        """Return `rows` of a step's images as diffusion sees them, float32 [B, C, H, W]: pixels, or latents that are
        drawn from their posterior with noise for the whole step."""
        detokenizer = self.detokenizer
        if detokenizer.vae is None or self._posteriors is None:
            return to_sample(self._pixels.batch(indices[rows]), detokenizer.config.unshuffle).to(self.device)
        noise = torch.randn((len(indices), *detokenizer.sample_shape), generator=generator(seed, "latents", step))
        return sample_latents(detokenizer.vae, self._posteriors.batch(indices[rows]), noise[rows]).to(self.device)

    def _encode(self, indices: np.ndarray) -> Tensor:
        assert self.detokenizer.vae is not None
        return latent_moments(self.detokenizer.vae, to_unit_range(self._pixels.batch(indices).to(self.device))).cpu()
