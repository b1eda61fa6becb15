"""Findings on a language model's training, with advice, from logged rows alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from lavit_core.rundir import Diagnostic
from lavit_trainkit.curves import diagnose_loss, last_mean

from lavit_pretrain.config import PretrainConfig

CHECKS = 3
"""Measured gains behind a mean."""

LITTLE = {"answer_gain": 0.05, "caption_gain": 0.05, "prompt_gain": 0.02}
"""Nats a token below which a gain counts as none: other images give as much by chance in a hundred answers."""

HALFWAY = 0.5
"""Share of the steps after which a gain should have appeared."""

ADVICE = {
    "answer_gain": (
        "blind answers", "answers cost as little with another document's image as with their own",
        "the model answers from the question alone",
        "raise mix.questions or visual_lr, train longer, or check whether questions and images belong together "
        "(lavit data inspect); a tokenizer that lost the answer shows in `lavit eval probe`",
    ),
    "caption_gain": (
        "blind captions", "captions cost as little with another document's image as with their own",
        "the model describes what images mostly show instead of looking",
        "raise mix.image_to_text or visual_lr, train longer, or check whether captions and images belong together "
        "(lavit data inspect)",
    ),
    "prompt_gain": (
        "prompts not used", "codes cost as little after another document's caption as after their own",
        "the model draws without reading the prompt, and guidance has nothing to strengthen",
        "raise mix.text_to_image, lower caption_drop, train longer, or check whether captions describe "
        "their images",
    ),
}  # fmt: skip
"""Gain -> kind of warning, observation, consequence, advice."""


def diagnose_pretrain(rows: Sequence[Mapping[str, Any]], config: PretrainConfig) -> list[Diagnostic]:
    """Return findings on the rows so far: a loss that rises or stays, answers that do not need the image."""
    lower = "llm_lr, muon_lr and visual_lr" if config.optimizer == "muon" else "llm_lr and visual_lr"
    found = diagnose_loss(rows, "loss", num_steps=config.num_steps, warmup_steps=config.warmup_steps, lower=lower)
    if rows[-1]["step"] < HALFWAY * config.num_steps:
        return found
    for name, (kind, seen, why, change) in ADVICE.items():
        gain = last_mean(rows, name, CHECKS)
        if gain is not None and gain < LITTLE[name]:
            found.append(Diagnostic(kind, f"{seen} ({gain:+.3f} nats a token): {why}; {change}"))
    return found
