"""How tests draw, and what was drawn as one array."""

import numpy as np
from lavit import DrawSettings
from PIL import Image

DRAWING = DrawSettings(num_steps=3, guidance_scale=1.5, batch_size=2)


def pixels_of(images: list[Image.Image]) -> np.ndarray:
    assert all(image.mode == "RGB" for image in images)
    return np.stack([np.asarray(image) for image in images])
