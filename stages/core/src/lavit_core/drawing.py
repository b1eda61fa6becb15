"""Drawing scenes: anti-aliased shapes from signed distances, on a light ground with faint noise."""

from collections.abc import Sequence

import numpy as np

from lavit_core.scenes import COLOURS, HALF_EXTENT, IMAGE_PX, Scene, SceneObject
from lavit_core.seeds import derive_seed


def draw_pictures(scenes: Sequence[Scene], *, seed: int, split: str, indices: Sequence[int]) -> np.ndarray:
    """Return uint8 [B, 64, 64, 3]; the noise of picture `indices[b]` depends on the seed, split and index alone."""
    pictures = np.empty((len(scenes), IMAGE_PX, IMAGE_PX, 3), dtype=np.float32)
    pictures[:] = np.array([scene.background for scene in scenes], dtype=np.float32)[:, None, None, :]
    for slot in range(max(len(scene.objects) for scene in scenes)):
        rows = [row for row, scene in enumerate(scenes) if len(scene.objects) > slot]
        things = [scenes[row].objects[slot] for row in rows]
        cover = np.clip(0.5 - _distance(things), 0.0, 1.0)[..., None]
        colour = np.array([COLOURS[thing.colour] for thing in things], dtype=np.float32)[:, None, None, :]
        pictures[rows] += cover * (colour - pictures[rows])
    noise = np.empty(pictures.shape, dtype=np.uint8)
    for row, index in enumerate(indices):
        generator = np.random.Generator(np.random.PCG64(derive_seed(seed, "noise", split, index)))
        noise[row] = np.frombuffer(generator.bytes(noise[row].size), dtype=np.uint8).reshape(noise[row].shape)
    # The sum of two random digits 0..7 less its mean 7: triangular, standard deviation 3.2 of 255.
    pictures += ((noise & 7) + (noise >> 5)).astype(np.float32) - 7.0
    return np.clip(pictures + 0.5, 0.0, 255.0).astype(np.uint8)


def _distance(things: Sequence[SceneObject]) -> np.ndarray:
    """Return signed distances [B, 64, 64] in pixels from each object's outline, negative inside."""
    centre = np.arange(IMAGE_PX, dtype=np.float32) + 0.5
    x = centre[None, None, :] - np.array([thing.x for thing in things], dtype=np.float32)[:, None, None]
    y = centre[None, :, None] - np.array([thing.y for thing in things], dtype=np.float32)[:, None, None]
    radius = np.array([thing.radius for thing in things], dtype=np.float32)[:, None, None]
    out = np.empty((len(things), IMAGE_PX, IMAGE_PX), dtype=np.float32)
    shapes = np.array([thing.shape for thing in things])
    for shape in ("circle", "square", "triangle"):
        here = shapes == shape
        half_height = radius[here] * np.float32(HALF_EXTENT[shape][1])
        if shape == "circle":
            out[here] = np.sqrt(x[here] ** 2 + y[here] ** 2) - radius[here]
        elif shape == "square":
            out[here] = np.maximum(np.abs(x[here]), np.abs(y[here])) - half_height
        else:
            # Equilateral, apex up: the base, and two sides whose outward normals are (+-cos 30, -sin 30).
            side = np.abs(x[here]) * np.float32(np.cos(np.pi / 6)) - (y[here] + half_height) * np.float32(0.5)
            out[here] = np.maximum(side, y[here] - half_height)
    return out
