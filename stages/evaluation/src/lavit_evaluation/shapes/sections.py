"""The sections of `lavit eval shapes`: what is asked of the model, and its score."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lavit_core.data import Data
from lavit_core.seeds import candidate_seeds, derive_seed
from lavit_scoring.estimate import Estimate, mean

from lavit_evaluation.config import ShapesConfig
from lavit_evaluation.shapes.captions import score_captions
from lavit_evaluation.shapes.heldout import Heldout, read_pixels
from lavit_evaluation.shapes.pictures import centre_errors, psnr, random_codes, score_pictures
from lavit_evaluation.shapes.subject import Encoded, Subject, join
from lavit_evaluation.shapes.tokens_report import score_tokens
from lavit_evaluation.shapes.vqa import (
    Asked,
    above,
    is_right,
    majority_leave_one_out,
    majority_of_training,
    score_answers,
)

Batches = Callable[..., list[Any]]
"""`batches(function, *inputs)`: call it on slices of the inputs, and return everything it returned in one list."""


@dataclass(kw_only=True)
class Section:
    """What one section found."""

    figures: dict[str, Estimate] = field(default_factory=dict)
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Rows for the report by kind; numpy arrays are pictures."""
    notes: dict[str, Any] = field(default_factory=dict)


def encode_pictures(subject: Subject, heldout: Heldout, keys: Sequence[str], batches: Batches) -> Encoded:
    """Return codes and masks of the named pictures."""
    assert subject.encode is not None
    encode = subject.encode
    return join(batches(lambda some: [encode(read_pixels(heldout.data, some, subject.image_px))], keys))


def tokens_section(subject: Subject, heldout: Heldout, encoded: Encoded) -> Section:
    """Score what the tokenizer keeps and says; `encoded` is of `heldout.token_keys`."""
    assert subject.grid is not None
    assert subject.codebook_size is not None
    scenes = [heldout.scenes.get(key) for key in heldout.token_keys]
    figures = score_tokens(
        encoded, scenes, grid=subject.grid, codebook_size=subject.codebook_size, scene_px=heldout.scene_px
    )
    counts = np.bincount([len(codes) for codes in encoded.codes]).tolist()
    return Section(figures=figures, notes={"kept_histogram": counts, "grid": list(subject.grid)})


def vqa_section(
    subject: Subject,
    heldout: Heldout,
    training: Data | None,
    config: ShapesConfig,
    batches: Batches,
) -> Section:
    """Ask the questions of the model, of the blind model and of the majority."""
    assert subject.answer is not None
    answer, blind = subject.answer, subject.answer_blind
    asked = [
        Asked(
            question_id=question.question_id,
            key=question.key,
            question=question.question,
            expected=question.answer,
            kind=question.kind or "any",
            combination=heldout.scenes[question.key].combination if question.key in heldout.scenes else "",
        )
        for question in heldout.questions
    ]
    asked.sort(key=lambda one: one.key)  # pictures asked about twice are then read and encoded once
    answers = batches(
        lambda some: answer(
            read_pixels(heldout.data, [one.key for one in some], subject.image_px), [one.question for one in some]
        ),
        asked,
    )
    given = {"questions": answers}
    if blind is not None:
        # Without a picture, equal questions have equal answers.
        texts = sorted({one.question for one in asked})
        by_text = dict(zip(texts, batches(blind, texts), strict=True))
        given["blind"] = [by_text[one.question] for one in asked]
    if training is None:
        given["majority"] = majority_leave_one_out(asked)
    else:
        learned = [(question.kind or "any", question.answer) for question in training.questions]
        given["majority"] = majority_of_training(asked, learned)
    figures: dict[str, Estimate] = {}
    for name, said in given.items():
        figures |= score_answers(name, asked, said)
        if name != "questions":
            figures[f"questions.above_{name}"] = above(asked, answers, said)
    rows = [
        {"key": one.key, "combination": one.combination, "question": one.question, "kind": one.kind,
         "expected": one.expected, "answer": answers[index], "right": is_right(answers[index], one.expected),
         **{name: said[index] for name, said in given.items() if name != "questions"}}
        for index, one in enumerate(asked)
    ]  # fmt: skip
    shown = pick(rows, config.samples, "kind")
    for row in shown:
        row["picture"] = read_pixels(heldout.data, [row["key"]], subject.image_px)[0]
    source = "leave-one-out on the evaluated questions" if training is None else "training questions"
    return Section(figures=figures, samples={"questions": shown}, notes={"majority": source})


def shown_section(subject: Subject, heldout: Heldout, config: ShapesConfig, seed: int, batches: Batches) -> Section:
    """Caption and draw a few pictures nobody has scenes of (photos): to be looked at, no figure comes of it."""
    captions = {record.key: record.captions for record in heldout.data.records}
    chosen = [index for index, key in enumerate(heldout.keys) if captions[key]][: config.samples]
    keys = [heldout.keys[index] for index in chosen]
    prompts = [captions[key][0] for key in keys]
    section = Section()
    if subject.caption is not None and keys:
        pixels = heldout.pixels[chosen]
        said = batches(subject.caption, pixels)
        section.samples["captions"] = [
            {"key": key, "caption": text, "expected": prompt, "picture": picture}
            for key, text, prompt, picture in zip(keys, said, prompts, pixels, strict=True)
        ]
    if subject.sample is not None and subject.draw is not None and keys:
        codes = batches(subject.sample, prompts, picture_seeds(keys, "sample", seed))
        drawn = batches(subject.draw, codes, picture_seeds(keys, "draw", seed))
        section.samples["generation"] = [
            {"key": key, "prompt": prompt, "num_codes": len(some), "picture": picture}
            for key, prompt, some, picture in zip(keys, prompts, codes, drawn, strict=True)
        ]
    return section


