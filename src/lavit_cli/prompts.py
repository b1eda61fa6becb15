"""Prompts as people type them: a text with `<image>` placeholders, and the files that take their places."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from lavit.prompts import PLACEHOLDER, prompt_list
from lavit_core.errors import InputError, UsageError
from lavit_core.files import file_sha256
from lavit_core.modeldir import find_part
from lavit_core.progress import warn

EXAMPLE = f'lavit generate "{PLACEHOLDER} as an oil painting" --image cat.png'


def typed_prompt(
    texts: Sequence[str], images: Sequence[Path], old_images: Sequence[str], typed: Sequence[str] | None
) -> list[str | Path]:
    """Return a prompt's pieces from its arguments, --image, and --prompt-image (the old form) with the words typed.

    Raises what `prompt_pieces` and `old_prompt_images` raise.
    """
    if old_images and images:
        raise UsageError("--image and --prompt-image: give --image alone, the new name")
    if old_images:
        texts, images = old_prompt_images(texts, old_images, typed or ())
    return prompt_pieces(texts, images)


def prompt_pieces(texts: Sequence[str], images: Sequence[Path]) -> list[str | Path]:
    """Return the texts and image files of a prompt in the order they are read.

    Images without a text need no placeholder. Raises UsageError for no prompt, several texts, or another number of
    placeholders than of images; InputError for a missing file.
    """
    for first, second in pairwise(texts):
        raise UsageError(f"two texts in a row, {first!r} and {second!r}; put the words of a text in quotes")
    if not texts and not images:
        raise UsageError(f"no prompt: give a text, images, or both: {EXAMPLE}")
    for image in images:
        if not image.is_file():
            found = "a folder, expected an image" if image.is_dir() else "file not found"
            raise InputError(f"--image {image}: {found}")
    if not texts:
        return list(images)
    wanted = texts[0].count(PLACEHOLDER)
    if wanted != len(images):
        raise UsageError(
            f"{wanted} {PLACEHOLDER} in the prompt but {len(images)} --image; put {PLACEHOLDER} where the image "
            f"belongs, for example {EXAMPLE}"
        )
    return prompt_list([[texts[0], *images]])[0]


def old_prompt_images(
    texts: Sequence[str], images: Sequence[str], typed: Sequence[str]
) -> tuple[list[str], list[Path]]:
    """Return the text with placeholders and the images of `--prompt-image`, which took its place among the texts.

    `typed` are the words of the command line. Raises UsageError where they do not tell the order.
    """
    words = [word.removeprefix("--prompt-image=") for word in typed]
    pieces = [*texts, *images]
    if texts and any(words.count(piece) != 1 for piece in pieces):
        raise UsageError(f"--prompt-image is now --image, with {PLACEHOLDER} where it is read: {EXAMPLE}")
    if texts:
        pieces.sort(key=words.index)
    for first, second in pairwise(pieces):
        if first in texts and second in texts:
            raise UsageError(f"two texts in a row, {first!r} and {second!r}; put the words of a text in quotes")
    text = " ".join(piece if piece in texts else PLACEHOLDER for piece in pieces)
    files = [Path(piece) for piece in pieces if piece not in texts]
    shown = " ".join([f'"{text}"', *(f"--image {file}" for file in files)])
    warn(f"--prompt-image is accepted for one more release; now it is: lavit generate {shown}")
    return [text], files


def prompt_record(pieces: Sequence[str | Path]) -> str | list[dict[str, str]]:
    """Return the metadata of a prompt: a text alone as it is, else its parts, images with their digests."""
    if len(pieces) == 1 and isinstance(pieces[0], str):
        return pieces[0]
    return [
        {"text": piece} if isinstance(piece, str) else {"image": str(piece), "sha256": file_sha256(piece)}
        for piece in pieces
    ]


def prompt_text(pieces: Sequence[str | Path]) -> str:
    """Return the words of a prompt."""
    return " ".join(piece for piece in pieces if isinstance(piece, str))


def warn_about(pieces: Sequence[str | Path], model: Path) -> None:
    """Say on stderr what is done with an empty prompt, and with words that the model's vocabulary does not have."""
    if list(pieces) == [""]:
        warn("the prompt is empty: the model draws whatever its training made likely (no condition, no guidance)")
        return
    from lavit_pretrain.api import load_text_tokenizer, unknown_words

    if unknown := unknown_words(load_text_tokenizer(find_part(model, "llm")), prompt_text(pieces)):
        named = ", ".join(unknown)
        warn(f"the model has not learned these words whole: {named}; expect poor drawings")


def file_stem(pieces: Sequence[str | Path], seed: int, num_images: int = 1) -> str:
    """Return a file name without its suffix for what a prompt draws: whole words, up to about 60 characters."""
    words = [piece if isinstance(piece, str) else piece.stem for piece in pieces]
    slug = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")
    slug = slug if len(slug) <= 60 else slug[:60].rpartition("-")[0] or slug[:60]
    seeds = f"seed{seed}" if num_images == 1 else f"seeds{seed}-{seed + num_images - 1}"
    return f"{slug or 'image'}-{seeds}"
