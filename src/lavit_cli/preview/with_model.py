"""What a model makes of the images of a preview: kept patches, codes, and the documents of `lavit pretrain`."""

import dataclasses
from pathlib import Path

import numpy as np
from lavit import LaVIT
from lavit_core.modeldir import recorded_digest
from lavit_core.tokens import Manifest, TokenSample
from lavit_pretrain.api import (
    PretrainConfig,
    ShownDocument,
    asked_of,
    open_document_text,
    show_documents,
    texts_to_learn,
    whole_text,
)

from lavit_cli.preview.collect import Preview


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelView:
    """What a model makes of the samples of a preview, in their order."""

    grid: tuple[int, int]
    codes: list[np.ndarray]
    """int64 [n] of each image."""
    keep_mask: np.ndarray
    """bool [B, P]"""
    documents: list[list[ShownDocument]]
    tokenized_by: str
    """Where the text tokenizer comes from, in words."""
    caption_tokens: list[int]
    """Text tokens of every caption of the checked images, uncut."""
    max_text_tokens: int
    question_tokens: list[int]
    """Text tokens of every question about the checked images with its answer and the turns before it."""


def view_by_model(
    model: LaVIT, folder: Path, preview: Preview, config: PretrainConfig, *, llm: Path | None, seed: int
) -> ModelView:
    """Encode the samples of a preview and write their training documents.

    The text tokenizer is that of `llm`, else the model's own, else one trained on the data set, as pretraining does.
    Raises InputError if the model or `llm` is not one.
    """
    samples, data = preview.samples, preview.data
    tokens = model.encode([one.square for one in samples], seed=seed, keys=[one.key for one in samples])
    source = llm or (folder / "llm" if (folder / "llm").is_dir() else None)
    asked = [asked_of(question) for question in data.questions]
    measured = {record.key for record in preview.checked}
    captions = [caption for record in preview.checked for caption in record.captions]
    learned = [] if source else texts_to_learn((record.captions for record in data.records), asked)
    text = open_document_text(source, learned, config, model.codebook_size)
    stored = [
        TokenSample(key=one.key, codes=codes, keep_mask=mask, texts=one.captions, features=features)
        for one, codes, mask, features in zip(
            samples,
            tokens.codes,
            tokens.keep_mask,
            np.split(tokens.features, np.cumsum(tokens.counts)[:-1]),
            strict=True,
        )
    ]
    manifest = Manifest(
        tokenizer_digest=recorded_digest(folder, "tokenizer"),
        codebook_size=model.codebook_size,
        grid=model.grid,
        feature_dim=tokens.features.shape[1],
    )
    by_place = {
        place: [asked_of(question) for question in one.questions] for place, one in enumerate(samples) if one.questions
    }
    return ModelView(
        grid=model.grid,
        codes=tokens.codes,
        keep_mask=tokens.keep_mask,
        documents=show_documents(text, stored, manifest, by_place, config, seed),
        tokenized_by=f"the text tokenizer of {source}" if source else "a text tokenizer trained on these texts",
        caption_tokens=text.codec.lengths(captions),
        max_text_tokens=config.max_text_tokens,
        question_tokens=text.codec.lengths(
            [whole_text(asked_of(question)) for question in data.questions if measured.issuperset(question.keys)]
        ),
    )
