"""One phase of tokenizer training: what is kept, what is read, what learns, and at what rates."""

from typing import Annotated, Literal

from lavit_core.config import Config, Count, NonNegative, Positive, Share
from pydantic import Field, model_validator


class Phase(Config):
    """One stage of tokenizer training. The order of phases is the recipe:
    quantisation comes late (authors, jy0205/LaVIT issues 10 and 29)."""

    name: str
    """Shown in progress and metrics."""
    num_steps: Count
    """Steps of this phase."""
    batch_size: Count = 32
    """Images a step."""
    selection: Literal["random", "gumbel", "fixed"]
    """The rule that keeps patches: random masks of random rate, the selector's Gumbel samples (straight-through, dense
    formulation), or the selector's own threshold (packed)."""
    merger: Literal["on", "off", "mixed"] = "on"
    """`off` hands kept features to the codes unmerged (a selector learns faster so); `mixed` alternates by step."""
    evidence: Literal["features", "own"] = "features"
    """What a kept patch tells the decoder: its encoder feature (paper), or only what it shows itself (the rows of the
    small ViT's stem, the pixels of another encoder). Differs when own: attention puts the whole scene into every
    feature, and where scenes are simple the selector learns to keep empty patches. Needs merger: off and no codes."""
    kept_errors: Share = 1.0
    """Weight of the squared errors of kept patches beside those of dropped ones (1: paper; 0: as in masked
    autoencoders). Differs when below 1: the less they count, the more the selector keeps what the others do not
    predict, detail, and the less what predicts most of the others, one patch of each flat region (docs/adr/0010). Below
    1 it needs cos_weight: 0 and a mask that is drawn."""
    quantise: bool = False
    """Quantise in the forward pass; the first such phase initialises the codebook by k-means."""
    train: Annotated[tuple[Literal["selector", "merger", "decoder"], ...], Field(min_length=1)]
    """The modules that learn (the code projection belongs to the decoder's group)."""
    lr: NonNegative = 2e-4
    """Peak learning rate of merger and decoder."""
    muon_lr: NonNegative = 6e-4
    """Peak rate of Muon's matrices in merger and decoder, where `optimizer` is muon."""
    selector_lr: NonNegative = 2e-4
    """Peak learning rate of the selector."""
    cos_weight: NonNegative = 1.0
    """Weight of 1 - cos in this phase. Differs when not 1: 1 - cos counts an empty patch like an object's, so a
    selector that learns from it keeps background; with 0 it learns from the squared error alone (`nmse_weight`)."""
    tau: tuple[Positive, Positive] = (1.0, 1.0)
    """Gumbel temperature at the phase's beginning and end (geometric in between)."""
    mask_rates: tuple[Share, Share] = (0.12, 0.55)
    """Range of the keep rate of `random` masks."""
    count_factors: tuple[float, float] = (1.0, 1.0)
    """Range of a factor (log-uniform) on the tokens that `fixed` selection keeps of every second image: its best
    patches, fewer or more of them. Differs when not 1: merger, codes and decoder learn other budgets than their own."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of linear warm-up."""
    lr_floor: Share = 0.0
    """Learning rate at the phase's end as a share of its peak (cosine)."""

    @model_validator(mode="after")
    def _counts_are_those_of_fixed_selection(self) -> "Phase":
        low, high = self.count_factors
        if not 0 < low <= high:
            raise ValueError(f"count_factors {low}, {high}: expected two positive numbers, the smaller one first")
        if self.count_factors != (1.0, 1.0) and self.selection != "fixed":
            raise ValueError(f"phase {self.name} has count_factors with selection: {self.selection}, expected fixed")
        return self

    @model_validator(mode="after")
    def _own_evidence_is_read_alone(self) -> "Phase":
        if self.evidence == "own" and (self.merger != "off" or self.quantise):
            found = "quantise: true" if self.merger == "off" else f"merger: {self.merger}"
            raise ValueError(
                f"phase {self.name} has evidence: own with {found}, but merger and codes learn from encoder features; "
                "expected merger: off and quantise: false, or evidence: features"
            )
        return self

    @model_validator(mode="after")
    def _errors_are_weighed_where_a_mask_is_drawn(self) -> "Phase":
        if self.kept_errors < 1 and (self.cos_weight or self.selection == "fixed"):
            found = "selection: fixed" if self.selection == "fixed" else f"cos_weight: {self.cos_weight:g}"
            raise ValueError(
                f"phase {self.name} has kept_errors: {self.kept_errors:g} with {found}; expected cos_weight: 0 (1 - "
                "cos counts every patch alike) and selection: random or gumbel, or kept_errors: 1"
            )
        return self

    @model_validator(mode="after")
    def _selector_can_learn(self) -> "Phase":
        if "selector" in self.train and self.selection != "gumbel":
            raise ValueError(
                f"phase {self.name} trains the selector, which gets no gradient from selection: {self.selection}; "
                "expected selection: gumbel, or train without selector"
            )
        return self
