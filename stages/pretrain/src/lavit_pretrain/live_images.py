"""Images encoded again while the language model trains (`image_input: live`), as published.

Encoder and selector stay frozen; only the merger's copy learns. Patches are those the token files kept, so a document's
length is known before its image is read.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from lavit_core.data import Data
from lavit_core.errors import InputError
from lavit_core.tokens import TokenReader, check_keys_apart
from lavit_trainkit.pixels import Pixels
from torch import Tensor


class LiveImages:
    """Encoder features of images by their index in the token reader."""

    def __init__(self, reader: TokenReader, model: Path, data: Data, device: torch.device) -> None:
        from lavit_tokenizer.api import load_tokenizer

        self.reader, self.device = reader, device
        self.tokenizer = load_tokenizer(model, device=str(device))
        self.feature_dim = int(self.tokenizer.config.feature_dim)
        paths = {record.key: record.image for record in data.records}
        check_keys_apart(reader)
        keys = reader.keys(np.arange(len(reader)))
        absent = [key for key in keys if key not in paths]
        if absent:
            raise InputError(
                f"{data.root}: {len(absent)} of {len(keys)} images of the token files are not here "
                f"(first: {absent[0]}); give the --data that was tokenized"
            )
        self.pixels = Pixels([paths[key] for key in keys], self.tokenizer.config.preprocessing.image_px)

    @torch.no_grad()
    def select(self, samples: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return features [B, P, D] and keep masks [B, P] of images, as the merger takes them."""
        indices = np.asarray(samples, dtype=np.int64)
        features_BPD, _ = self.tokenizer.select(self.pixels.batch(indices).to(self.device))
        keep_BP = torch.from_numpy(self.reader.keep_masks(indices)).to(self.device)
        return features_BPD, keep_BP
