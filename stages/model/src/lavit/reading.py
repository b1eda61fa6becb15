"""Images and prompts as the language model reads them: encoded in batches, by the parts that are held.

Under `low_memory` all images pass the tokenizer before the language model takes its place in memory.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from lavit_core.errors import UsageError
from lavit_core.seeds import epoch_batches

from lavit.encoding import BATCH_IMAGES, encode_images
from lavit.images import identity, is_image, square_images
from lavit.parts import Parts

if TYPE_CHECKING:
    from lavit_pretrain.api import EncodedImages


def read_images(parts: Parts, images: Sequence[Any]) -> "EncodedImages":
    """Return images as the language model reads them. Raises InputError for an unreadable image."""
    with parts.using("llm"):
        from lavit_pretrain.api import join_images, merge_patches, select_patches
    image_input, image_px = parts.image_input(), parts.tokenizer_config().preprocessing.image_px

    def encoded() -> Iterator[Any]:
        encoder = None if image_input == "none" else parts.encoder()
        for rows in epoch_batches(len(images), BATCH_IMAGES):
            yield select_patches(image_input, encoder, square_images(images[rows], image_px, first=rows.start))

    seen = list(encoded()) if parts.low_memory else encoded()
    return join_images([merge_patches(parts.llm(), batch) for batch in seen])


Turns = list[list[tuple[Any, str]]]
"""The (question, answer) pairs before each question."""


def read_image_each(
    parts: Parts, images: Sequence[Any], questions: Sequence[Any], earlier: Turns | None
) -> "EncodedImages":
    """Return each question's image as the language model reads it; one may go with all, and equal ones are read once.

    Raises UsageError for another number of images than of questions, and for questions that have images in them.
    """
    said = [*questions, *(question for turns in earlier or () for question, _ in turns)]
    if not all(isinstance(question, str) for question in said):
        raise UsageError("questions: found images in them and `images` too, expected one of both")
    images = [*images] * len(questions) if len(images) == 1 else images
    if len(images) != len(questions):
        raise UsageError(f"{len(questions)} questions but {len(images)} images, expected one image a question")
    names = [identity(image) for image in images]
    unique = dict(zip(names, images, strict=True))
    places = {name: place for place, name in enumerate(unique)}
    return read_images(parts, list(unique.values())).take([places[name] for name in names])


def read_conversations(parts: Parts, questions: Sequence[Any], earlier: Turns | None) -> tuple[list[Any], Turns | None]:
    """Return questions and the turns before them with each image as the language model reads it: codes int64 [n], or
    rows float32 [n, D].

    A text stays one. An image that stands in several questions is read once. Raises InputError for an unreadable image,
    UsageError for a model that reads no images.
    """
    said = [*questions, *(question for turns in earlier or () for question, _ in turns)]
    pieces = [piece for asked in said if not isinstance(asked, str) for piece in asked]
    if any(not isinstance(piece, str) for piece in pieces) and parts.image_input() == "none":
        raise UsageError("this model was trained without images; a question with images needs one that sees")
    images = {identity(piece): piece for piece in pieces if is_image(piece)}
    if not images:
        return list(questions), earlier
    by_name = dict(zip(images, read_images(parts, list(images.values())).each(), strict=True))

    def read(asked: Any) -> Any:
        return asked if isinstance(asked, str) else [by_name[identity(one)] if is_image(one) else one for one in asked]

    before = None if earlier is None else [[(read(question), reply) for question, reply in turns] for turns in earlier]
    return [read(question) for question in questions], before


def read_prompts(parts: Parts, prompts: Sequence[Sequence[Any]], prompt_images: str) -> list[list[Any]]:
    """Return prompts with each image as codes int64 [n] or, where `prompt_images` is continuous, as rows [n, D].

    An image that stands in several prompts is read once. Raises InputError for an unreadable image, UsageError for a
    model that reads no images, or not in this way.
    """
    images = {identity(piece): piece for prompt in prompts for piece in prompt if is_image(piece)}
    if not images:
        return [list(prompt) for prompt in prompts]
    image_input = parts.image_input()
    if image_input == "none":
        raise UsageError("this model was trained without images; a prompt with images needs one that sees")
    if prompt_images == "continuous" and image_input == "codes":
        raise UsageError(
            "setting prompt_images: continuous, but this model reads images as codes and has no projector; take codes"
        )
    if prompt_images == "continuous":
        read = read_images(parts, list(images.values()))
        assert read.features is not None, "a model that reads continuous rows gave none"
        rows = np.split(read.features, np.cumsum(read.counts)[:-1])
    else:
        rows = encode_images(parts, list(images.values())).codes
    by_name = dict(zip(images, rows, strict=True))
    return [[by_name[identity(piece)] if is_image(piece) else piece for piece in prompt] for prompt in prompts]
