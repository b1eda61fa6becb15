"""The LaVIT object: one model directory, ready to encode, draw, describe, answer and score.

One long file, since it is the one class that users read: methods check arguments and hand on to the modules beside.
Source: arXiv 2309.04669. Letters: B images, N pairs, I images, M texts, P patches, T tokens, n codes of an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lavit_core.config import load_preset, resolve
from lavit_core.device_name import check_device_name
from lavit_core.errors import UsageError
from lavit_core.modeldir import default_preset, recorded_digest
from lavit_core.seeds import derive_seed
from PIL import Image

from lavit.download import model_folder
from lavit.encoding import check_codes, decode_each, decode_steps, encode_images
from lavit.images import ImageLike, as_list, height_width
from lavit.likelihoods import score_codes, score_texts
from lavit.parts import PARTS, Parts
from lavit.prompts import PromptLike, earlier_list, prompt_list, question_list, text_list
from lavit.reading import read_conversations, read_image_each, read_images, read_prompts
from lavit.save import save_model
from lavit.settings import check_positive, check_preset, seed_list
from lavit.steps import GenerationStep
from lavit.tokens import ImageTokens

if TYPE_CHECKING:
    from lavit_detokenizer.api import Detokenizer, DrawSettings
    from lavit_pretrain.api import Beams, InterleaveSettings, LanguageModel, SampleSettings, SamplingStep
    from lavit_tokenizer.api import VisualTokenizer

BATCH_PROMPTS = 16
"""Prompts continued at the same time."""
BATCH_SCORED = 64
"""Continuations scored at the same time."""


class LaVIT:
    """A LaVIT model. Parts are loaded once, when they are first needed; no result depends on the size of a batch
    beyond the last bits of floating-point sums, and an image drawn depends on its own prompt and seed alone.

    Images go in as PIL images, paths, or pixels uint8 [h, w, 3] (arrays, tensors), one or several; they come out as PIL
    images. Codes are int64 [n] in [0, codebook_size), on the CPU.
    """

    def __init__(self, parts: Parts, preset: str) -> None:
        self._parts, self._preset = parts, preset

    def __repr__(self) -> str:
        """Return the directory, its parts and the device as they were asked for."""
        present = ", ".join(name for name in PARTS if self._parts.has(name))
        return f"LaVIT({str(self._parts.path)!r}, parts: {present}, device: {self._parts.device})"

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        parts: str | Sequence[str] | None = None,
        device: str = "auto",
        precision: str = "auto",
        low_memory: bool = False,
        selection: str | None = None,
        highres: bool = False,
        preset: str | None = None,
        tokens: int | None = None,
        allow_network: bool = False,
    ) -> LaVIT:
        """Open the model directory `path`; nothing is loaded yet.

        With `allow_network`, `path` may be OWNER/NAME[@REVISION] on the Hugging Face hub: it is downloaded once, into
        the hub's own cache.
        `parts` limits what may be loaded: one or more of tokenizer, llm, detokenizer (None: what is needed and there).
        `device` is auto, cpu, cuda or cuda:N; `precision` of language model and UNet auto (as stored), fp32 or bf16.
        `low_memory` holds one of tokenizer, language model and detokenizer at a time and loads them again when needed.
        `selection` of patches is threshold, topk or sample (None: as in the tokens the model learned from); `tokens` is
        the number that topk keeps of each image (None: as above, else the tokenizer's keep_ratio).
        `highres` draws with detokenizer-highres/. `preset` names the default settings of sampling and drawing, as the
        commands' `--preset` does; None is `tiny`, but for imported weights `released-v2-readme` (`published` if they
        came without the SDXL decoder), as docs/released-weights.md recommends.
        Raises InputError if a part of `parts` is missing or was made with another tokenizer (one that is not in `parts`
        is checked before it is loaded), UsageError for an unknown word.
        """
        check_device_name(device)
        if preset is not None:
            check_preset(preset)
        folder = model_folder(Path(path), allow_network=allow_network)
        opened = Parts(
            folder,
            allowed=parts,
            device=device,
            precision=precision,
            low_memory=low_memory,
            selection=selection,
            tokens=tokens,
            highres=highres,
        )
        return cls(opened, preset or default_preset(folder))

    # Properties.

    @property
    def image_px(self) -> int:
        """Side of the square in pixels that images are squashed to."""
        return self._parts.tokenizer_config().preprocessing.image_px

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self._parts.tokenizer_config().grid

    @property
    def codebook_size(self) -> int:
        """Number of different codes."""
        return self._parts.tokenizer_config().codebook_size

    @property
    def image_input(self) -> str:
        """How the language model reads images: codes, features, live, or none (it was trained without images)."""
        return self._parts.image_input()

    def draw_size(self, settings: DrawSettings | None = None) -> tuple[int, int]:
        """Return height and width in pixels of the images that are drawn. Loads no weights.

        Raises UsageError for a size that the detokenizer does not draw, InputError if it is missing.
        """
        return self._parts.draw_size(settings or self._draw_settings)

    def draw_sizes(self) -> list[tuple[int, int]]:
        """Return height and width in pixels of all images that the detokenizer draws, the default's first. Loads no
        weights.

        `draw_settings(size="80x48")` asks for one of them, width x height. Raises InputError without a
        detokenizer.
        """
        return self._parts.draw_sizes()

    def draw_settings(self, **changes: Any) -> DrawSettings:
        """Return the settings of drawing that this model has where none are given, with `changes`. Loads no weights.

        Raises UsageError for an unknown name or value.
        """
        settings = self._draw_settings
        return resolve(type(settings), preset=settings.model_dump(), flags=changes)

    def sample_settings(self, **changes: Any) -> SampleSettings:
        """Return the settings of sampling codes that this model has where none are given, with `changes`. Loads no
        weights.

        Raises UsageError for an unknown name or value.
        """
        settings = self._sample_settings
        return resolve(type(settings), preset=settings.model_dump(), flags=changes)

    def fitting_settings(
        self, images: ImageLike | Sequence[ImageLike], settings: DrawSettings | None = None
    ) -> list[DrawSettings]:
        """Return the settings that draw each image at the size nearest to its own shape, of those that the detokenizer
        was trained on. Loads no weights.

        Where `settings` ask for a size, or images of one size alone were trained, they stay as they are.
        """
        shapes = [height_width(image) for image in as_list(images)]
        return self._parts.fitting_settings(settings or self._draw_settings, shapes)

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Contents of a result's record: `model` (SHA-256 of each part), `precision` (of language model and
        detokenizer) and `image_input`; parts that are not there, or not allowed, are left out."""
        present = [name for name in PARTS if self._parts.has(name)]
        folders = {name: self._parts.folder(name) for name in present}
        return {
            "model": {folder.name: recorded_digest(self._parts.path, folder.name) for folder in folders.values()},
            "precision": {name: self._parts.precision_of(name) for name in present if name != "tokenizer"},
            **({"image_input": self.image_input} if "llm" in present else {}),
        }

    @property
    def tokenizer(self) -> VisualTokenizer:
        """The tokenizer's network, for research on its insides."""
        return self._parts.tokenizer()

    @property
    def language_model(self) -> LanguageModel:
        """The language model's network, for research on its insides; what is changed in it counts from then on."""
        return self._parts.changeable_llm()

    @property
    def detokenizer(self) -> Detokenizer:
        """The detokenizer's networks, for research on their insides."""
        return self._parts.detokenizer()

    # Images to tokens, tokens to images.

    def encode(
        self,
        images: ImageLike | Sequence[ImageLike],
        selection: str | None = None,
        seed: int = 0,
        keys: Sequence[str] | None = None,
        tokens: int | None = None,
    ) -> ImageTokens:
        """Return images as tokens.

        `selection` overrides the model's own; `sample` draws patches by `seed` and one key an image (None: a digest of
        its pixels), `topk` keeps exactly `tokens` of each (None: the model's number). Raises InputError for an
        unreadable image, UsageError for an unknown selection, or `tokens` that do not fit.
        """
        return encode_images(self._parts, as_list(images), selection=selection, tokens=tokens, seed=seed, keys=keys)

    def decode(
        self,
        tokens: ImageTokens | Sequence[np.ndarray],
        seeds: int | Sequence[int] | None = None,
        settings: DrawSettings | Sequence[DrawSettings] | None = None,
    ) -> list[Image.Image]:
        """Return the images that tokens, or codes int64 [n] an image, are decoded to.

        `seeds` is one seed an image, or the first of consecutive ones (None: 0); `settings` are those of all images, or
        one an image. Raises InputError for codes outside the codebook or a missing detokenizer, UsageError for settings
        that the detokenizer does not know.
        """
        codes = check_codes(tokens.codes if isinstance(tokens, ImageTokens) else tokens, self.codebook_size)
        seeded = seed_list(seeds, len(codes))
        if isinstance(settings, Sequence):
            if len(settings) != len(codes):
                raise UsageError(f"settings: found {len(settings)}, expected {len(codes)}, one an image")
            return decode_each(self._parts, codes, seeded, settings)
        *_, last = decode_steps(self._parts, codes, seeded, settings or self._draw_settings)
        assert last.images is not None
        return last.images

    def reconstruct(
        self,
        images: ImageLike | Sequence[ImageLike],
        seeds: int | Sequence[int] | None = None,
        settings: DrawSettings | None = None,
    ) -> list[Image.Image]:
        """Return images encoded and decoded again; see `encode` and `decode`.

        Each is drawn as `fitting_settings` has it.
        """
        return self.decode(self.encode(images), seeds, self.fitting_settings(images, settings))

    # Text to images.

    def sample(
        self,
        prompts: str | Sequence[PromptLike],
        seeds: int | Sequence[int] | None = None,
        settings: SampleSettings | None = None,
        batch_size: int = BATCH_PROMPTS,
    ) -> list[np.ndarray]:
        """Return the codes int64 [n] that the language model draws for each prompt; see `generate`."""
        check_positive(batch_size=batch_size)
        pieces = prompt_list(prompts)
        seeded = seed_list(seeds, len(pieces))
        with self._parts.using("llm"):
            from lavit_pretrain.api import sample_codes
        settings = settings or self._sample_settings
        read = read_prompts(self._parts, pieces, settings.prompt_images)
        return sample_codes(self._parts.llm(), read, seeds=seeded, settings=settings, batch_size=batch_size)

    def generate(
        self,
        prompts: str | Sequence[PromptLike],
        seeds: int | Sequence[int] | None = None,
        guidance_scale: float | None = None,
        sampling: SampleSettings | None = None,
        drawing: DrawSettings | None = None,
        batch_size: int = BATCH_PROMPTS,
    ) -> list[Image.Image]:
        """Return one image a prompt: a text, or a list of texts and images (`["<image> in winter", image]`).

        An empty text draws without condition. `seeds` is one seed an image, or the first of consecutive ones (None: 0).
        `guidance_scale` overrides that of `sampling`, of prompts with images too. `batch_size` prompts are continued at
        a time. Raises InputError for an unreadable image or a missing part, UsageError for prompts or settings that
        cannot be.
        """
        *_, last = self.generate_steps(prompts, seeds, guidance_scale, sampling, drawing, batch_size)
        assert last.images is not None
        return last.images

    def generate_steps(
        self,
        prompts: str | Sequence[PromptLike],
        seeds: int | Sequence[int] | None = None,
        guidance_scale: float | None = None,
        sampling: SampleSettings | None = None,
        drawing: DrawSettings | None = None,
        batch_size: int = BATCH_PROMPTS,
    ) -> Iterator[GenerationStep]:
        """Draw as `generate` does, and yield after each code and each denoising step; the last step has the images."""
        check_positive(batch_size=batch_size)
        pieces = prompt_list(prompts)
        seeded = seed_list(seeds, len(pieces))
        sampling = sampling or self._sample_settings
        if guidance_scale is not None:
            scales = {"guidance_scale": guidance_scale, "image_guidance_scale": guidance_scale}
            sampling = resolve(type(sampling), preset=sampling.model_dump(), flags=scales)
        drawing = drawing or self._draw_settings
        # Refused before anything is loaded.
        self.draw_size(drawing)
        with self._parts.using("llm"):
            from lavit_pretrain.api import codes_in_order, sample_steps

        def steps() -> Iterator[GenerationStep]:
            read = read_prompts(self._parts, pieces, sampling.prompt_images)
            complete: list[SamplingStep] = []
            for step in sample_steps(self._parts.llm(), read, seeds=seeded, settings=sampling, batch_size=batch_size):
                if step.last:
                    complete.append(step)
                yield GenerationStep(
                    stage="codes", indices=step.prompts, step=step.step, num_steps=step.max_codes, read_codes=step.codes
                )
            yield from decode_steps(self._parts, codes_in_order(complete), seeded, drawing)

        return steps()

    # Images to text.

    def caption(
        self, images: ImageLike | Sequence[ImageLike], max_tokens: int = 36, beams: Beams | None = None
    ) -> list[str]:
        """Return a caption of each image, of at most `max_tokens` text tokens, greedily or by beam search."""
        check_positive(max_tokens=max_tokens)
        with self._parts.using("llm"):
            from lavit_pretrain.api import caption
        read = read_images(self._parts, as_list(images))
        return caption(self._parts.llm(), read, max_tokens=max_tokens, beams=beams)

    def answer(
        self,
        images: ImageLike | Sequence[ImageLike] | None,
        questions: str | Sequence[PromptLike],
        max_tokens: int = 10,
        beams: Beams | None = None,
        earlier: Sequence[Sequence[tuple[PromptLike, str]]] | None = None,
        chat: bool = False,
    ) -> list[str]:
        """Return the answer to each question about its image; one image may go with all of them.

        `earlier` has for each question the (question, answer) pairs of the conversation before it. `chat` asks by the
        language model's own chat template, for models that were trained so.
        A conversation begins with its image of `images`. Without `images`, one about several has them in its questions,
        each a list of texts and images as prompts are (`["<image> or <image>, which is red?", one, other]`); a question
        that is a text is read as it is. Repeated images (the same object or path) are encoded once.
        Raises UsageError for another number of questions than of images, or `chat` without a template.
        """
        check_positive(max_tokens=max_tokens)
        asked = question_list(questions, "questions")
        before = None if earlier is None else earlier_list(earlier)
        read = None
        if images is None:
            asked, before = read_conversations(self._parts, asked, before)
        else:
            read = read_image_each(self._parts, as_list(images), asked, before)
        with self._parts.using("llm"):
            from lavit_pretrain.api import answer
        return answer(self._parts.llm(), read, asked, earlier=before, max_tokens=max_tokens, beams=beams, chat=chat)

    # Texts and images by turns.

    def interleave(
        self,
        prompts: str | Sequence[PromptLike],
        seeds: int | Sequence[int] | None = None,
        settings: InterleaveSettings | None = None,
        drawing: DrawSettings | None = None,
    ) -> list[list[str | Image.Image]]:
        """Return the texts and images that the language model writes after each prompt, in their order.

        `seeds` as in `generate`. Raises UsageError for an empty prompt or settings that cannot be, InputError for an
        unreadable image or a missing part.
        """
        pieces = prompt_list(prompts)
        seeded = seed_list(seeds, len(pieces))
        with self._parts.using("llm"):
            from lavit_pretrain.api import InterleaveSettings, write_interleaved
        settings = settings or InterleaveSettings(codes=self._sample_settings)
        read = read_prompts(self._parts, pieces, settings.codes.prompt_images)
        written = write_interleaved(self._parts.llm(), read, seeds=seeded, settings=settings)
        drawn = [
            (part, derive_seed(seed, "interleave", place))
            for seed, parts in zip(seeded, written, strict=True)
            for place, part in enumerate(parts)
            if not isinstance(part, str)
        ]
        images = iter(self.decode([codes for codes, _ in drawn], [seed for _, seed in drawn], drawing) if drawn else ())
        return [[part if isinstance(part, str) else next(images) for part in parts] for parts in written]

    # Likelihoods.

    def score(
        self,
        images: ImageLike | Sequence[ImageLike],
        texts: str | Sequence[str],
        all_pairs: bool = False,
        batch_size: int = BATCH_SCORED,
    ) -> np.ndarray:
        """Return log p(text | image), end token included: float64 [N] of image i and text i, or with `all_pairs`
        float64 [I, M] of each text after each image.

        Raises UsageError for a model trained without images, or another number of texts than of images.
        """
        check_positive(batch_size=batch_size)
        listed, asked = as_list(images), text_list(texts, "texts")
        return score_texts(self._parts, listed, asked, all_pairs=all_pairs, batch_size=batch_size)

    def score_codes(
        self,
        texts: str | Sequence[str],
        codes: ImageTokens | Sequence[np.ndarray],
        all_pairs: bool = False,
        batch_size: int = BATCH_SCORED,
    ) -> np.ndarray:
        """Return log p(codes | text), [/IMG] included: float64 [N] of text i and codes i, or with `all_pairs` float64
        [M, I] of each image's codes after each text. The empty text gives log p(codes).

        Raises UsageError as `score` does, InputError for codes outside the codebook.
        """
        check_positive(batch_size=batch_size)
        listed = check_codes(codes.codes if isinstance(codes, ImageTokens) else codes, self.codebook_size)
        asked = text_list(texts, "texts")
        return score_codes(self._parts, asked, listed, all_pairs=all_pairs, batch_size=batch_size)

    def count_tokens(self, texts: str | Sequence[str]) -> np.ndarray:
        """Return the number of text tokens of each text with its end token, int64 [M]: what `score` sums over."""
        listed, encode = text_list(texts, "texts", least=0), self._parts.llm().codec.encode
        return np.array([len(encode(text)) + 1 for text in listed], dtype=np.int64)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model directory, all its parts with their digests, to a new folder, whole or not at all.

        Raises InputError if there is something at `folder` already, or it lies in one of this model's parts.
        """
        save_model(self._parts.path, Path(folder))

    @cached_property
    def _sample_settings(self) -> SampleSettings:
        with self._parts.using("llm"):
            from lavit_pretrain.config import SampleSettings

            return resolve(SampleSettings, preset=load_preset("lavit_pretrain", "sample", self._preset))

    @cached_property
    def _draw_settings(self) -> DrawSettings:
        with self._parts.using("detokenizer"):
            from lavit_detokenizer.config import DrawSettings

            return resolve(DrawSettings, preset=load_preset("lavit_detokenizer", "detokenize", self._preset))
