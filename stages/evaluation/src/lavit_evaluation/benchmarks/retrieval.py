"""`lavit eval flickr30k-retrieval`, `coco-retrieval`: images and captions ranked by likelihood.

text    log p(caption | image). Text to image: images ranked by how likely they make the caption. Image to text
        compares captions with each other, and a frequent caption is likely after anything: `debiased` takes its mean
        likelihood over the gallery's images away, `per_token` divides by its length.
codes   log p(codes | caption). Text to image compares images with each other, and an image of few, frequent codes is
        likely after anything: `debiased` is log p(codes | caption) - eta log p(codes).

Source: TIGeR (arXiv 2406.05814), which ranks LaVIT's gallery by these three.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from lavit_core.config import Config
from lavit_core.files import file_sha256, write_bytes
from lavit_core.images import square_pixels
from lavit_core.seeds import epoch_batches
from lavit_scoring import find_benchmark
from lavit_scoring.references import read_references
from lavit_scoring.score import Score, mark_partial
from lavit_scoring.scorers import examples_digest
from pydantic import Field
from safetensors.numpy import save

from lavit_evaluation.benchmarks.answers import PARTS
from lavit_evaluation.benchmarks.items import Item, images_digest, load_items, sample_items
from lavit_evaluation.benchmarks.ranking import ranks_by_codes, ranks_by_text, recalls
from lavit_evaluation.compute import Compute
from lavit_evaluation.evaluation_session import EvaluationSession, evaluation_session
from lavit_evaluation.model import find_parts, model_digests, open_model, reading_record
from lavit_evaluation.options import Files
from lavit_evaluation.stores import Shards
from lavit_evaluation.tables.unpack import official_files

if TYPE_CHECKING:
    from lavit import LaVIT

VERSION = 1
SHARD = 16
"""Images (or captions) a shard: what a kill can cost at most."""

BASES = {"flickr30k-retrieval": "flickr30k-caption", "coco-retrieval": "coco-caption"}
"""Retrieval benchmark -> the caption benchmark whose files it reads."""


class RetrievalConfig(Config):
    """Settings of a retrieval benchmark."""

    captions_per_image: int = Field(5, ge=1)
    """Captions of each image that are in the gallery, in file order (papers: 5)."""
    likelihood: Literal["text", "codes", "both"] = "text"
    """What is ranked by: log p(caption | image), log p(codes | caption), or each of them."""
    eta: float = Field(1.0, ge=0)
    """Strength of the debiasing of codes: log p(codes | caption) - eta log p(codes) (TIGeR: about 1)."""
    limit: int | None = Field(None, ge=1)
    """Only so many images, drawn by the seed; a smaller gallery is easier, so the score is marked partial."""


def run_retrieval(
    name: str, model: "Path | LaVIT", files: Files, out: Path, config: RetrievalConfig, *, seed: int = 0,
    compute: Compute = Compute(batch_size=64),
) -> dict[str, Any]:  # fmt: skip
    """Rank every caption against every image and return score.json's content; the same call goes on after a kill.

    Raises InputError, UsageError, Interrupted.
    """
    inputs = find_parts(model, PARTS)
    base = find_benchmark(BASES[name])
    data, split = official_files(base, files.data, out, split=files.split, allow_network=files.allow_network,
                                 quiet=compute.quiet)  # fmt: skip
    loaded = load_items(base, data, annotations=files.annotations, images=files.images, split=split)
    items = sample_items(loaded.items, config.limit, seed)
    references = next(iter(read_references(loaded.files["annotations"], split).by_kind.values()))
    texts, owners = gallery(items, references, config.captions_per_image)
    inputs |= {"annotations": file_sha256(loaded.files["annotations"]), "pictures": images_digest(items)}
    settings = config.model_dump(mode="json") | {"split": split, "precision": compute.precision, "seed": seed}

    with evaluation_session(
        out, command=f"eval {name}", settings=settings, inputs=inputs, quiet=compute.quiet
    ) as session:
        if session.finished:
            return session.finished
        began = time.monotonic()
        lavit = open_model(model, PARTS, compute)
        names = [item.id for item in items]
        ranks: dict[str, np.ndarray] = {}
        if config.likelihood != "codes":
            log_p_IM = text_matrix(session, items, texts, lavit, out, compute.batch_size)
            ranks |= ranks_by_text(log_p_IM, owners, lavit.count_tokens(texts))
        if config.likelihood != "text":
            log_p_MI = code_matrix(session, items, texts, lavit, out, compute.batch_size)
            ranks |= ranks_by_codes(log_p_MI[:-1], log_p_MI[-1], owners, config.eta)
        found = Score(protocol="likelihood", version=VERSION)
        found.metrics |= recalls(ranks, owners, names, seed)
        found.seconds["likelihoods"] = time.monotonic() - began
        write_bytes(out / "ranks.safetensors", save(ranks))
        result = found.as_json({
            "benchmark": name,
            "complete": len(items) == len(loaded.items),
            "items": {"scored": len(items), "expected": len(loaded.items), "digest": examples_digest(names)},
            "unit": "per cent",
            "lemmatizer": None,
            "gallery": {"pictures": len(items), "captions": len(texts)},
            "generation": {
                "model": model_digests(model), "prompt": PROMPTS[config.likelihood], **reading_record(lavit)
            },
            "inputs": inputs,
            "settings": settings,
            "published": PUBLISHED.get(name),
        })  # fmt: skip
        return session.finish(mark_partial(result))


PROMPTS = {
    "text": "the image, then the caption",
    "codes": "the caption, then [IMG] and the codes",
    "both": "the image, then the caption; the caption, then [IMG] and the codes",
}
"""What is asked, for score.json."""

PUBLISHED = {
    "coco-retrieval": {
        "figures": "text to image R@1 (COCO, LaVIT-7B): 50.35 by log p(caption | image), 0.02 by log p(codes | "
        "caption), 23.43 by the same debiased",
        "by": "the authors of TIGeR, not measured here",
    }
}
"""Metrics of others, shown as theirs."""


def gallery(
    items: Sequence[Item], references: dict[str, list[str]], captions_per_image: int
) -> tuple[list[str], np.ndarray]:
    """Return the captions of all images, and the place of the image that each belongs to."""
    rows = [(text, place) for place, item in enumerate(items)
            for text in references[str(item.id)][:captions_per_image]]  # fmt: skip
    return [text for text, _ in rows], np.array([place for _, place in rows])


def text_matrix(
    session: EvaluationSession, items: Sequence[Item], texts: Sequence[str], model: "LaVIT", out: Path, batch_size: int
) -> np.ndarray:
    """Return log p(text | image) [I, M], from disk or from the model. Raises Interrupted."""

    def rows(batch: Sequence[Item]) -> np.ndarray:
        images = [square_pixels(item.image, model.image_px) for item in batch]
        return model.score(images, texts, all_pairs=True, batch_size=batch_size)

    return in_shards(session, items, rows, out / "likelihoods", unit="image")


def code_matrix(
    session: EvaluationSession, items: Sequence[Item], texts: Sequence[str], model: "LaVIT", out: Path, batch_size: int
) -> np.ndarray:
    """Return log p(codes | text) [M, I] and, as the last row, log p(codes); from disk or from the model.

    Raises Interrupted.
    """

    @cache
    def codes() -> list[np.ndarray]:
        images = [[square_pixels(item.image, model.image_px) for item in items[batch]]
                  for batch in epoch_batches(len(items), SHARD)]  # fmt: skip
        return [own for batch in images for own in model.encode(batch).codes]

    def rows(batch: Sequence[str]) -> np.ndarray:
        return model.score_codes(batch, codes(), all_pairs=True, batch_size=batch_size)

    # The empty text is one more prefix: what a bare [IMG] makes of each image.
    return in_shards(session, [*texts, ""], rows, out / "code_likelihoods", unit="caption", part="codes")


def in_shards(
    session: EvaluationSession, things: Sequence[Any], rows: Callable[[Sequence[Any]], Iterable[np.ndarray]],
    folder: Path, *, unit: str, part: str = "",
) -> np.ndarray:  # fmt: skip
    """Return one row of log-likelihoods a thing, shard by shard from disk or from `rows`. Raises Interrupted."""
    store = Shards(folder, size=SHARD, tensor="log_p")
    shards = session.ask(dict(enumerate(things)), rows, store, batch_size=1, unit=unit, part=part)
    return np.concatenate(list(shards)).astype(np.float64)
