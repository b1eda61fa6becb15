"""`lavit eval flickr30k-retrieval`, `coco-retrieval`: pictures and captions ranked by likelihood.

text    log p(caption | picture). Text to image: pictures ranked by how likely they make the caption. Image to text
        compares captions with each other, and a frequent caption is likely after anything: `debiased` takes its mean
        likelihood over the gallery's pictures away, `per_token` divides by its length.
codes   log p(codes | caption). Text to image compares pictures with each other, and a picture of few, frequent codes is
        likely after anything: `debiased` is log p(codes | caption) - eta log p(codes).

Source: TIGeR (arXiv 2406.05814), which ranks LaVIT's gallery by these three.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from lavit_core.config import Config
from lavit_core.errors import Interrupted
from lavit_core.files import file_sha256, write_bytes, write_json
from lavit_core.images import square_pixels
from lavit_core.interrupt import stop_signals
from lavit_core.modeldir import find_part
from lavit_core.progress import Progress
from lavit_core.rundir import open_run
from lavit_core.seeds import epoch_batches
from lavit_scoring.catalogue import find_benchmark
from lavit_scoring.references import read_references
from lavit_scoring.score import Score
from lavit_scoring.score_file import examples_digest
from pydantic import Field
from safetensors.numpy import load_file, save

from lavit_evaluation.model_digests import model_digests
from lavit_evaluation.running.benchmark import draw
from lavit_evaluation.running.items import Item, load_material, pictures_digest
from lavit_evaluation.running.ranking import ranks_by_codes, ranks_by_text, recalls
from lavit_evaluation.running.reader import pretrain_api
from lavit_evaluation.tables.unpack import official_files

T = TypeVar("T")

VERSION = 1
SHARD = 16
"""Pictures (or captions) a shard: what a kill can cost at most."""

BASES = {"flickr30k-retrieval": "flickr30k-caption", "coco-retrieval": "coco-caption"}
"""Retrieval benchmark -> the caption benchmark whose files it reads."""


class RetrievalConfig(Config):
    """Settings of a retrieval benchmark."""

    captions_per_image: int = Field(5, ge=1)
    """Captions of each picture that are in the gallery, in file order (papers: 5)."""
    likelihood: Literal["text", "codes", "both"] = "text"
    """What is ranked by: log p(caption | picture), log p(codes | caption), or each of them."""
    eta: float = Field(1.0, ge=0)
    """Strength of the debiasing of codes: log p(codes | caption) - eta log p(codes) (TIGeR: about 1)."""
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
    codes: Callable[[np.ndarray], list[np.ndarray]]
    """Pictures -> the codes int64 [n] of each."""
    code_likelihoods: Callable[[Sequence[str], Sequence[np.ndarray]], Iterator[np.ndarray]]
    """Texts and the codes of I pictures -> log p(codes | text) [I] of each text; the empty text gives log p(codes)."""
    about: dict[str, Any]


def load_matcher(model: Path, *, rows: int, device: str) -> Matcher:
    """Load tokenizer and language model. Raises InputError when a part or a distribution is missing."""
    api = pretrain_api(model)
    from lavit_tokenizer.api import load_tokenizer

    tokenizer, llm = load_tokenizer(model, device=device), api.load_llm(model, device=device)

    def codes(pixels: np.ndarray) -> list[np.ndarray]:
        import torch

        with torch.inference_mode():
            encoded = tokenizer.encode(torch.from_numpy(pixels))
        return np.split(encoded.codes.cpu().numpy(), np.cumsum(encoded.counts.cpu().numpy())[:-1])

    return Matcher(
        image_px=tokenizer.config.preprocessing.image_px,
        likelihoods=lambda pixels, texts: api.text_log_likelihoods(
            llm, api.encode_images(llm, tokenizer, pixels), texts, rows=rows
        ),
        num_tokens=lambda text: len(llm.codec.encode(text)) + 1,
        codes=codes,
        code_likelihoods=lambda texts, images: api.code_log_likelihoods(llm, texts, images, rows=rows),
        about={"image_input": llm.image_input, "precision": llm.precision},
    )


def run_retrieval(
    name: str, model: Path, data: Path, out: Path, config: RetrievalConfig, *, annotations: Path | None = None,
    images: Path | None = None, split: str | None = None, batch_size: int = 64, seed: int = 0, device: str = "auto",
    quiet: bool = False, allow_network: bool = False, load: Callable[[], Matcher] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Rank every caption against every picture and return score.json's content; goes on after a kill.

    `load` gives the model in another way than from `model` (tests do). Raises InputError, UsageError, Interrupted.
    """
    if load is None:
        find_part(model, "tokenizer")
        find_part(model, "llm")
    base = find_benchmark(BASES[name])
    data, split = official_files(base, data, out, split=split, allow_network=allow_network, quiet=quiet)
    material = load_material(base, data, annotations=annotations, images=images, split=split)
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
        names = [item.id for item in items]
        ranks: dict[str, np.ndarray] = {}
        if config.likelihood != "codes":
            lengths = np.array([matcher.num_tokens(text) for text in texts])
            ranks |= ranks_by_text(text_matrix(items, texts, matcher, out, name, quiet), owners, lengths)
        if config.likelihood != "text":
            ranks |= ranks_by_codes(*code_matrix(items, texts, matcher, out, name, quiet), owners, config.eta)
        score = Score(protocol="likelihood", version=VERSION)
        figures = recalls(ranks, owners, names, seed)
        partial = len(items) < len(material.items)
        score.metrics |= {} if partial else figures
        score.seconds["likelihoods"] = time.monotonic() - began
        about = {
            "benchmark": name,
            "complete": not partial,
            "items": {"scored": len(items), "expected": len(material.items), "digest": examples_digest(names)},
            "unit": "per cent",
            "lemmatizer": None,
            "gallery": {"pictures": len(items), "captions": len(texts)},
            "generation": {"model": model_digests(model), "prompt": PROMPTS[config.likelihood], **matcher.about},
            "inputs": inputs,
            "settings": settings,
            "published": PUBLISHED.get(name),
        }  # fmt: skip
        result = score.as_json(about)
        if partial:
            as_rows = {key: metric.as_json() for key, metric in figures.items()}
            result["partial"] = {"scored": len(items), "expected": len(material.items), "figures": as_rows}
        write_bytes(out / "ranks.safetensors", save(ranks))
        write_json(out / "score.json", result)
        run.finish(result)
        return result


