"""Watching the codebook: usage and perplexity over a window of steps, whether it collapsed, final figures."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lavit_core.rundir import Diagnostic
from torch import Tensor

from lavit_tokenizer.config import Phase, TrainTokenizerConfig
from lavit_tokenizer.diagnose import collapsed
from lavit_tokenizer.features import FeatureSource
from lavit_tokenizer.objective import kept_figures, mean_predictor
from lavit_tokenizer.quantizer import usage
from lavit_tokenizer.selector import select_threshold
from lavit_tokenizer.tokenizer import VisualTokenizer


class CodeWatch:
    """Counts the codes of a window of steps; its state goes into checkpoints, so that a resumed run says the same."""

    def __init__(self, config: TrainTokenizerConfig) -> None:
        self._config = config
        self._counts = torch.zeros(config.model.codebook_size, dtype=torch.int64)
        self._restarted = 0
        self.codebook_started = False
        self.figures: dict[str, float | int] = {}
        """The last full window's `code_usage` (share of the codebook), `perplexity` and `restarted` codes."""

    def count(self, codes_T: Tensor, restarted: int) -> None:
        """Add one step's codes, and how many dead codes were restarted in it."""
        self._counts += torch.bincount(codes_T.cpu(), minlength=self._counts.numel())
        self._restarted += restarted

    def close_window(self, steps_of_phase: int, phase: Phase) -> list[Diagnostic]:
        """At a window's end: take its figures, start the next one, and return that the codebook collapsed if it did."""
        if not phase.quantise or steps_of_phase % self._config.window_steps:
            return []
        share, perplexity = usage(self._counts)
        self.figures = {"code_usage": share, "perplexity": perplexity, "restarted": self._restarted}
        num_tokens, num_codes = int(self._counts.sum()), self._counts.numel()
        # What so many tokens would show of equally likely codes; fewer than there are codes say nothing of a collapse.
        reachable = 1 - math.exp(-num_tokens / num_codes)
        found = []
        if num_tokens >= num_codes and share < self._config.collapse_below * reachable:
            found = [collapsed(share, perplexity, num_codes, self._config.window_steps, phase)]
        self._counts.zero_()
        self._restarted = 0
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Return the window so far."""
        return {"counts": self._counts}

    def state(self) -> dict[str, Any]:
        """Return what is no tensor."""
        return {"restarted": self._restarted, "codebook_started": self.codebook_started, "figures": self.figures}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Take up a checkpoint's window."""
        self._counts.copy_(tensors["counts"])
        self._restarted, self.codebook_started = state["restarted"], state["codebook_started"]
        self.figures = state["figures"]


@torch.no_grad()
def evaluate(
    tokenizer: VisualTokenizer, source: FeatureSource, held: np.ndarray, *, quantised: bool, batch_size: int = 64
) -> dict[str, Any]:
    """Return the figures of pictures never trained on: 1 - cos with and without codes, code usage, tokens an image."""
    tokenizer.eval()
    counts, codes, targets = [], [], []
    cosines: dict[str, list[Tensor]] = {"cos_loss_before_codes": [], "cos_loss": []}
    for start in range(0, len(held), batch_size):
        x_BPD = source.batch(held[start : start + batch_size])
        keep = select_threshold(tokenizer.selector(x_BPD), tokenizer.config.keep_threshold)
        z_TC = tokenizer.project(tokenizer.merger(x_BPD, keep))
        kept = keep.sum(dim=1)
        coded, found = tokenizer.quantizer(z_TC)
        for name, vectors in (("cos_loss_before_codes", z_TC), ("cos_loss", coded)):
            cosines[name].append(F.cosine_similarity(tokenizer.decoder(vectors, kept), x_BPD, dim=-1).flatten())
        counts.append(kept)
        codes.append(found)
        targets.append(x_BPD)
    share, perplexity = usage(torch.bincount(torch.cat(codes).cpu(), minlength=tokenizer.config.codebook_size))
    figures: dict[str, Any] = {name: 1 - float(torch.cat(values).mean()) for name, values in cosines.items()}
    if not quantised:
        del figures["cos_loss"]
    figures |= {"mean_predictor": mean_predictor(torch.cat(targets)), "code_usage": share, "perplexity": perplexity}
    return {**figures, **kept_figures(torch.cat(counts), tokenizer.config.num_patches), "validation_images": len(held)}
