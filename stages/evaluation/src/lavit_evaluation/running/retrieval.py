"""`lavit eval flickr30k-retrieval`, `coco-retrieval`: pictures and captions ranked by log p(caption | picture).

One matrix serves both directions. Text to image: pictures ranked by how likely they make the caption. Image to text
compares captions with each other, and a frequent caption is likely after anything: `debiased` takes its mean likelihood
over the gallery's pictures away, `per_token` divides by its length.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lavit_core.config import Config
from lavit_core.errors import Interrupted
from lavit_core.files import file_sha256, write_bytes, write_json
from lavit_core.images import square_pixels
from lavit_core.interrupt import stop_signals
from lavit_core.modeldir import find_part
from lavit_core.progress import Progress
from lavit_core.rundir import open_run
from pydantic import Field
from safetensors.numpy import load_file, save

from lavit_evaluation.metrics.recall import first_hits, recall_at
from lavit_evaluation.running.benchmark import draw
from lavit_evaluation.running.items import Item, load_material, pictures_digest
from lavit_evaluation.running.reader import pretrain_api
from lavit_evaluation.score import Score, model_digests
from lavit_evaluation.scoring.catalogue import find_benchmark
from lavit_evaluation.scoring.references import read_references
from lavit_evaluation.scoring.score_file import examples_digest
from lavit_evaluation.scoring.scored import percent

VERSION = 1
SHARD = 16
"""Pictures a shard: what a kill can cost at most."""

BASES = {"flickr30k-retrieval": "flickr30k-caption", "coco-retrieval": "coco-caption"}
"""Retrieval benchmark -> the caption benchmark whose files it reads."""


class RetrievalConfig(Config):
    """Settings of a retrieval benchmark."""

    captions_per_image: int = Field(5, ge=1)
    """Captions of each picture that are in the gallery, in file order (papers: 5)."""
    limit: int | None = Field(None, ge=1)
    """Only so many pictures, drawn by the seed; a smaller gallery is easier, so the score is marked partial."""


@dataclass(frozen=True, kw_only=True)
class Matcher:
    """A model as functions on numpy arrays."""

    image_px: int
    likelihoods: Callable[[np.ndarray, Sequence[str]], Iterator[np.ndarray]]
    """Pictures uint8 [B, px, px, 3] and M texts -> log p(text | picture) [M] of each picture."""
    num_tokens: Callable[[str], int]
    """Tokens of a text with its end."""
    about: dict[str, Any]


def load_matcher(model: Path, *, rows: int, device: str) -> Matcher:
    """Load tokenizer and language model. Raises InputError when a part or a distribution is missing."""
    api = pretrain_api(model)
    from lavit_tokenizer.api import load_tokenizer

    tokenizer, llm = load_tokenizer(model, device=device), api.load_llm(model, device=device)
    return Matcher(
        image_px=tokenizer.config.preprocessing.image_px,
        likelihoods=lambda pixels, texts: api.text_log_likelihoods(
            llm, api.look(llm, tokenizer, pixels), texts, rows=rows
        ),
        num_tokens=lambda text: len(llm.codec.encode(text)) + 1,
        about={"image_input": llm.image_input, "precision": "fp32"},
    )


def run_retrieval(
    name: str, model: Path, data: Path, out: Path, config: RetrievalConfig, *, annotations: Path | None = None,
    images: Path | None = None, split: str | None = None, batch_size: int = 64, seed: int = 0, device: str = "auto",
    quiet: bool = False, load: Callable[[], Matcher] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Rank every caption against every picture and return score.json's content; goes on after a kill.

    `load` gives the model in another way than from `model` (tests do). Raises InputError, UsageError, Interrupted.
    """
    if load is None:
        find_part(model, "tokenizer")
        find_part(model, "llm")
    material = load_material(find_benchmark(BASES[name]), data, annotations=annotations, images=images, split=split)
    items = draw(material.items, config.limit, seed)
    references = next(iter(read_references(material.files["annotations"], split).by_kind.values()))
    texts, owners = gallery(items, references, config.captions_per_image)
    inputs = {f"model.{part}": digest for part, digest in model_digests(model).items() if part in ("tokenizer", "llm")}
    inputs |= {"annotations": file_sha256(material.files["annotations"]), "pictures": pictures_digest(items)}
    settings = {**config.model_dump(mode="json"), "split": split, "seed": seed}
    with open_run(out, command=f"eval {name}", config=settings, inputs=inputs) as run:
        if run.done is not None:
            return run.done
        began = time.monotonic()
        matcher = load() if load is not None else load_matcher(model, rows=batch_size, device=device)
        scores = fill(items, texts, matcher, out / "likelihoods", name, quiet)
        score = Score(protocol="likelihood", version=VERSION)
        lengths = np.array([matcher.num_tokens(text) for text in texts])
        figures, ranks = recalls(scores, owners, lengths, [item.id for item in items], seed)
        partial = len(items) < len(material.items)
        score.figures |= {} if partial else figures
        score.seconds["likelihoods"] = time.monotonic() - began
        about = {
            "benchmark": name,
            "complete": not partial,
            "items": {"scored": len(items), "expected": len(material.items), "digest": examples_digest(
                [item.id for item in items])},
            "unit": "per cent",
            "lemmatizer": None,
            "gallery": {"pictures": len(items), "captions": len(texts)},
            "generation": {"model": model_digests(model), "prompt": "the picture, then the caption", **matcher.about},
            "inputs": inputs,
            "settings": settings,
            "published": PUBLISHED.get(name),
        }  # fmt: skip
        result = score.as_json(about)
        if partial:
            as_rows = {key: vars(figure) for key, figure in figures.items()}
            result["partial"] = {"scored": len(items), "expected": len(material.items), "figures": as_rows}
        write_bytes(out / "ranks.safetensors", save(ranks))
        write_json(out / "score.json", result)
        run.finish(result)
        return result


