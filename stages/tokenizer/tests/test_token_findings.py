"""Each finding about tokens is made of tokens that have its fault, and healthy tokens have none."""

import dataclasses

import numpy as np
import pytest
from lavit_tokenizer.token_findings import TokenFacts, diagnose_tokens, facts_of

HEALTHY = TokenFacts(
    detail_kept=0.16, detail_dropped=0.04, code_usage=0.78, num_codes=512, num_tokens=3300, few_tokens=0.02,
    seam_ratio=1.15, seam_ratio_originals=1.05,
)  # fmt: skip


def kinds(**changes) -> list[str]:
    return [finding.kind for finding in diagnose_tokens(dataclasses.replace(HEALTHY, **changes))]


def test_healthy_tokens_have_no_finding():
    assert kinds() == []
    assert diagnose_tokens(TokenFacts()) == []


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("empty patches kept", {"detail_kept": 0.008, "detail_dropped": 0.038}, ("0.008", "0.038", "evidence: own")),
        ("codes unused", {"code_usage": 0.27}, ("27% of 512 codes", "3,300 tokens", "model.codebook_size")),
        ("one-patch images", {"few_tokens": 0.11}, ("11% of the images", "fewer than 3 tokens", "keep_term")),
        ("seams", {"seam_ratio": 1.35}, ("1.35 times", "1.05 times", "train-detokenizer")),
    ],
)
def test_a_fault_is_named_with_its_values_and_its_setting(kind, changes, said):
    [finding] = diagnose_tokens(dataclasses.replace(HEALTHY, **changes))
    assert finding.kind == kind
    assert all(part in finding.message for part in said)


def test_values_at_the_edge_are_healthy():
    assert kinds(detail_kept=0.04) == []
    assert kinds(few_tokens=0.1) == []
    assert kinds(seam_ratio=1.05 * 1.15) == []


def test_few_tokens_do_not_show_which_codes_are_unused():
    assert kinds(code_usage=0.1, num_tokens=511) == []
    # As many tokens as codes reach 63 % of them: a third in use is not half of that less.
    assert kinds(code_usage=0.33, num_tokens=512) == []
    assert kinds(code_usage=0.31, num_tokens=512) == ["codes unused"]


def test_codes_of_factors_are_judged_by_the_factor_that_is_used_least():
    keep, detail = np.ones((1, 4), dtype=bool), np.zeros((1, 4))
    pairs = np.array([[4, 0, 0, 0], [4, 0, 0, 0]])  # both of the first factor, one of four of the second
    facts = facts_of(keep, detail, pairs.ravel(), (2, 4))
    assert (facts.code_usage, facts.num_codes) == (0.25, 4)
    assert [finding.kind for finding in diagnose_tokens(facts)] == ["codes unused", *kinds_without_codes(facts)]


def kinds_without_codes(facts):
    return [finding.kind for finding in diagnose_tokens(dataclasses.replace(facts, code_usage=None))]


def test_what_was_not_measured_is_not_judged():
    assert kinds(detail_dropped=None, detail_kept=0.0) == []
    assert kinds(seam_ratio=3.0, seam_ratio_originals=None) == []


def test_facts_of_masks_details_and_codes():
    keep = np.array([[True, True, True, False], [True, False, False, False]])
    detail = np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.1, 0.0, 0.1]])
    facts = facts_of(keep, detail, np.array([3, 0, 1, 0, 0]))
    assert facts == TokenFacts(
        detail_kept=pytest.approx(0.25), detail_dropped=pytest.approx(0.15), code_usage=0.4, num_codes=5, num_tokens=4,
        few_tokens=0.5,
    )  # fmt: skip
