"""Scenes to pixels: anti-aliased shapes from signed distances, on a light ground with faint noise."""

from collections.abc import Sequence

import numpy as np
from lavit_core.seeds import derive_seed

from lavit_shapes.names import COLOURS, MORE_SHAPES
from lavit_shapes.outlines import CROSS_HALF_WIDTH, HALF_EXTENT, IMAGE_PX, RING_INNER
from lavit_shapes.scenes import Scene, SceneObject

LIGHT_TONE = 0.7
"""Share of an object's colour, over its ground, in the lighter tone of a pattern: above one half, so that
a pixel of either tone is nearer to the object's colour than to the ground."""


def render(
    scenes: Sequence[Scene], *, seed: int, split: str, indices: Sequence[int], image_px: int = IMAGE_PX
) -> np.ndarray:
    """Return uint8 [B, px, px, 3]; the noise of image `indices[b]` depends on the seed, split and index alone."""
    images = np.empty((len(scenes), image_px, image_px, 3), dtype=np.float32)
    images[:] = np.array([scene.background for scene in scenes], dtype=np.float32)[:, None, None, :]
    for slot in range(max(len(scene.objects) for scene in scenes)):
        rows = [row for row, scene in enumerate(scenes) if len(scene.objects) > slot]
        things = [scenes[row].objects[slot] for row in rows]
        cover = np.clip(0.5 - _distance(things, image_px), 0.0, 1.0)[..., None]
        if any(thing.texture != "plain" for thing in things):
            cover *= _tones(things, image_px)[..., None]
        colour = np.array([COLOURS[thing.colour] for thing in things], dtype=np.float32)[:, None, None, :]
        images[rows] += cover * (colour - images[rows])
    noise = np.empty(images.shape, dtype=np.uint8)
    for row, index in enumerate(indices):
        generator = np.random.Generator(np.random.PCG64(derive_seed(seed, "noise", split, index)))
        noise[row] = np.frombuffer(generator.bytes(noise[row].size), dtype=np.uint8).reshape(noise[row].shape)
    # The sum of two random digits 0..7 less its mean 7: triangular, standard deviation 3.2 of 255.
    images += ((noise & 7) + (noise >> 5)).astype(np.float32) - 7.0
    return np.clip(images + 0.5, 0.0, 255.0).astype(np.uint8)


def _coordinates(things: Sequence[SceneObject], image_px: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x [B, 1, px] and y [B, px, 1] from each object's centre in pixels, y downwards, and radii [B, 1, 1]."""
    centre = np.arange(image_px, dtype=np.float32) + 0.5
    x = centre[None, None, :] - np.array([thing.x for thing in things], dtype=np.float32)[:, None, None]
    y = centre[None, :, None] - np.array([thing.y for thing in things], dtype=np.float32)[:, None, None]
    return x, y, np.array([thing.radius for thing in things], dtype=np.float32)[:, None, None]


def _distance(things: Sequence[SceneObject], image_px: int) -> np.ndarray:
    """Return signed distances [B, px, px] in pixels from each object's outline, negative inside."""
    x, y, radius = _coordinates(things, image_px)
    out = np.empty((len(things), image_px, image_px), dtype=np.float32)
    shapes = np.array([thing.shape for thing in things])
    for shape in MORE_SHAPES:
        here = shapes == shape
        half_height = radius[here] * np.float32(HALF_EXTENT[shape][1])
        if shape == "circle":
            out[here] = np.sqrt(x[here] ** 2 + y[here] ** 2) - radius[here]
        elif shape == "square":
            out[here] = np.maximum(np.abs(x[here]), np.abs(y[here])) - half_height
        elif shape == "diamond":
            out[here] = (np.abs(x[here]) + np.abs(y[here]) - radius[here]) * np.float32(np.sqrt(0.5))
        elif shape == "cross":
            wide = radius[here] * np.float32(CROSS_HALF_WIDTH)
            across = np.maximum(np.abs(x[here]) - radius[here], np.abs(y[here]) - wide)
            out[here] = np.minimum(across, np.maximum(np.abs(x[here]) - wide, np.abs(y[here]) - radius[here]))
        elif shape == "ring":
            middle, half = (1 + RING_INNER) / 2, (1 - RING_INNER) / 2
            away = np.sqrt(x[here] ** 2 + y[here] ** 2)
            out[here] = np.abs(away - radius[here] * np.float32(middle)) - radius[here] * np.float32(half)
        else:
            # Equilateral, apex up: the base, and two sides whose outward normals are (+-cos 30, -sin 30).
            side = np.abs(x[here]) * np.float32(np.cos(np.pi / 6)) - (y[here] + half_height) * np.float32(0.5)
            out[here] = np.maximum(side, y[here] - half_height)
    return out


def _tones(things: Sequence[SceneObject], image_px: int) -> np.ndarray:
    """Return the share of each object's colour in a pixel, [B, px, px]: `LIGHT_TONE` where its pattern is light."""
    x, y, radius = _coordinates(things, image_px)
    tones = np.ones((len(things), image_px, image_px), dtype=np.float32)
    for place, thing in enumerate(things):
        across, down = x[place] / radius[place], y[place] / radius[place]
        if thing.texture == "striped":
            light = np.broadcast_to(np.floor(down / 0.25) % 2 == 1, tones[place].shape)
        elif thing.texture == "checked":
            light = (np.floor(across / 0.4) + np.floor(down / 0.4)) % 2 == 1
        elif thing.texture == "dotted":
            light = (across % 0.5 - 0.25) ** 2 + (down % 0.5 - 0.25) ** 2 < 0.15**2
        else:
            continue
        tones[place][light] = LIGHT_TONE
    return tones
