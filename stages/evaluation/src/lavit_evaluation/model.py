"""The model under evaluation: the parts a benchmark needs, opening them, and what records report about them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavit_core.config import resolve
from lavit_core.distributions import require_stages
from lavit_core.errors import UsageError
from lavit_core.files import read_json, write_json
from lavit_core.modeldir import MADE_BY, check_made_with, detokenizer_part, find_part, recorded_digest

from lavit_evaluation.compute import Compute

if TYPE_CHECKING:
    from lavit import LaVIT
    from lavit_pretrain.api import Beams

DRAWING_FILE, DECODING_FILE = "drawing.json", "decoding.json"
"""How the model draws, or answers: known while it is loaded, needed when everything is drawn or answered."""

OLD_NAMES = {DRAWING_FILE: "painter.json", DECODING_FILE: "reader.json"}
"""What earlier releases called them."""


def keep_record(out: Path, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the record `name` of a run directory; `make`, which may load the model, gives it unless it is there."""
    file, old = out / name, out / OLD_NAMES[name]
    if not file.exists() and old.exists():
        file = old
    if not file.exists():
        write_json(file, make())
    record: dict[str, Any] = read_json(file)
    return record


def model_digests(model: "Path | LaVIT") -> dict[str, str]:
    """Return the digest of each part that a model directory, or an open model, holds."""
    if isinstance(model, Path):
        return {part: recorded_digest(model, part) for part in MADE_BY if (model / part).is_dir()}
    return dict(model.metadata["model"])


def find_parts(model: "Path | LaVIT", parts: Sequence[str]) -> dict[str, str]:
    """Return the digests of some parts, by `model.<part>`. Raises InputError if a model directory lacks one."""
    if isinstance(model, Path):
        for part in parts:
            find_part(model, part)
    return {f"model.{part}": digest for part, digest in model_digests(model).items() if part in parts}


def find_drawing_parts(model: "Path | LaVIT", *, highres: bool = False) -> dict[str, str]:
    """Return the digests of the parts that draw.

    Raises InputError if one is missing or was made with another tokenizer. A plan asks too, where neither torch nor
    lavit-model is installed: so the checks are lavit_core's, not those of `open_model`.
    """
    drawing = ("llm", detokenizer_part(highres=highres))
    digests = find_parts(model, ("tokenizer", *drawing))
    if isinstance(model, Path):
        for part in drawing:
            check_made_with(model, part)
    return digests


def open_model(
    model: "Path | LaVIT", parts: Sequence[str] | None, compute: Compute, *, selection: str | None = None,
    tokens: int | None = None, highres: bool = False,
) -> "LaVIT":  # fmt: skip
    """Open a model directory; its parts are loaded when they are first used. An open model is returned as it is.

    Raises InputError, and UsageError also if an open model is to select patches in another way.
    """
    if not isinstance(model, Path):
        if (selection, tokens) != (None, None):
            raise UsageError("selection, tokens: the model is open; give them to LaVIT.from_pretrained instead")
        return model
    with require_stages(f"running {model}"):
        from lavit import LaVIT
    return LaVIT.from_pretrained(
        model, parts=parts, device=compute.device, precision=compute.precision, selection=selection, tokens=tokens,
        highres=highres,
    )  # fmt: skip


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
    return {"image_input": model.image_input, "precision": model.metadata["precision"]["llm"]}


def drawer(
    model: "LaVIT", sampling: Mapping[str, Any], drawing: Mapping[str, Any]
) -> tuple[Callable[[Sequence[Any], Sequence[int]], list[Any]], Callable[[], dict[str, Any]]]:
    """Return a function from prompts and seeds to images, and one that returns what records contain of how it draws.

    `sampling` are settings of `lavit sample`, `drawing` of `lavit detokenize`. Both load the model when they are
    called. Raises UsageError for unknown settings.
    """
    from lavit import DrawSettings, SampleSettings

    codes, pixels = resolve(SampleSettings, flags=sampling), resolve(DrawSettings, flags=drawing)

    def draw(prompts: Sequence[Any], seeds: Sequence[int]) -> list[Any]:
        return model.generate(prompts, seeds=seeds, sampling=codes, drawing=pixels, batch_size=max(1, len(prompts)))

    def record() -> dict[str, Any]:
        return {
            "sample": codes.model_dump(mode="json"),
            "draw": pixels.model_dump(mode="json", exclude={"batch_size"}),
            "precision": model.metadata["precision"],
            "image_px": model.detokenizer.config.image_px,
        }

    return draw, record
