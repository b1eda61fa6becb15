"""METEOR and SPICE through pycocoevalcap: Java programs, installed with the extra `java`, never imitated."""

import contextlib
import importlib.util
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavit_scoring.metrics.ptb_tokenizer import tokenize

SPICE_JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


@dataclass(frozen=True, kw_only=True)
class JavaScore:
    """A score of the set and of each caption."""

    value: float
    items: list[float]


def why_no_java() -> dict[str, str]:
    """Return for METEOR and SPICE why each can't be computed here; empty when both can."""
    if importlib.util.find_spec("pycocoevalcap") is None:
        return dict.fromkeys(("meteor", "spice"), "pycocoevalcap is not installed; run `pip install pycocoevalcap`")
    if shutil.which("java") is None:
        return dict.fromkeys(("meteor", "spice"), "there is no `java` on this machine; install a Java runtime")
    spec = importlib.util.find_spec("pycocoevalcap.spice")
    folder = Path(next(iter(spec.submodule_search_locations or [""]))) / "lib" if spec else Path()
    lacking = [jar for jar in SPICE_JARS if not (folder / jar).is_file()]
    # pycocoevalcap would download them at first use; nothing here goes to the network unasked.
    return {"spice": f"{folder}: {lacking[0]} is missing; put CoreNLP 3.6.0 there"} if lacking else {}


def java_scores(
    captions: Sequence[str], references: Sequence[Sequence[str]], *, skip: Mapping[str, str]
) -> dict[str, JavaScore]:
    """Return METEOR and SPICE of captions, without those in `skip`."""
    said = {index: [" ".join(words)] for index, words in enumerate(tokenize(captions))}
    truths = {index: [" ".join(words) for words in tokenize(truth)] for index, truth in enumerate(references)}
    scores = {}
    for name, scorer in _scorers(skip).items():
        with contextlib.redirect_stdout(io.StringIO()):
            value, items = scorer.compute_score(truths, said)
        each = [one["All"]["f"] if isinstance(one, dict) else float(one) for one in items]
        scores[name] = JavaScore(value=float(value), items=each)
    return scores


def _scorers(skip: Mapping[str, str]) -> dict[str, Any]:
    scorers: dict[str, Any] = {}
    if "meteor" not in skip:
        from pycocoevalcap.meteor.meteor import Meteor

        scorers["meteor"] = Meteor()
    if "spice" not in skip:
        from pycocoevalcap.spice.spice import Spice

        scorers["spice"] = Spice()
    return scorers
