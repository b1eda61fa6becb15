"""Progress of `LaVIT.generate_steps`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image


@dataclass(frozen=True, kw_only=True)
class GenerationStep:
    """One more code, or one more denoising step, of a batch of images."""

    stage: Literal["codes", "pixels", "done"]
    """`codes`: the language model draws codes; `pixels`: the detokenizer denoises; `done`: all images are there."""
    indices: Sequence[int]
    """Which prompts are in the batch."""
    step: int
    """Codes, or denoising steps, so far."""
    num_steps: int
    """The most there can be: an image may end before."""
    read_codes: Callable[[], list[np.ndarray]]
    """Returns the codes int64 [n] drawn so far for each of `indices`; on a GPU the call waits for it."""
    images: list[Image.Image] | None = None
    """The images of all prompts, in the last step alone."""
