"""Findings about a tokenizer or encoder in training, from its logged metrics: the symptom, and what to change.

The functions read only logged rows, so a resumed run warns at the same step as an uninterrupted one.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lavit_core.rundir import Diagnostic
from lavit_trainkit.curves import LAST, diagnose_loss, last_mean

from lavit_tokenizer.config import TrainEncoderConfig, TrainTokenizerConfig
from lavit_tokenizer.phase import Phase

LATE = 0.75
"""Share of a phase after which its selector should be decided."""

DECIDED = 0.2
"""A selector is undecided while features explain less than this of the variance of what is kept (1: no chance left)."""

KEEP_FACTOR = 1.5
"""A keep rate further than this factor from `keep_ratio` is far off."""

CHANCE = 0.97
"""A contrastive loss above this share of ln(batch) is at chance."""

Rows = Sequence[Mapping[str, Any]]


def diagnose_tokenizer(rows: Rows, config: TrainTokenizerConfig, num_patches: int) -> list[Diagnostic]:
    """Return the findings about the current phase, that of the last row."""
    ends = list(itertools.accumulate(phase.num_steps for phase in config.phases))
    place = next(index for index, end in enumerate(ends) if rows[-1]["step"] <= end)
    phase, first = config.phases[place], ends[place] - config.phases[place].num_steps
    mine = [row for row in rows if row["step"] > first]
    name = "cos_loss" if phase.cos_weight else "nmse"
    found = diagnose_loss(
        mine, name, first=first, num_steps=phase.num_steps, warmup_steps=phase.warmup_steps,
        lower=f"lr of phase {phase.name}", falls=place == 0,
    )  # fmt: skip
    return [
        *found,
        *_no_better_than_the_mean(mine, phase, first, config),
        *_selector(mine, phase, first, config, num_patches),
    ]


def _no_better_than_the_mean(rows: Rows, phase: Phase, first: int, config: TrainTokenizerConfig) -> list[Diagnostic]:
    local = rows[-1]["step"] - first
    if local < max(2 * phase.warmup_steps, phase.num_steps / 5):
        return []
    advice = f"lower or raise lr of phase {phase.name}, lengthen it, or set model.whiten_power to 0.25"
    if phase.cos_weight:
        error, mean = last_mean(rows, "cos_loss"), last_mean(rows, "mean_predictor")
        if error is not None and mean is not None and error >= mean:
            return [
                Diagnostic(
                    "no better than the mean",
                    f"1 - cos is {error:.3f} in phase {phase.name}, and {mean:.3f} for one constant feature: the "
                    f"decoder does not distinguish patches, so the codes carry no information; {advice}",
                )
            ]
    # Whitened features have mean zero, so the mean predictor's normalised squared error is 1.
    elif config.model.whiten_power and (error := last_mean(rows, "nmse")) is not None and error >= 1:
        return [
            Diagnostic(
                "no better than the mean",
                f"nmse is {error:.3f} in phase {phase.name}, and 1 for one constant feature: the decoder does not "
                f"distinguish patches, so the codes carry no information; {advice}",
            )
        ]
    return []


def _selector(rows: Rows, phase: Phase, first: int, config: TrainTokenizerConfig, num_patches: int) -> list[Diagnostic]:
    if phase.selection == "random":
        return []
    found = []
    late = [row for row in rows if row["step"] - first >= LATE * phase.num_steps][-LAST:]
    if phase.selection == "gumbel" and late:
        share = sum(row["decided"] for row in late) / len(late)
        if share < DECIDED:
            merger = "" if phase.merger == "off" else ", or leave the merger out of it (merger: off)"
            own = "" if phase.evidence == "own" else (
                "compare detail_kept with detail_dropped (reported at the end, and by `lavit eval tokenizer`): where "
                f"empty patches are kept, set evidence: own (it needs merger: off) in phase {phase.name}; else "
            )  # fmt: skip
            found.append(
                Diagnostic(
                    "undecided selector",
                    f"the selector is undecided: late in phase {phase.name} features explain {share:.0%} of whether a "
                    "patch is kept, and chance the rest: the decoder learns from uninformative patches; "
                    f"{own}give the phase more steps{merger}; a higher selector_lr decides sooner, but more by "
                    "position than by content",
                )
            )
    # While Gumbel noise decides, the rate is held by the loss; what counts is where it ends, and what follows from it.
    counted = late if phase.selection == "gumbel" else rows[-LAST:] if len(rows) >= LAST else []
    if counted:
        rate, target = sum(row["kept_mean"] for row in counted) / len(counted) / num_patches, config.model.keep_ratio
        if not target / KEEP_FACTOR <= rate <= target * KEEP_FACTOR:
            many = rate > target
            # The threshold matters only in `fixed` phases without calibration.
            by_hand = phase.selection == "fixed" and not config.calibrate_threshold
            threshold = f", {'raise' if many else 'lower'} model.keep_threshold" if by_hand else ""
            cost = "token files and language model cost that much more" if many else "dropped content is lost"
            found.append(
                Diagnostic(
                    "keep rate",
                    f"{rate:.0%} of patches are kept in phase {phase.name}, keep_ratio asks for {target:.0%}: {cost}; "
                    f"raise keep_weight (now {config.keep_weight:g}){threshold}, or give the selector's phase more "
                    "steps so that it decides",
                )
            )
    return found


def collapsed(share: float, perplexity: float, num_codes: int, window_steps: int, phase: Phase) -> Diagnostic:
    """Return the finding about a codebook of which only a small share is used."""
    return Diagnostic(
        "codebook collapse",
        f"codebook collapse: {share:.0%} of {num_codes} codes used in the last {window_steps} steps of phase "
        f"{phase.name} (perplexity {perplexity:.0f}): codes are nearly uniform across images; put a longer "
        "phase without quantisation first, or lower the learning rate, and keep restart_below above 0",
    )


def diagnose_encoder(rows: Rows, config: TrainEncoderConfig) -> list[Diagnostic]:
    """Return the findings about an encoder in training."""
    found = diagnose_loss(rows, "loss", num_steps=config.num_steps, warmup_steps=config.warmup_steps, lower="lr")
    contrast, chance = last_mean(rows, "clip_loss"), math.log(config.batch_size)
    settled = rows[-1]["step"] >= max(2 * config.warmup_steps, config.num_steps / 2)
    if settled and contrast is not None and contrast > CHANCE * chance:
        found.append(
            Diagnostic(
                "captions not used",
                f"the contrastive loss is {contrast:.2f} after half of the steps, and guessing gives {chance:.2f}: the "
                "encoder has learned nothing from the captions; check that they differ and match their images "
                "(lavit data inspect), raise lr, or give it more steps",
            )
        )
    return found
