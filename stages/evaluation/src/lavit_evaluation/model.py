"""The model under evaluation: the parts a benchmark needs, opening them, and what records report about them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavit_core.config import resolve
from lavit_core.distributions import require_stages
from lavit_core.modeldir import detokenizer_part, find_part

from lavit_evaluation.model_digests import model_digests
from lavit_evaluation.runner import Compute

if TYPE_CHECKING:
    from lavit import LaVIT
    from lavit_pretrain.api import Beams

DRAWING_FILE = "painter.json"
"""How the model draws: known while it is loaded, needed when every image is drawn."""


def find_parts(model: Path, parts: Sequence[str], *, must_exist: bool = True) -> dict[str, str]:
    """Return the digests of some parts, by `model.<part>`. Raises InputError if one is missing and `must_exist`."""
    for part in parts if must_exist else ():
        find_part(model, part)
    return {f"model.{part}": digest for part, digest in model_digests(model).items() if part in parts}


def find_drawing_parts(model: Path, *, highres: bool = False) -> dict[str, str]:
    """Return the digests of the parts that draw.

    Raises InputError if one is missing or was made with another tokenizer. Never imports torch: a benchmark asks before
    it reads anything else.
    """
    open_model(model, ("tokenizer", "llm", "detokenizer"), Compute(), highres=highres)
    return find_parts(model, ("tokenizer", "llm", detokenizer_part(highres=highres)))


def open_model(
    model: Path, parts: Sequence[str] | None, compute: Compute, *, selection: str | None = None, highres: bool = False
) -> "LaVIT":
    """Open a model directory; its parts are loaded when they are first used. Raises InputError, UsageError."""
    with require_stages(f"running {model}"):
        from lavit import LaVIT
    return LaVIT.from_pretrained(
        model, parts=parts, device=compute.device, precision=compute.precision, selection=selection, highres=highres
    )


@dataclass(frozen=True, kw_only=True)
class TextDecoding:
    """How a model writes text."""

    max_tokens: int
    beams: "Beams | None"
    """None is greedy."""
    description: str
    """For generation.json."""


def text_decoding(kind: str, decoding: str, max_tokens: int) -> TextDecoding:
    """Return how a benchmark of `kind` (caption, or of questions) is answered: greedy, or with the release's beams."""
    if decoding == "greedy":
        return TextDecoding(max_tokens=max_tokens, beams=None, description=f"greedy, at most {max_tokens} tokens")
    from lavit_pretrain.api import ANSWERS, CAPTIONS

    released = CAPTIONS if kind == "caption" else ANSWERS
    beams = replace(released, min_tokens=min(released.min_tokens, max_tokens))
    description = f"{beams.num_beams} beams, {beams.min_tokens} to {max_tokens} tokens"
    description += f", length penalty {beams.length_penalty:g}"
    return TextDecoding(max_tokens=max_tokens, beams=beams, description=description)


def reading_record(model: "LaVIT") -> dict[str, Any]:
    """Return what records contain of a model that reads images."""
    return {"image_input": model.image_input, "precision": model.language_model.precision}


def drawer(
    model: "LaVIT", sampling: Mapping[str, Any], drawing: Mapping[str, Any]
) -> tuple[Callable[[Sequence[Any], Sequence[int]], list[Any]], dict[str, Any]]:
    """Return a function from prompts and seeds to images, and what records contain of how it draws.

    `sampling` are settings of `lavit sample`, `drawing` of `lavit detokenize`. Raises UsageError for unknown ones.
    """
    from lavit import DrawSettings, SampleSettings

    codes, pixels = resolve(SampleSettings, flags=sampling), resolve(DrawSettings, flags=drawing)

    def draw(prompts: Sequence[Any], seeds: Sequence[int]) -> list[Any]:
        return model.generate(prompts, seeds=seeds, sampling=codes, drawing=pixels, batch_size=max(1, len(prompts)))

    record = {
        "sample": codes.model_dump(mode="json"),
        "draw": pixels.model_dump(mode="json", exclude={"batch_size"}),
        "precision": {"llm": model.language_model.precision, "detokenizer": model.detokenizer.precision},
        "image_px": model.detokenizer.config.image_px,
    }
    return draw, record
