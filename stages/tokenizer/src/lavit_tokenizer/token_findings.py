"""Findings about the tokens of held-out images: what is wrong with them, and the likely cause.

`train-tokenizer`, `lavit eval probe` and `lavit eval tokenizer` report these, and the report shows what they reported.
All thresholds are here.
"""

import dataclasses
import math

import numpy as np
from lavit_core.rundir import Diagnostic

from lavit_tokenizer.selection_statistics import detail_of_kept

CODES_IN_USE = 0.5
"""Codes are unused below this share of the codes that so many tokens reach if all are equally likely."""

FEW_TOKENS = 3
"""An image of fewer tokens than this is nearly a one-patch image."""

FEW_TOKENS_SHARE = 0.1
"""Many images have few tokens above this share of them."""

SEAMS = 1.15
"""Reconstructions have seams when their seam ratio is more than this times that of the originals."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenFacts:
    """What is known about the tokens of some images; None is what was not measured."""

    detail_kept: float | None = None
    """Mean detail of kept patches, see `patch_detail`."""
    detail_dropped: float | None = None
    """Mean detail of dropped patches."""
    code_usage: float | None = None
    """Share of the codebook that occurs; of a factorised one, of the factor of which less occurs."""
    num_codes: int = 1
    """Codebook size K; of a factorised one, entries of that factor."""
    num_tokens: int = 0
    """Tokens of all images together."""
    few_tokens: float | None = None
    """Share of images with fewer than FEW_TOKENS tokens."""
    seam_ratio: float | None = None
    """Of reconstructions: mean step across patch borders over mean step within patches."""
    seam_ratio_originals: float | None = None
    """The same of the originals."""


def facts_of(
    keep_NP: np.ndarray, detail_NP: np.ndarray, code_counts_K: np.ndarray, factors: tuple[int, int] | None = None
) -> TokenFacts:
    """Return what is known of N images from their keep masks, the detail of their P patches, and how often each of K
    codes occurs; `factors` are those of the codebook."""
    kept, dropped = detail_of_kept(detail_NP, keep_NP)
    books = [code_counts_K] if factors is None else [code_counts_K.reshape(factors).sum(axis) for axis in (1, 0)]
    usage, num_codes = min((float((counts > 0).mean()), len(counts)) for counts in books)
    return TokenFacts(
        detail_kept=kept,
        detail_dropped=dropped,
        code_usage=usage,
        num_codes=num_codes,
        num_tokens=int(code_counts_K.sum()),
        few_tokens=float((keep_NP.sum(axis=1) < FEW_TOKENS).mean()),
    )


def diagnose_tokens(facts: TokenFacts) -> list[Diagnostic]:
    """Return the findings; healthy tokens have none."""
    return [*_empty(facts), *_unused(facts), *_few(facts), *_seams(facts)]


def _empty(facts: TokenFacts) -> list[Diagnostic]:
    kept, dropped = facts.detail_kept, facts.detail_dropped
    if kept is None or dropped is None or kept >= dropped:
        return []
    return [
        Diagnostic(
            "empty patches kept",
            f"empty patches are kept: the detail (standard deviation of pixels within a patch) is {kept:.3f} in kept "
            f"patches and {dropped:.3f} in dropped ones: attention lets a patch of ground tell the decoder the whole "
            "scene, and codes of ground lose it; set evidence: own in the phases masks and selector of train-tokenizer",
        )
    ]


def _unused(facts: TokenFacts) -> list[Diagnostic]:
    # Fewer tokens than codes can't show which codes are unused.
    if facts.code_usage is None or facts.num_tokens < facts.num_codes:
        return []
    reachable = 1 - math.exp(-facts.num_tokens / facts.num_codes)
    if facts.code_usage >= CODES_IN_USE * reachable:
        return []
    return [
        Diagnostic(
            "codes unused",
            f"{facts.code_usage:.0%} of {facts.num_codes:,} codes occur in {facts.num_tokens:,} tokens, expected at "
            f"least {CODES_IN_USE * reachable:.0%}: kept patches look alike, the tokenizer was trained on other "
            "images, or the codebook is too large; look at detail kept and dropped first, then train on these images "
            "or lower model.codebook_size",
        )
    ]


def _few(facts: TokenFacts) -> list[Diagnostic]:
    if facts.few_tokens is None or facts.few_tokens <= FEW_TOKENS_SHARE:
        return []
    return [
        Diagnostic(
            "one-patch images",
            f"{facts.few_tokens:.0%} of the images have fewer than {FEW_TOKENS} tokens, expected at most "
            f"{FEW_TOKENS_SHARE:.0%}: such images are nearly without content for the language model; set keep_term: "
            "image, which holds the rate in every image, or raise model.keep_ratio",
        )
    ]


def _seams(facts: TokenFacts) -> list[Diagnostic]:
    drawn, real = facts.seam_ratio, facts.seam_ratio_originals
    if drawn is None or real is None or drawn <= SEAMS * real:
        return []
    return [
        Diagnostic(
            "seams",
            f"reconstructions show the grid of patches: steps across patch borders are {drawn:.2f} times those within "
            f"patches, {real:.2f} times in the originals (expected at most {SEAMS * real:.2f}): the detokenizer draws "
            "each patch by itself; give train-detokenizer more steps, or a U-Net that looks across patches",
        )
    ]
