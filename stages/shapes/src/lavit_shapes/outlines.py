"""Size and proportions of each shape, shared by the renderer and by whatever measures rendered images."""

IMAGE_PX = 64
"""Side in pixels of the images for which `RADIUS_PX` is given."""

RADIUS_PX = {"small": (10.0, 11.0), "large": (14.5, 15.2)}
"""Range of the radius of each size name: two large shapes still fit side by side."""

HALF_EXTENT = {
    "circle": (1.0, 1.0),
    "square": (0.886, 0.886),
    "triangle": (1.0, 0.866),
    "diamond": (1.0, 1.0),
    "cross": (1.0, 1.0),
    "ring": (1.0, 1.0),
}
"""Half width and half height in radii: the square has the circle's area, the triangle has sides of 2."""

CROSS_HALF_WIDTH, RING_INNER = 0.36, 0.5
"""Half width of a cross's bars, and radius of a ring's hole, in radii."""
