"""The subcommand `lavit data make-shapes`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from lavit_core.options import AsJson, Quiet, Seed


def make_shapes(
    out: Annotated[Path, typer.Argument(help="New folder for train/ and heldout/.", show_default=False)],
    images: Annotated[int, typer.Option("--images", help="Images to train on.")] = 4000,
    heldout: Annotated[int, typer.Option("--heldout", help="New images to score on.")] = 1024,
    image_px: Annotated[int, typer.Option("--image-px", help="Side of an image in pixels.")] = 64,
    more_shapes: Annotated[bool, typer.Option("--more-shapes", help="Six shapes instead of three.")] = False,
    textures: Annotated[bool, typer.Option("--textures", help="Striped, dotted and checked objects too.")] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Render images of coloured shapes, with captions and questions."""
    from lavit_shapes import make_shapes as verb
    from lavit_shapes.style import Style

    style = Style(image_px=image_px, more_shapes=more_shapes, textures=textures)
    metadata = verb.make_shapes(out, images, seed, heldout, style=style, quiet=quiet)
    if as_json:
        print(json.dumps({"path": str(out), **metadata}))
    elif not quiet:
        print(
            f"{out}: {images} images in train/, {heldout} in heldout/; "
            f"next: lavit quickstart --data {out / 'train'} --out RUN"
        )
