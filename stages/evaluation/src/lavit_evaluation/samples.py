"""samples.json and the images beside it: what a person looks at next to a score."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.files import write_json
from PIL import Image


def write_samples(run: Path, sections: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write samples.json and samples/*.png; a row's arrays are images, and become the file's path under `run`."""
    folder = run / "samples"
    folder.mkdir(exist_ok=True)
    written: dict[str, list[dict[str, Any]]] = {}
    for section, rows in sections.items():
        written[section] = []
        for number, row in enumerate(rows):
            said = dict(row)
            for key, value in row.items():
                if isinstance(value, np.ndarray):
                    said[key] = f"samples/{section}-{number:03d}-{key}.png"
                    Image.fromarray(value).save(run / said[key])
            written[section].append(said)
    write_json(run / "samples.json", written)
