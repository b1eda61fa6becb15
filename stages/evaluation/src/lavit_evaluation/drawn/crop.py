"""The middle square that CLIP and DINO look at, cut as torchvision's Resize and CenterCrop do."""

import numpy as np
from PIL import Image


def middle_square(picture: Image.Image, shorter_px: int, side_px: int) -> np.ndarray:
    """Return uint8 [side_px, side_px, 3]: the shorter side brought to `shorter_px` (bicubic), the middle square of it.

    The longer side is rounded down, a half pixel of margin to even, as there.
    """
    width, height = picture.size
    longer = int(shorter_px * max(width, height) / min(width, height))
    size = (longer, shorter_px) if width > height else (shorter_px, longer)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = (round((side - side_px) / 2) for side in size)
    return np.asarray(picture.crop((left, top, left + side_px, top + side_px)))
