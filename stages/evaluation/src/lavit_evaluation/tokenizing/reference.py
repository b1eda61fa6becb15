"""Which images a tokenizer is measured on, so that two scores can be told to rest on the same ones."""

import hashlib
from dataclasses import dataclass

from lavit_core.data import Data

from lavit_evaluation.config import EvalTokenizerConfig
from lavit_evaluation.shapes.heldout import choose_images


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The images of an evaluation."""

    keys: list[str]
    """Images that are tokenized."""
    drawn: list[str]
    """Images whose reconstruction is compared with them, some of `keys`."""
    digest: str
    """SHA-256 of the data's digest and both lists."""

    def as_json(self, image_px: int | None) -> dict[str, str | int | None]:
        """Return the entry of score.json; `image_px` is the side at which reconstructions are compared."""
        counts = {"images": len(self.keys), "reconstructions": len(self.drawn)}
        return {"digest": self.digest, **counts, "image_px": image_px}


def choose_reference(data: Data, config: EvalTokenizerConfig, seed: int) -> Reference:
    """Return the images that `config` and the seed choose, the same for every tokenizer."""
    keys = choose_images(data, {}, config.images, seed)
    drawn = choose_images(data, {}, min(config.reconstructions, len(keys)), seed)
    text = "\n".join([data.digest, *keys, "", *drawn])
    return Reference(keys=keys, drawn=drawn, digest=hashlib.sha256(text.encode()).hexdigest())