def captions_section(subject: Subject, heldout: Heldout, config: ShapesConfig, batches: Batches) -> Section:
    """Caption the chosen pictures and score what the captions claim."""
    assert subject.caption is not None
    figures, rows = score_captions(batches(subject.caption, heldout.pixels), heldout.drawn)
    rows = [{**row, "picture": pixels} for row, pixels in zip(rows, heldout.pixels, strict=True)]
    return Section(figures=figures, samples={"captions": pick(rows, config.samples, "combination")})


def real_section(heldout: Heldout) -> Section:
    """Judge the real pictures: what a perfect drawing would get, and what the judge itself gets wrong."""
    return Section(figures=score_pictures("real", heldout.pixels, heldout.drawn)[0])


def reconstruction_section(
    subject: Subject, heldout: Heldout, encoded: Encoded, config: ShapesConfig, seed: int, batches: Batches
) -> Section:
    """Draw the chosen pictures from their own codes; `encoded` is of `heldout.keys`."""
    assert subject.draw is not None
    drawn = np.stack(batches(subject.draw, encoded.codes, picture_seeds(heldout.keys, "reconstruct", seed)))
    real = heldout.pixels
    if real.shape != drawn.shape:
        real = read_pixels(heldout.data, heldout.keys, drawn.shape[1])
    ratios = psnr(drawn, real)
    figures = {"reconstruction.psnr_db": mean(ratios)}
    rows: list[dict[str, Any]] = [{"key": key} for key in heldout.keys]
    if heldout.scenes:
        judged, rows = score_pictures("reconstruction", drawn, heldout.drawn)
        figures |= judged
        figures["reconstruction.centre_error_px"] = centre_errors(
            rows, heldout.drawn, heldout.scene_px / drawn.shape[1]
        )
    rows = [
        {**row, "psnr_db": round(float(ratios[index]), 2), "original": real[index], "picture": drawn[index],
         "kept": encoded.keep_masks[index].astype(int).tolist(), "grid": list(subject.grid or ())}
        for index, row in enumerate(rows)
    ]  # fmt: skip
    return Section(figures=figures, samples={"reconstruction": pick(rows, config.samples, "combination")})


def generation_section(
    subject: Subject, heldout: Heldout, config: ShapesConfig, seed: int, batches: Batches
) -> Section:
    """Draw the scenes' prompts: text to codes by the language model, codes to pixels by the detokenizer.

    Of `best_of` pictures a prompt the one is kept that the model itself reads as the prompt.
    """
    assert subject.sample is not None
    assert subject.draw is not None
    prompts = [scene.prompt for scene in heldout.drawn for _ in range(config.best_of)]
    codes = batches(subject.sample, prompts, _candidates(heldout.keys, "sample", seed, config.best_of))
    drawn = np.stack(batches(subject.draw, codes, _candidates(heldout.keys, "draw", seed, config.best_of)))
    figures: dict[str, Estimate] = {}
    if config.best_of > 1:
        assert subject.read_back is not None
        figures |= score_pictures("generation_first", drawn[:: config.best_of], heldout.drawn)[0]
        fits = np.array(batches(subject.read_back, drawn, prompts)).reshape(-1, config.best_of)
        kept = np.arange(len(fits)) * config.best_of + fits.argmax(1)
        drawn, codes = drawn[kept], [codes[place] for place in kept]
        prompts = prompts[:: config.best_of]
    judged, rows = score_pictures("generation", drawn, heldout.drawn)
    figures |= judged
    figures["generation.codes"] = mean(len(some) for some in codes)
    rows = [
        {**row, "num_codes": len(some), "picture": picture}
        for row, some, picture in zip(rows, codes, drawn, strict=True)
    ]
    return Section(figures=figures, samples={"generation": pick(rows, config.samples, "combination")})


def random_section(
    subject: Subject, heldout: Heldout, counts: Sequence[int], config: ShapesConfig, seed: int, batches: Batches
) -> Section:
    """Draw random codes, as many a picture as real ones have, and hold them against the same prompts."""
    assert subject.draw is not None
    assert subject.codebook_size is not None
    order = np.random.default_rng(derive_seed(seed, "random pictures")).permutation(len(heldout.keys))
    chosen = sorted(order[: config.random_pictures].tolist())
    codes = random_codes([counts[index] for index in chosen], subject.codebook_size, derive_seed(seed, "random codes"))
    seeds = picture_seeds([heldout.keys[index] for index in chosen], "draw", seed)
    drawn = np.stack(batches(subject.draw, codes, seeds))
    figures, rows = score_pictures("random", drawn, [heldout.drawn[index] for index in chosen])
    rows = [{**row, "picture": picture} for row, picture in zip(rows, drawn, strict=True)]
    return Section(figures=figures, samples={"random": pick(rows, min(config.samples, 8), "combination")})


def picture_seeds(keys: Sequence[str], purpose: str, seed: int) -> list[int]:
    """Return one seed a picture, named by its key: a draw does not depend on which other pictures are drawn."""
    return [derive_seed(seed, purpose, key) for key in keys]


def _candidates(keys: Sequence[str], purpose: str, seed: int, best_of: int) -> list[int]:
    """Return the seeds of all candidates, those of a picture after one another; the first is the picture's own."""
    return [one for own in picture_seeds(keys, purpose, seed) for one in candidate_seeds(own, best_of)]


def pick(rows: Sequence[dict[str, Any]], count: int, group: str) -> list[dict[str, Any]]:
    """Return at most `count` rows, taken from each group in turn."""
    groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row.get(group)].append(row)
    turns = [(turn, name, row) for name, some in groups.items() for turn, row in enumerate(some)]
    return [row for _, _, row in sorted(turns, key=lambda one: (one[0], str(one[1])))[:count]]
