"""Findings about metrics that go wrong; a healthy run has none."""

import math

import pytest
from lavit_tokenizer.config import TrainTokenizerConfig
from lavit_tokenizer.diagnose import diagnose_encoder, diagnose_tokenizer
from lavit_tokenizer.phase import Phase

from .conftest import MODEL, encoder_settings

TRAIN = ("merger", "decoder")
CONFIG = TrainTokenizerConfig(
    model=MODEL,
    phases=(
        Phase(name="masks", num_steps=400, selection="random", cos_weight=0, train=TRAIN, warmup_steps=20),
        Phase(name="selector", num_steps=400, selection="gumbel", train=("selector", *TRAIN)),
        Phase(name="codes", num_steps=400, selection="fixed", quantise=True, train=TRAIN),
    ),
)


def healthy(step: int) -> dict:
    """A row of a run in which everything goes as it should; 0.4 of 16 patches are asked for."""
    phase = ("masks", "selector", "codes")[(step - 1) // 400]
    local = step - 400 * ((step - 1) // 400)
    decided = {"masks": 0.0, "selector": local / 400, "codes": 1.0}[phase]
    error = 0.1 + 0.9 * math.exp(-local / 100)
    return {"step": step, "phase": phase, "cos_loss": 0.7 * error, "nmse": error, "mean_predictor": 0.8,
            "decided": decided, "kept_mean": 6.0 + 0.3 * math.sin(step)}  # fmt: skip


def kinds(change=lambda row: row, until: int = 1200, config: TrainTokenizerConfig = CONFIG) -> dict[str, int]:
    """Return each kind of finding with the step at which it is first made."""
    rows, first = [], {}
    for step in range(20, until + 1, 20):
        rows.append({**healthy(step), **change(healthy(step))})
        for finding in diagnose_tokenizer(rows, config, 16):
            first.setdefault(finding.kind, step)
    return first


def test_a_healthy_run_is_left_alone():
    assert kinds() == {}


def test_an_undecided_selector_is_reported_late_in_its_phase():
    assert kinds(lambda row: {"decided": 0.15}) == {"undecided selector": 700}
    assert kinds(lambda row: {"decided": 0.25}) == {}


def test_the_advice_names_own_evidence_where_the_phase_has_it_not():
    def said(**changes) -> str:
        phases = [phase.model_copy(update=changes if phase.name == "selector" else {}) for phase in CONFIG.phases]
        rows = [{**healthy(step), "decided": 0.1} for step in range(20, 801, 20)]
        [finding] = diagnose_tokenizer(rows, CONFIG.model_copy(update={"phases": tuple(phases)}), 16)
        return finding.message

    assert "detail_kept" in said()
    assert "set evidence: own (it needs merger: off) in phase selector; else give the phase more steps" in said()
    own = said(evidence="own", merger="off")
    assert "evidence" not in own
    assert "give the phase more steps" in own


@pytest.mark.parametrize("kept", [1.0, 14.0])
def test_a_keep_rate_far_off_is_reported(kept):
    assert kinds(lambda row: {"kept_mean": kept}) == {"keep rate": 700}
    only_codes = {"kept_mean": kept}
    assert kinds(lambda row: only_codes if row["phase"] == "codes" else {}) == {"keep rate": 900}
    assert kinds(lambda row: only_codes if row["phase"] == "masks" else {}) == {}


def test_no_better_than_the_mean_counts_by_what_the_phase_learns_from():
    flat = {"cos_loss": 0.85, "nmse": 1.2}
    assert kinds(lambda row: flat if row["phase"] == "codes" else {}) == {"no better than the mean": 900}
    assert kinds(lambda row: {**flat, "nmse": row["nmse"]} if row["phase"] == "masks" else {}) == {}
    first = kinds(lambda row: {**flat, "cos_loss": row["cos_loss"]} if row["phase"] == "masks" else {})
    assert first == {"no better than the mean": 100, "not falling": 300}
    # Features that were not centred have another mean predictor than 1.
    raw = CONFIG.model_copy(update={"model": MODEL.model_copy(update={"whiten_power": 0.0})})
    assert "no better than the mean" not in kinds(
        lambda row: {"nmse": 1.2} if row["phase"] == "masks" else {}, 400, raw
    )


def test_a_rise_within_a_phase_is_diverging_and_one_at_a_new_phase_is_not():
    def rise(row: dict) -> dict:
        return {"cos_loss": 0.7 * row["cos_loss"] + 0.002 * max(0, row["step"] - 1000)}

    assert list(kinds(rise)) == ["diverging"]


def test_an_encoder_that_learns_nothing_from_captions():
    config = encoder_settings(num_steps=400, batch_size=64)
    chance = math.log(64)

    def first(values):
        rows = []
        for place, value in enumerate(values):
            rows.append({"step": 20 * (place + 1), "loss": 5 * math.exp(-place / 5) + 1, "clip_loss": value})
            for finding in diagnose_encoder(rows, config):
                return finding.kind, rows[-1]["step"]
        return None

    assert first([chance + 0.01] * 20) == ("captions not used", 200)
    assert first([chance - 0.1 * place for place in range(20)]) is None