PUBLISHED = {
    "coco-retrieval": {
        "figures": "text to image R@1 50.35, by the same likelihood (COCO, LaVIT-7B)",
        "by": "the authors of TIGeR, not measured here",
    }
}
"""Figures of others, shown as theirs."""


def gallery(
    items: Sequence[Item], references: dict[str, list[str]], captions_per_image: int
) -> tuple[list[str], np.ndarray]:
    """Return the captions of all pictures, and the place of the picture that each belongs to."""
    rows = [(text, place) for place, item in enumerate(items)
            for text in references[str(item.id)][:captions_per_image]]  # fmt: skip
    return [text for text, _ in rows], np.array([place for _, place in rows])


def fill(
    items: Sequence[Item], texts: Sequence[str], matcher: Matcher, folder: Path, name: str, quiet: bool
) -> np.ndarray:
    """Return log p(text | picture) [I, M], shard by shard from disk or from the model. Raises Interrupted."""
    folder.mkdir(exist_ok=True)
    parts = []
    with stop_signals() as stop, Progress(f"eval {name}", len(items), unit="picture", quiet=quiet) as progress:
        for start in range(0, len(items), SHARD):
            file, batch = folder / f"{start // SHARD:05d}.safetensors", items[start : start + SHARD]
            if not file.exists():
                if stop():
                    raise Interrupted(f"eval {name}: stopped before {file.name}; run the same command to go on")
                pixels = np.stack([square_pixels(item.image, matcher.image_px) for item in batch])
                rows = []
                for row in matcher.likelihoods(pixels, texts):
                    rows.append(row)
                    progress.advance(1)
                write_bytes(file, save({"log_p": np.stack(rows).astype(np.float32)}))
            else:
                progress.advance(len(batch))
            parts.append(load_file(file)["log_p"])
    return np.concatenate(parts)


def recalls(
    log_p_IM: np.ndarray, owners_M: np.ndarray, lengths_M: np.ndarray, names: Sequence[Any], seed: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return R@1, 5, 10 of both directions with intervals over pictures, and the rank of the best right answer."""
    wide = log_p_IM.astype(np.float64)
    top = wide.max(0)
    prior_M = top + np.log(np.exp(wide - top).mean(0))
    own = [np.flatnonzero(owners_M == place).tolist() for place in range(len(names))]
    ranks = {
        "text_to_image": first_hits(wide.T, [[place] for place in owners_M]),
        "image_to_text": first_hits(wide, own),
        "image_to_text.per_token": first_hits(wide / lengths_M, own),
        "image_to_text.debiased": first_hits(wide - prior_M, own),
    }
    figures = {}
    for way, found in ranks.items():
        clusters = [names[place] for place in owners_M] if way == "text_to_image" else list(names)
        for depth, hits in recall_at(found).items():
            figures[f"{way}.{depth}"] = percent([float(hit) for hit in hits], clusters, seed, f"{way}.{depth}")
    return figures, ranks
