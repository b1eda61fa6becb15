"""The subcommand `lavit data make-shapes`."""

from pathlib import Path
from typing import Annotated

import typer
from lavit_core.command import OutputOptions, command, show, word
from lavit_core.options import Seed


@command()
def make_shapes(
    out: Annotated[Path, typer.Argument(help="New folder for train/ and heldout/.", show_default=False)],
    images: Annotated[int, typer.Option("--images", help="Images to train on.")] = 4000,
    heldout: Annotated[int, typer.Option("--heldout", help="New images to score on.")] = 1024,
    image_px: Annotated[int, typer.Option("--image-px", help="Side of an image in pixels.")] = 64,
    more_shapes: Annotated[bool, typer.Option("--more-shapes", help="Six shapes instead of three.")] = False,
    textures: Annotated[bool, typer.Option("--textures", help="Striped, dotted and checked objects too.")] = False,
    seed: Seed = 0,
    *,
    output: OutputOptions,
) -> None:
    """Render images of coloured shapes, with captions and questions."""
    from lavit_shapes import make_shapes as verb
    from lavit_shapes.style import Style

    style = Style(image_px=image_px, more_shapes=more_shapes, textures=textures)
    metadata = verb.make_shapes(out, images, seed, heldout, style=style, quiet=output.silent)
    following = f"next: lavit train-encoder {word(out / 'train')} --out RUN"
    line = f"{out}: {images} images in train/, {heldout} in heldout/; {following}"
    show({"path": str(out), **metadata}, output, lines=[line])
