"""Caption result files: list of {image_id, caption}, against several reference captions a picture."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lavit_scoring.bootstrap import ends, interval_of_mean, resampled_sums
from lavit_scoring.estimate import Figure
from lavit_scoring.metrics.bleu import MAX_N, bleu_of, bleu_parts
from lavit_scoring.metrics.cider import cider_d
from lavit_scoring.metrics.java import java_scores, why_no_java
from lavit_scoring.metrics.ptb_tokenizer import SEPARATORS, tokenize
from lavit_scoring.metrics.rouge import rouge_l
from lavit_scoring.references import References, read_references
from lavit_scoring.results import align, read_results
from lavit_scoring.scored import Scored, Task


@dataclass(kw_only=True)
class CaptionScores:
    """Figures and per-picture scores of one set of captions."""

    figures: dict[str, Figure]
    items: dict[str, Sequence[float]] = field(default_factory=dict)


def score_captions(task: Task) -> Scored:
    """Score captions as the COCO server does. Raises InputError when pictures do not fit."""
    skipped = {}
    if not task.java:
        skipped = dict.fromkeys(("meteor", "spice"), "needs Java and pycocoevalcap; --java computes it")
    else:
        skipped = why_no_java()
    references = read_references(task.annotations, task.split)
    captions, notes = read_results(task.results, ids=("image_id", "image", "file_name"), values=("caption",),
                                   as_id=str)  # fmt: skip
    truths = references.keyed_like(captions)
    ids, more = align(captions, truths, file=task.results, against=task.annotations, what="picture",
                      partial=task.partial)  # fmt: skip
    said = [captions[name] for name in ids]
    read = caption_figures(said, [truths[name] for name in ids], seed=task.seed)
    figures, items = read.figures, read.items
    if task.java:
        for name, scores in java_scores(said, [truths[name] for name in ids], skip=skipped).items():
            figures[name] = mean_figure(scores.value, scores.items, task.seed, name)
            items[name] = scores.items
    figures |= _domains(references, ids, said, truths, task.seed)
    notes |= more | {
        "empty_captions": sum(not caption.strip() for caption in said),
        "captions_with_line_separators": sum(bool(SEPARATORS.search(caption)) for caption in said),
        "tokenizer": "ptb-like, pure Python",
        "cider": f"n-gram weights from the references of these {len(ids)} pictures: no mean over parts of a set",
    }
    return Scored(ids=ids, expected=len(truths), unit="1 (papers print x100)", items=items, figures=figures,
                  skipped=skipped, notes=notes)  # fmt: skip


def caption_figures(captions: Sequence[str], references: Sequence[Sequence[str]], *, seed: int) -> CaptionScores:
    """Return BLEU-1..4, ROUGE-L and CIDEr of captions, each with a 95 % interval over pictures.

    The interval of CIDEr keeps the n-gram weights of the whole set.
    """
    said, truths = tokenize(captions), [tokenize(truth) for truth in references]
    parts = np.stack([bleu_parts(*pair) for pair in zip(said, truths, strict=True)])
    whole, resampled = bleu_of(parts.sum(0)), bleu_of(resampled_sums(parts, seed, "bleu"))
    figures: dict[str, Figure] = {}
    for n in range(MAX_N):
        low, high = ends(resampled[:, n])
        figures[f"bleu_{n + 1}"] = Figure(value=float(whole[n]), count=len(said), low=low, high=high)
    rouge = [rouge_l(*pair) for pair in zip(said, truths, strict=True)]
    cider = cider_d(said, truths).tolist()
    figures["rouge_l"] = mean_figure(float(np.mean(rouge)), rouge, seed, "rouge_l")
    figures["cider"] = mean_figure(float(np.mean(cider)), cider, seed, "cider")
    return CaptionScores(figures=figures, items={"rouge_l": rouge, "cider": cider})


def mean_figure(value: float, scores: Sequence[float], seed: int, name: str) -> Figure:
    """Return a figure whose interval is that of the mean of per-picture scores."""
    low, high = interval_of_mean(scores, range(len(scores)), seed, name)
    return Figure(value=value, count=len(scores), low=low, high=high)


def _domains(
    references: References, ids: Sequence[str], said: Sequence[str], truths: dict[str, list[str]], seed: int
) -> dict[str, Figure]:
    """Return NoCaps' figures by domain, each a set of its own with its own n-gram weights."""
    figures: dict[str, Figure] = {}
    for domain in sorted(set(references.domains.values())):
        here = [index for index, name in enumerate(ids) if references.domains.get(name) == domain]
        if here:
            read = caption_figures([said[i] for i in here], [truths[ids[i]] for i in here], seed=seed)
            figures |= {f"{name}.{domain}": read.figures[name] for name in ("bleu_4", "rouge_l", "cider")}
    return figures
