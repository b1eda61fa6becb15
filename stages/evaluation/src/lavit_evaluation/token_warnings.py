"""Warnings about tokens in a score: recorded in its notes, and repeated whenever the score is shown."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lavit_core.progress import warn
from lavit_scoring.score import Score

if TYPE_CHECKING:
    from lavit_tokenizer.api import TokenFacts


def note_findings(score: Score, facts: "TokenFacts") -> None:
    """Record in `notes.warnings` what is wrong with the tokens; an empty list if nothing is."""
    from lavit_tokenizer.api import diagnose_tokens

    score.notes["warnings"] = [dataclasses.asdict(finding) for finding in diagnose_tokens(facts)]


def warn_again(result: Mapping[str, Any]) -> None:
    """Print on stderr the warnings that a score.json records."""
    for row in result["notes"].get("warnings", ()):
        warn(f"{result['data']['path']}: {row['message']}")
