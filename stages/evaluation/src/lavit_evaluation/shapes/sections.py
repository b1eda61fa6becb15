"""The sections of `lavit eval shapes`: what each asks of the model, and its score."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from lavit_core.data import Data
from lavit_core.images import squashed
from lavit_core.seeds import derive_seed
from lavit_scoring import Estimate
from lavit_scoring.estimate import mean
from lavit_scoring.metrics.pixels import psnr

from lavit_evaluation.benchmarks.items import sample_items
from lavit_evaluation.config import ShapesConfig
from lavit_evaluation.evaluation_session import EvaluationSession
from lavit_evaluation.shapes.captions import score_captions
from lavit_evaluation.shapes.heldout import Heldout, image_seeds, read_pixels
from lavit_evaluation.shapes.images import centre_errors, random_codes, score_images
from lavit_evaluation.shapes.tokens_report import EncodedImage, encode, score_tokens
from lavit_evaluation.shapes.vqa import (
    Asked,
    above,
    is_right,
    majority_leave_one_out,
    majority_of_training,
    score_answers,
)

if TYPE_CHECKING:
    from lavit import LaVIT


@dataclass(kw_only=True)
class Section:
    """The result of one section."""

    metrics: dict[str, Estimate] = field(default_factory=dict)
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Rows for the report by kind; numpy arrays are images."""
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Material:
    """Whom and what the sections ask."""

    model: "LaVIT"
    blind: "LaVIT | None"
    """A model that was trained, and is asked, without images."""
    heldout: Heldout
    training: Data | None
    config: ShapesConfig
    seed: int
    session: EvaluationSession

    def ask(
        self, part: str, unit: str, items: Sequence[Any], answer: Callable[[list[Any]], Iterable[Any]]
    ) -> list[Any]:
        """Return the answer to each item, a text or a number."""
        rows = self.session.ask(
            dict(enumerate(items)), lambda some: [{"answer": one} for one in answer(some)],
            self.session.row_store(part), batch_size=self.config.batch_size, unit=unit, part=part,
        )  # fmt: skip
        return [row["answer"] for row in rows]

    def ask_arrays(
        self, part: str, unit: str, items: Sequence[Any], answer: Callable[[list[Any]], Iterable[dict[str, np.ndarray]]]
    ) -> list[dict[str, np.ndarray]]:
        """Return the answer to each item, a dictionary of arrays."""
        return list(
            self.session.ask(
                dict(enumerate(items)), answer, self.session.array_store(part), batch_size=self.config.batch_size,
                unit=unit, part=part,
            )
        )  # fmt: skip

    def pixels(self, keys: Sequence[str]) -> np.ndarray:
        """Return images as the model reads them, uint8 [N, px, px, 3]."""
        return read_pixels(self.heldout.data, keys, self.model.image_px)

    def caption(self, pixels: Sequence[np.ndarray]) -> list[str]:
        """Return the model's captions of images."""
        most = self.config.max_caption_tokens
        return self.ask("captions", "image", pixels, lambda some: self.model.caption(some, max_tokens=most))

    def sample(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        """Return the codes that the model draws for prompts."""
        from lavit import SampleSettings

        settings = SampleSettings(**self.config.sampling)

        def answer(some: list[tuple[str, int]]) -> list[dict[str, np.ndarray]]:
            texts, own = [text for text, _ in some], [seed for _, seed in some]
            return [{"codes": codes} for codes in self.model.sample(texts, own, settings, batch_size=len(some))]

        rows = self.ask_arrays("codes of prompts", "prompt", list(zip(prompts, seeds, strict=True)), answer)
        return [row["codes"] for row in rows]

    def draw(self, codes: Sequence[np.ndarray], seeds: Sequence[int], part: str) -> np.ndarray:
        """Return images drawn from codes as squares, as the real ones are read, uint8 [N, px, px, 3]."""
        from lavit import DrawSettings

        settings = DrawSettings(**self.config.pixels)

        def answer(some: list[tuple[np.ndarray, int]]) -> list[dict[str, np.ndarray]]:
            images = self.model.decode([own for own, _ in some], [seed for _, seed in some], settings)
            return [{"pixels": squashed(image)} for image in images]

        rows = self.ask_arrays(f"{part}, pixels", "image", list(zip(codes, seeds, strict=True)), answer)
        return np.stack([row["pixels"] for row in rows])


def encode_images(material: Material, keys: Sequence[str]) -> dict[str, EncodedImage]:
    """Return codes and masks of the named images."""
    rows = material.ask_arrays(
        "tokens", "image", keys, lambda some: map(vars, encode(material.model, material.pixels(some)))
    )
    return {key: EncodedImage(**row) for key, row in zip(keys, rows, strict=True)}


def tokens_section(material: Material, encoded: dict[str, EncodedImage]) -> Section:
    """Score which patches the tokenizer keeps and which codes it uses."""
    model, heldout = material.model, material.heldout
    images = [encoded[key] for key in heldout.token_keys]
    scenes = [heldout.scenes.get(key) for key in heldout.token_keys]
    metrics = score_tokens(
        images, scenes, grid=model.grid, codebook_size=model.codebook_size, scene_px=heldout.scene_px
    )
    counts = np.bincount([len(image.codes) for image in images]).tolist()
    return Section(metrics=metrics, notes={"kept_histogram": counts, "grid": list(model.grid)})


def vqa_section(material: Material) -> Section:
    """Ask the questions of the model, of the blind model and of the majority."""
    heldout, training, most = material.heldout, material.training, material.config.max_answer_tokens
    asked = [
        Asked(
            question_id=question.question_id,
            key=question.key,
            question=question.question,
            expected=question.answer,
            kind=question.kind or "any",
            combination=heldout.scenes[question.key].combination if question.key in heldout.scenes else "",
            earlier=question.earlier,
        )
        for question in heldout.questions
    ]
    asked.sort(key=lambda one: one.key)  # an image with several questions is then read once

    def answer(some: list[Asked]) -> list[str]:
        keys = list(dict.fromkeys(one.key for one in some))
        by_key = dict(zip(keys, material.pixels(keys), strict=True))
        images = [by_key[one.key] for one in some]
        earlier = [one.earlier for one in some]
        return material.model.answer(images, [one.question for one in some], max_tokens=most, earlier=earlier)

    answers = material.ask("questions", "question", asked, answer)
    given = {"questions": answers}
    if (blind := material.blind) is not None:
        # Without an image, equal questions have equal answers.
        texts = sorted({(one.earlier, one.question) for one in asked})

        def answer_blind(some: list[tuple[tuple[tuple[str, str], ...], str]]) -> list[str]:
            earlier, questions = zip(*some, strict=True)
            return blind.answer(None, list(questions), max_tokens=most, earlier=list(earlier))

        by_text = dict(zip(texts, material.ask("blind", "question", texts, answer_blind), strict=True))
        given["blind"] = [by_text[one.earlier, one.question] for one in asked]
    if training is None:
        given["majority"] = majority_leave_one_out(asked)
    else:
        learned = [(question.kind or "any", question.answer) for question in training.questions]
        given["majority"] = majority_of_training(asked, learned)
    metrics: dict[str, Estimate] = {}
    for name, replies in given.items():
        metrics |= score_answers(name, asked, replies)
        if name != "questions":
            metrics[f"questions.above_{name}"] = above(asked, answers, replies)
    rows = [
        {"key": one.key, "combination": one.combination, "question": one.question, "kind": one.kind,
         "expected": one.expected, "answer": answers[index], "right": is_right(answers[index], one.expected),
         **{name: replies[index] for name, replies in given.items() if name != "questions"}}
        for index, one in enumerate(asked)
    ]  # fmt: skip
    shown = pick(rows, material.config.samples, "kind")
    for row in shown:
        row["picture"] = material.pixels([row["key"]])[0]
    source = "leave-one-out on the evaluated questions" if training is None else "training questions"
    return Section(metrics=metrics, samples={"questions": shown}, notes={"majority": source})


def photo_samples(material: Material, *, can_read: bool, can_draw: bool) -> dict[str, list[dict[str, Any]]]:
    """Caption and draw a few images without scenes (photos): to be looked at, no metric comes of it."""
    heldout, seed = material.heldout, material.seed
    captions = {record.key: record.captions for record in heldout.data.records}
    chosen = [index for index, key in enumerate(heldout.keys) if captions[key]][: material.config.samples]
    keys = [heldout.keys[index] for index in chosen]
    prompts = [captions[key][0] for key in keys]
    samples: dict[str, list[dict[str, Any]]] = {}
    if can_read and keys:
        pixels = heldout.pixels[chosen]
        samples["captions"] = [
            {"key": key, "caption": text, "expected": prompt, "picture": image}
            for key, text, prompt, image in zip(keys, material.caption(list(pixels)), prompts, pixels, strict=True)
        ]
    if can_read and can_draw and keys:
        codes = material.sample(prompts, image_seeds(keys, "sample", seed))
        drawn = material.draw(codes, image_seeds(keys, "draw", seed), "generation")
        samples["generation"] = [
            {"key": key, "prompt": prompt, "num_codes": len(some), "picture": image}
            for key, prompt, some, image in zip(keys, prompts, codes, drawn, strict=True)
        ]
    return samples


def captions_section(material: Material) -> Section:
    """Caption the chosen images and score the claims of the captions."""
    heldout = material.heldout
    metrics, rows = score_captions(material.caption(list(heldout.pixels)), heldout.drawn)
    rows = [{**row, "picture": pixels} for row, pixels in zip(rows, heldout.pixels, strict=True)]
    return Section(metrics=metrics, samples={"captions": pick(rows, material.config.samples, "combination")})


def real_section(material: Material) -> Section:
    """Judge the real images: what a perfect drawing would get, and what the judge itself gets wrong."""
    return Section(metrics=score_images("real", material.heldout.pixels, material.heldout.drawn)[0])


def reconstruction_section(material: Material, encoded: dict[str, EncodedImage]) -> Section:
    """Draw the chosen images from their own codes."""
    heldout = material.heldout
    images = [encoded[key] for key in heldout.keys]
    seeds = image_seeds(heldout.keys, "reconstruct", material.seed)
    drawn = material.draw([image.codes for image in images], seeds, "reconstruction")
    real = heldout.pixels if heldout.pixels.shape == drawn.shape else read_pixels(
        heldout.data, heldout.keys, drawn.shape[1]
    )  # fmt: skip
    ratios = psnr(drawn, real)
    metrics = {"reconstruction.psnr_db": mean(ratios)}
    rows: list[dict[str, Any]] = [{"key": key} for key in heldout.keys]
    if heldout.scenes:
        judged, rows = score_images("reconstruction", drawn, heldout.drawn)
        metrics |= judged
        scale = heldout.scene_px / drawn.shape[1]
        metrics["reconstruction.centre_error_px"] = centre_errors(rows, heldout.drawn, scale)
    grid = list(material.model.grid)
    rows = [
        {**row, "psnr_db": round(float(ratios[index]), 2), "original": real[index], "picture": drawn[index],
         "kept": images[index].keep_mask.astype(int).tolist(), "grid": grid}
        for index, row in enumerate(rows)
    ]  # fmt: skip
    return Section(metrics=metrics, samples={"reconstruction": pick(rows, material.config.samples, "combination")})


def generation_section(material: Material) -> Section:
    """Draw the scenes' prompts: text to codes by the language model, codes to pixels by the detokenizer.

    Of `best_of` images a prompt the one is kept that the model itself reads as the prompt.
    """
    from lavit.reranking import candidate_seeds, choose_best

    heldout, best_of, seed = material.heldout, material.config.best_of, material.seed
    prompts = [scene.prompt for scene in heldout.drawn for _ in range(best_of)]
    codes = material.sample(prompts, candidate_seeds(image_seeds(heldout.keys, "sample", seed), best_of))
    own = candidate_seeds(image_seeds(heldout.keys, "draw", seed), best_of)
    drawn = material.draw(codes, own, "generation")
    metrics: dict[str, Estimate] = {}
    if best_of > 1:
        metrics |= score_images("generation_first", drawn[::best_of], heldout.drawn)[0]
        pairs = list(zip(drawn, prompts, strict=True))
        scores = material.ask(
            "rereading", "image", pairs,
            lambda some: material.model.score([image for image, _ in some], [text for _, text in some]),
        )  # fmt: skip
        kept = choose_best(scores, best_of)
        drawn, codes = drawn[kept], [codes[place] for place in kept]
    judged, rows = score_images("generation", drawn, heldout.drawn)
    metrics |= judged
    metrics["generation.codes"] = mean(len(some) for some in codes)
    rows = [{**row, "num_codes": len(some), "picture": image}
            for row, some, image in zip(rows, codes, drawn, strict=True)]  # fmt: skip
    return Section(metrics=metrics, samples={"generation": pick(rows, material.config.samples, "combination")})


def random_section(material: Material, encoded: dict[str, EncodedImage]) -> Section:
    """Draw random codes, as many an image as real ones have, and hold them against the same prompts."""
    heldout, config, seed = material.heldout, material.config, material.seed
    chosen = sample_items(range(len(heldout.keys)), config.random_pictures, seed, "random pictures")
    keys = [heldout.keys[index] for index in chosen]
    counts = [len(encoded[key].codes) for key in keys]
    codes = random_codes(counts, material.model.codebook_size, derive_seed(seed, "random codes"))
    drawn = material.draw(codes, image_seeds(keys, "draw", seed), "random codes")
    metrics, rows = score_images("random", drawn, [heldout.drawn[index] for index in chosen])
    rows = [{**row, "picture": image} for row, image in zip(rows, drawn, strict=True)]
    return Section(metrics=metrics, samples={"random": pick(rows, min(config.samples, 8), "combination")})


def pick(rows: Sequence[dict[str, Any]], count: int, group: str) -> list[dict[str, Any]]:
    """Return at most `count` rows, taken from each group in turn."""
    groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row.get(group)].append(row)
    turns = [(turn, name, row) for name, some in groups.items() for turn, row in enumerate(some)]
    return [row for _, _, row in sorted(turns, key=lambda one: (one[0], str(one[1])))[:count]]
