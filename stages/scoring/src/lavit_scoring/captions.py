"""Caption result files: list of {image_id, caption}, against several reference captions an image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lavit_scoring.bootstrap import bootstrap_mean, ends, resampled_sums
from lavit_scoring.estimate import Estimate
from lavit_scoring.metrics.bleu import MAX_N, bleu_of, bleu_parts
from lavit_scoring.metrics.cider import cider_d
from lavit_scoring.metrics.java import java_scores, why_no_java
from lavit_scoring.metrics.ptb_tokenizer import SEPARATORS, tokenize
from lavit_scoring.metrics.rouge import rouge_l
from lavit_scoring.references import read_references
from lavit_scoring.results import align, read_results
from lavit_scoring.task import ScoringResult, ScoringTask

BY_DOMAIN = ("bleu_4", "rouge_l", "cider")
"""Metrics that NoCaps reports for each domain."""

ONE_IMAGE = "needs two images or more: n-gram weights come from how many images' references contain an n-gram"


@dataclass(frozen=True, kw_only=True)
class CaptionScores:
    """Metrics of one set of captions, the score of each image, and why a metric is missing."""

    metrics: dict[str, Estimate]
    items: dict[str, Sequence[float]]
    skipped: dict[str, str]


def score_captions(task: ScoringTask) -> ScoringResult:
    """Score captions as the COCO server does. Raises InputError if images do not match."""
    no_java = dict.fromkeys(("meteor", "spice"), "needs Java and pycocoevalcap; --java computes it")
    skipped = why_no_java() if task.java else no_java
    references = read_references(task.annotations, task.split)
    captions, notes = read_results(task.results, ids=("image_id", "image", "file_name"), values=("caption",),
                                   as_id=str)  # fmt: skip
    truths, usual = references.keyed_like(captions)
    given, more = align(task, captions, truths, what="image")
    texts, expected = [captions[name] for name in given], [truths[name] for name in given]
    ids = [usual[name] for name in given]
    scores = caption_metrics(texts, expected, seed=task.seed)
    metrics, items = scores.metrics, scores.items
    skipped |= scores.skipped
    if task.java:
        for name, java in java_scores(texts, expected, skip=skipped).items():
            metrics[name] = bootstrap_mean(java.items, range(len(ids)), task.seed, name, value=java.value)
            items[name] = java.items
    for domain in sorted(set(references.domains.values())):
        # Each domain is a set of its own with its own n-gram weights.
        if here := [index for index, name in enumerate(ids) if references.domains.get(name) == domain]:
            part = caption_metrics([texts[i] for i in here], [expected[i] for i in here], seed=task.seed)
            metrics |= {f"{name}.{domain}": part.metrics[name] for name in BY_DOMAIN if name in part.metrics}
            skipped |= {f"{name}.{domain}": reason for name, reason in part.skipped.items()}
    notes |= more | {
        "empty_captions": sum(not caption.strip() for caption in texts),
        "captions_with_line_separators": sum(bool(SEPARATORS.search(caption)) for caption in texts),
        "tokenizer": "ptb-like, pure Python",
        "cider": f"n-gram weights from the references of these {len(ids)} images: no mean over parts of a set",
    }
    return ScoringResult(ids=ids, expected=len(truths), unit="1 (papers print x100)", items=items, metrics=metrics,
                         skipped=skipped, notes=notes)  # fmt: skip


def caption_metrics(captions: Sequence[str], references: Sequence[Sequence[str]], *, seed: int) -> CaptionScores:
    """Return BLEU-1..4, ROUGE-L and CIDEr of captions, each with a 95 % interval over images.

    The interval of CIDEr keeps the n-gram weights of the whole set. One image alone has no CIDEr: every n-gram of its
    references occurs in every image, so all weights are zero.
    """
    texts, truths = tokenize(captions), [tokenize(truth) for truth in references]
    parts = np.stack([bleu_parts(*pair) for pair in zip(texts, truths, strict=True)])
    whole, resampled = bleu_of(parts.sum(0)), bleu_of(resampled_sums(parts, seed, "bleu"))
    metrics = {f"bleu_{n + 1}": Estimate(float(whole[n]), *ends(resampled[:, n]), n=len(texts)) for n in range(MAX_N)}
    items: dict[str, Sequence[float]] = {"rouge_l": [rouge_l(*pair) for pair in zip(texts, truths, strict=True)]}
    if len(texts) > 1:
        items["cider"] = cider_d(texts, truths).tolist()
    metrics |= {name: bootstrap_mean(scores, range(len(texts)), seed, name) for name, scores in items.items()}
    return CaptionScores(metrics=metrics, items=items, skipped={} if "cider" in items else {"cider": ONE_IMAGE})