PROMPTS = {
    "text": "the picture, then the caption",
    "codes": "the caption, then [IMG] and the codes",
    "both": "the picture, then the caption; the caption, then [IMG] and the codes",
}
"""What is asked, for score.json."""

PUBLISHED = {
    "coco-retrieval": {
        "figures": "text to image R@1 (COCO, LaVIT-7B): 50.35 by log p(caption | picture), 0.02 by log p(codes | "
        "caption), 23.43 by the same debiased",
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


def text_matrix(
    items: Sequence[Item], texts: Sequence[str], matcher: Matcher, out: Path, name: str, quiet: bool
) -> np.ndarray:
    """Return log p(text | picture) [I, M], from disk or from the model. Raises Interrupted."""

    def rows(batch: Sequence[Item]) -> Iterator[np.ndarray]:
        return matcher.likelihoods(np.stack([square_pixels(item.image, matcher.image_px) for item in batch]), texts)

    return in_shards(items, rows, out / "likelihoods", title=f"eval {name}", unit="picture", quiet=quiet)


def code_matrix(
    items: Sequence[Item], texts: Sequence[str], matcher: Matcher, out: Path, name: str, quiet: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return log p(codes | text) [M, I] and log p(codes) [I], from disk or from the model. Raises Interrupted."""
    codes: list[np.ndarray] = []

    def rows(batch: Sequence[str]) -> Iterator[np.ndarray]:
        if not codes:  # once, and only when something is left to compute
            for places in epoch_batches(len(items), SHARD):
                pictures = [square_pixels(item.image, matcher.image_px) for item in items[places]]
                codes.extend(matcher.codes(np.stack(pictures)))
        return matcher.code_likelihoods(batch, codes)

    # The empty text is one more prefix: what a bare [IMG] makes of each picture.
    found = in_shards([*texts, ""], rows, out / "code_likelihoods", title=f"eval {name}, codes", unit="caption",
                      quiet=quiet)  # fmt: skip
    return found[:-1], found[-1]


def in_shards(
    things: Sequence[T], rows: Callable[[Sequence[T]], Iterator[np.ndarray]], folder: Path, *, title: str, unit: str,
    quiet: bool,
) -> np.ndarray:  # fmt: skip
    """Return one row of log-likelihoods a thing, shard by shard from disk or from `rows`. Raises Interrupted."""
    folder.mkdir(exist_ok=True)
    parts = []
    with stop_signals() as stop, Progress(title, len(things), unit=unit, quiet=quiet) as progress:
        for number, places in enumerate(epoch_batches(len(things), SHARD)):
            file, batch = folder / f"{number:05d}.safetensors", things[places]
            if not file.exists():
                found = []
                for row in rows(batch):
                    if stop():
                        raise Interrupted(f"{title}: stopped before {file.name}; run the same command to go on")
                    found.append(row)
                    progress.advance(1)
                write_bytes(file, save({"log_p": np.stack(found).astype(np.float32)}))
            else:
                progress.advance(len(batch))
            parts.append(load_file(file)["log_p"])
    return np.concatenate(parts).astype(np.float64)
