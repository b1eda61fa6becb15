"""The content of an image as numbers and names, and its row in scenes.jsonl."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from lavit_core.errors import InputError
from lavit_core.json_lines import iterate_json_lines


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One shape; `x`, `y` is the centre of its bounding box in pixels, y downwards."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float
    texture: str = "plain"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """The content of one image."""

    combination: Literal["seen", "unseen"]
    """"seen" when training shows every (colour, shape) pair of the image, else "unseen"."""
    objects: tuple[SceneObject, ...]
    """One or two shapes; lengths in pixels of the image."""
    relation: str | None = None
    """Where object 0 stands as seen from object 1; None for a single object, and in a scene read from a file."""
    place: str | None = None
    """Quarter of the image with a single object, say "top left"; None for two, and in a scene read from a file."""
    background: tuple[int, int, int] | None = None
    """sRGB of the ground; None in a scene read from a file."""
    key: str = ""
    """File name of the image, as in captions.jsonl and in token files; empty before the image is written."""
    prompt: str = ""
    """The first caption; empty before the image is written."""

    def row(self) -> dict[str, Any]:
        """Return the scenes.jsonl row, which `read_scenes` reads."""
        objects = [dataclasses.asdict(thing) for thing in self.objects]
        for thing in objects:
            if thing["texture"] == "plain":
                del thing["texture"]
        return {"file_name": self.key, "combination": self.combination, "objects": objects, "prompt": self.prompt}


def read_scenes(file: Path) -> dict[str, Scene]:
    """Return the scenes of a scenes.jsonl by key. Raises InputError naming the line that is not a scene."""
    scenes: dict[str, Scene] = {}
    for number, row in iterate_json_lines(file):
        try:
            scenes[row["file_name"]] = Scene(
                key=row["file_name"],
                combination=row["combination"],
                objects=tuple(SceneObject(**thing) for thing in row["objects"]),
                prompt=row["prompt"],
            )
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{file}:{number}: not a scene ({error}); expected file_name, combination, objects, prompt as "
                "`lavit data make-shapes` writes them"
            ) from None
    return scenes
