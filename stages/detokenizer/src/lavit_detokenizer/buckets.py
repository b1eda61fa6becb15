"""Which of several sizes each image is learned at, and batches of one size."""

import collections
from collections.abc import Sequence

import numpy as np
from lavit_core.errors import InputError, Interrupted
from lavit_core.image_warnings import count_image_warnings
from lavit_core.images import ImageFile, image_height_width
from lavit_core.interrupt import stop_requested
from lavit_core.progress import Progress
from lavit_core.seeds import derive_seed, shuffled_batch

from lavit_detokenizer.sizes import nearest_size, size_name


def assign(images: Sequence[ImageFile], sizes: Sequence[tuple[int, int]], *, quiet: bool) -> np.ndarray:
    """Return the index of the size (height, width) nearest in shape to each image, int64 [N]; reads headers alone.

    Raises InputError naming an image that can't be read, or a size that no image is nearest to: it would be drawn
    without having been learned.
    """
    if len(sizes) == 1:
        return np.zeros(len(images), dtype=np.int64)
    nearest = np.empty(len(images), dtype=np.int64)
    # Images are read again for their pixels, which then warns.
    with (
        Progress("sizes", len(images), unit="image", quiet=quiet) as progress,
        count_image_warnings(collections.Counter()),
    ):
        for index, image in enumerate(images):
            nearest[index] = nearest_size(image_height_width(image), sizes)
            progress.advance()
            if stop_requested():
                raise Interrupted(
                    f"sizes: at image {index + 1} of {len(images)}, before the first step; run the same command again"
                )
    for place, size in enumerate(sizes):
        if place not in nearest:
            raise InputError(
                f"setting sizes: none of {len(images)} images is nearest in shape to {size_name(size)}; leave it out"
            )
    return nearest


def bucket_batch(bucket_N: np.ndarray, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Return the item indices [batch_size] of one training step, all of one bucket; `bucket_N` is that of each item.

    A step's bucket is that of one item, which comes from an endless chain of permutations of all items: so every N
    steps give a bucket as many batches as it has items. Its items follow in a chain of permutations of their own, as in
    `shuffled_batch`, which this is for one bucket. The result depends on the arguments alone.
    """
    count = len(bucket_N)
    if (bucket_N == bucket_N[0]).all():
        return shuffled_batch(count, batch_size, step, seed)
    epoch, place = divmod(step, count)
    order = bucket_N[np.random.default_rng(derive_seed(seed, "buckets", epoch)).permutation(count)]
    bucket = order[place]
    items = np.flatnonzero(bucket_N == bucket)
    earlier = epoch * len(items) + int((order[:place] == bucket).sum())
    return items[shuffled_batch(len(items), batch_size, earlier, seed)]
