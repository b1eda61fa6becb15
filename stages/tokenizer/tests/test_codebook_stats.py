"""Use of the codebook over a window, and when it counts as collapsed."""

import pytest
import torch
from lavit_tokenizer.codebook_stats import CodebookStats

from .conftest import MODEL, phases, tokenizer_settings


@pytest.mark.parametrize(
    ("num_tokens", "used", "said"), [(40, 1, True), (40, 8, False), (31, 1, False), (400, 6, True)]
)
def test_collapse_is_judged_by_what_so_many_tokens_can_reach(num_tokens, used, said):
    """32 codes: 40 tokens of equally likely ones show 71 % of them, and a fifth of that is 4.6 codes."""
    stats = CodebookStats(tokenizer_settings(window_steps=1, model=MODEL.model_copy(update={"codebook_size": 32})))
    stats.count(torch.arange(num_tokens) % used, restarted=0)
    assert bool(stats.close_window(1, phases(4)[3])) is said


def test_collapse_of_a_factorised_codebook_is_that_of_a_factor():
    """64 tokens on 8 of 32 pairs: healthy when they use all entries, collapsed when one factor has a single one."""
    factors = {"codebook_size": 32, "codebook_factors": (8, 4)}
    settings = tokenizer_settings(window_steps=1, model=MODEL.model_copy(update=factors), collapse_below=0.3)
    stats = CodebookStats(settings)
    pair = torch.arange(64) % 8
    stats.count(pair * 4 + pair % 4, restarted=0)
    assert stats.close_window(1, phases(4)[3]) == []
    assert stats.metrics["code_usage"] == 0.25
    assert (stats.metrics["code_usage_a"], stats.metrics["code_usage_b"]) == (1, 1)
    stats.count(pair * 4, restarted=0)
    [finding] = stats.close_window(1, phases(4)[3])
    assert "25% of 4 codes used" in finding.message
