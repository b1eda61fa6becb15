"""`lavit generate -`: a prompt a line of stdin, drawn one after another by a model that is loaded once."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lavit_core.errors import LavitError, UsageError

from lavit_cli.generate import Painter, generate
from lavit_cli.generate_settings import check_reranking
from lavit_cli.image_files import drop_repeated, unused_file
from lavit_cli.prompts import file_stem, prompt_pieces, warn_about


def generate_lines(
    painter: Painter,
    prompts: Iterable[bytes],
    folder: Path,
    model: Path,
    *,
    clip: Path | None,
    num_images: int,
    seed: int,
    preset: str | None,
) -> Iterator[dict[str, Any]]:
    """Draw each line, as UTF-8, into a file of its own in `folder`, and yield the file's metadata; blank lines are
    skipped. Every file is the one that `lavit generate LINE` writes.

    Raises what the line's own command would, with the number of the line.
    """
    for number, line in enumerate(prompts, start=1):
        try:
            if text := _text(line):
                check_reranking(painter.settings, clip, text, preset)
                pieces = prompt_pieces([text], [])
                warn_about(pieces, model)
                yield _draw(painter, pieces, folder, num_images=num_images, seed=seed)
        except LavitError as error:
            error.args = (f"stdin, line {number}: {error}",)
            raise


def _text(line: bytes) -> str:
    try:
        return line.decode().strip()
    except UnicodeDecodeError as error:
        raise UsageError(f"byte {error.start} ({line[error.start]:#x}) is not UTF-8") from None


def _draw(
    painter: Painter, pieces: Sequence[str | Path], folder: Path, *, num_images: int, seed: int
) -> dict[str, Any]:
    stem = file_stem(pieces, seed, num_images)
    out = unused_file(stem, folder)
    made = generate(painter, pieces, out, num_images=num_images, seed=seed)
    earlier = drop_repeated(out, stem)
    return made if earlier is None else made | {"out": str(earlier), "same_as": str(earlier)}
