"""Use of the codebook over a window of training steps, and whether it collapsed."""

import math
from typing import Any

import torch
from lavit_core.rundir import Diagnostic
from torch import Tensor

from lavit_tokenizer.config import TrainTokenizerConfig
from lavit_tokenizer.diagnose import collapsed
from lavit_tokenizer.phase import Phase
from lavit_tokenizer.quantizer import counts_by_factor, factor_usage, usage


class CodebookStats:
    """Counts the codes of a window of steps; its state goes into checkpoints, so a resumed run reports the same."""

    def __init__(self, config: TrainTokenizerConfig) -> None:
        self._config = config
        self._counts = torch.zeros(config.model.codebook_size, dtype=torch.int64)
        self._restarted = 0
        self.codebook_started = False
        self.metrics: dict[str, float | int] = {}
        """The last full window's `code_usage` (share of the codebook), `perplexity` and `restarted` codes; see
        `factor_usage` for those of a factorised codebook."""

    def count(self, codes_T: Tensor, restarted: int) -> None:
        """Add one step's codes, and how many dead codes were restarted in it."""
        self._counts += torch.bincount(codes_T.cpu(), minlength=self._counts.numel())
        self._restarted += restarted

    def close_window(self, steps_of_phase: int, phase: Phase) -> list[Diagnostic]:
        """At the end of a window set `metrics`, start the next one, and return a finding if the codebook collapsed."""
        if not phase.quantise or steps_of_phase % self._config.window_steps:
            return []
        share, perplexity = usage(self._counts)
        self.metrics = {"code_usage": share, "perplexity": perplexity, "restarted": self._restarted}
        factors = self._config.model.codebook_factors
        self.metrics |= factor_usage(self._counts, factors)
        found = [
            finding for counts in counts_by_factor(self._counts, factors) for finding in self._collapse(counts, phase)
        ]
        self._counts.zero_()
        self._restarted = 0
        return found[:1]

    def _collapse(self, counts_K: Tensor, phase: Phase) -> list[Diagnostic]:
        """Return a finding if few of these entries were used: of the codebook, or of one factor."""
        (share, perplexity), num_tokens, num_codes = usage(counts_K), int(counts_K.sum()), counts_K.numel()
        # Share of the codebook that so many tokens reach if codes are equally likely; too few tokens show no collapse.
        reachable = 1 - math.exp(-num_tokens / num_codes)
        if num_tokens < num_codes or share >= self._config.collapse_below * reachable:
            return []
        return [collapsed(share, perplexity, num_codes, self._config.window_steps, phase)]

    def tensors(self) -> dict[str, Tensor]:
        """Return the window so far."""
        return {"counts": self._counts}

    def state(self) -> dict[str, Any]:
        """Return the rest of the state: plain numbers."""
        return {"restarted": self._restarted, "codebook_started": self.codebook_started, "figures": self.metrics}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Restore a checkpoint's window."""
        self._counts.copy_(tensors["counts"])
        self._restarted, self.codebook_started = state["restarted"], state["codebook_started"]
        self.metrics = state["figures"]
