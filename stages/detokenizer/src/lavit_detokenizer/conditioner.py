"""Codes to the UNet's conditioning without the UNet: a detokenizer part's condition and feature decoder alone."""

import dataclasses
from pathlib import Path

import torch
from lavit_core.modeldir import check_made_with, find_part
from lavit_tokenizer.api import FeatureDecoder, VisualTokenizer
from lavit_trainkit.device import pick_device
from torch import Tensor

from lavit_detokenizer.condition import Condition, Prompt
from lavit_detokenizer.folder import read_condition, read_config, read_decoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conditioner:
    """The condition of a detokenizer, and its own feature decoder if it has one."""

    condition: Condition
    decoder: FeatureDecoder | None

    @torch.no_grad()
    def prompt(self, tokenizer: VisualTokenizer, codes: Tensor, counts: Tensor) -> Prompt:
        """Return the prompt of codes [T] and their counts [B]. Raises InputError as `decode_codes` does."""
        features_BPD = tokenizer.decode_codes(codes, counts, decoder=self.decoder)
        dropped_B = torch.zeros(len(counts), dtype=torch.bool, device=features_BPD.device)
        return self.condition(features_BPD, dropped_B, grid=self.condition.grid)


def load_conditioner(model: Path, *, part: str = "detokenizer", device: str = "auto") -> Conditioner:
    """Load condition and feature decoder of a detokenizer part, whose UNet may be absent. Raises InputError."""
    folder = find_part(model, part)
    check_made_with(model, part)
    config, place = read_config(folder), pick_device(device)
    decoder = read_decoder(folder, config)
    return Conditioner(
        condition=read_condition(folder, config).to(place),
        decoder=None if decoder is None else decoder.to(place),
    )
