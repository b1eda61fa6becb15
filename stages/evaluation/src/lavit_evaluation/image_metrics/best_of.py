"""Best of N: of several images that are drawn from a prompt, the one that a CLIP finds nearest to its text is kept.

Source: the released evaluate_text2img.py: four images a caption, ViT-L/14, the cosine with the caption alone,
images squashed to CLIP's square (bicubic).
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from lavit_core.images import resize_to_square
from PIL import Image

from lavit_evaluation.image_metrics.clip_score import Clip

BATCH = 32


def similarities(clip: Clip, images: Sequence[np.ndarray], texts: Sequence[str]) -> np.ndarray:
    """Return the cosine float32 [N] of each image uint8 [h, w, 3] and its text."""
    said = {text: clip.texts([text])[0] for text in dict.fromkeys(texts)}
    rows = []
    for start in range(0, len(images), BATCH):
        squares = [resize_to_square(Image.fromarray(one), clip.image_px) for one in images[start : start + BATCH]]
        rows.append(clip.images(squares))
    vectors = np.concatenate(rows)
    cosines: np.ndarray = (vectors * np.stack([said[text] for text in texts])).sum(1)
    return cosines


def keep_best(
    draw: Callable[[Sequence[str], Sequence[int]], Iterable[np.ndarray]], clip: Clip, best_of: int
) -> Callable[[Sequence[str], Sequence[int]], list[np.ndarray]]:
    """Return a `draw` that draws `best_of` candidates of each text and gives the one nearest to it."""
    from lavit.reranking import candidate_seeds, choose_best

    def drawn(texts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        own = candidate_seeds(seeds, best_of)
        # One candidate of every text after another: no more at once than the caller's batch.
        rounds = [list(draw(texts, own[number::best_of])) for number in range(best_of)]
        kept = choose_best(np.stack([similarities(clip, images, texts) for images in rounds], axis=1), best_of)
        return [rounds[one % best_of][one // best_of] for one in kept]

    return drawn
