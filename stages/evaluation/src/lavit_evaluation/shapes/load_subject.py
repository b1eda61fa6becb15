"""Loads a model directory as a `Subject`: the only file of the stage that runs a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from lavit_core.errors import InputError
from lavit_core.modeldir import find_part

from lavit_evaluation.config import ShapesConfig
from lavit_evaluation.shapes.subject import Encoded, Subject

if TYPE_CHECKING:
    from lavit_detokenizer.api import Detokenizer
    from lavit_pretrain.api import LanguageModel
    from lavit_tokenizer.api import VisualTokenizer


def load_subject(model: Path, blind: Path | None, config: ShapesConfig, *, device: str = "auto") -> Subject:
    """Load what a model directory holds; the tokenizer must be there, language model and detokenizer may be missing.

    Raises InputError for a missing tokenizer, and for a blind model that was trained with pictures.
    """
    from lavit_tokenizer.api import load_tokenizer

    find_part(model, "tokenizer")
    tokenizer = load_tokenizer(model, device=device, selection=config.selection)
    llm = _load_llm(model, device) if (model / "llm").is_dir() else None
    blind_llm = _load_blind(blind, device) if blind is not None else None
    detokenizer = None
    if (model / "detokenizer").is_dir():
        from lavit_detokenizer.api import load_detokenizer

        detokenizer = load_detokenizer(model, device=device)
    reader = None if llm is None else _Reader(llm, tokenizer, config)
    painter = None if detokenizer is None else _Painter(detokenizer, tokenizer, config)
    return Subject(
        image_px=tokenizer.config.preprocessing.image_px,
        grid=tokenizer.config.grid,
        codebook_size=tokenizer.config.codebook_size,
        encode=lambda pixels: encode(tokenizer, pixels),
        answer=None if reader is None else reader.answer,
        caption=None if reader is None else reader.caption,
        sample=None if reader is None else reader.sample,
        answer_blind=None if blind_llm is None else lambda questions: answer_blind(blind_llm, questions, config),
        draw=None if painter is None else painter.draw,
        read_back=None if reader is None else reader.read_back,
    )


def encode(tokenizer: "VisualTokenizer", pixels: np.ndarray) -> Encoded:
    """Return codes, masks and feature errors of uint8 pictures [B, px, px, 3]."""
    import torch

    with torch.inference_mode():
        batch = torch.from_numpy(pixels)
        tokens = tokenizer.encode(batch)
        decoded = tokenizer.decode_codes(tokens.codes, tokens.counts)
        unit = torch.nn.functional.normalize(tokenizer.features(batch), dim=-1)
        errors = 1 - (unit * torch.nn.functional.normalize(decoded, dim=-1)).sum(-1)
    counts = tokens.counts.cpu().numpy()
    return Encoded(
        codes=np.split(tokens.codes.cpu().numpy(), np.cumsum(counts)[:-1]),
        keep_masks=tokens.keep_mask.cpu().numpy(),
        errors=errors.cpu().numpy(),
        unit_target_sums=unit.sum(1).cpu().numpy(),
    )


def answer_blind(llm: "LanguageModel", questions: Sequence[str], config: ShapesConfig) -> list[str]:
    """Return the answers of a model that sees no picture."""
    from lavit_pretrain.api import answer

    return answer(llm, None, questions, max_tokens=config.max_answer_tokens)


class _Reader:
    """The language model with the tokenizer it looks through."""

    def __init__(self, llm: "LanguageModel", tokenizer: "VisualTokenizer", config: ShapesConfig) -> None:
        self.llm, self.tokenizer, self.config = llm, tokenizer, config

    def answer(self, pixels: np.ndarray, questions: Sequence[str]) -> list[str]:
        from lavit_pretrain.api import answer, encode_images

        images = encode_images(self.llm, self.tokenizer, pixels)
        return answer(self.llm, images, questions, max_tokens=self.config.max_answer_tokens)

    def caption(self, pixels: np.ndarray) -> list[str]:
        from lavit_pretrain.api import caption, encode_images

        return caption(
            self.llm, encode_images(self.llm, self.tokenizer, pixels), max_tokens=self.config.max_caption_tokens
        )

    def read_back(self, pixels: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        from lavit_pretrain.api import read_back

        return read_back(self.llm, self.tokenizer, list(pixels), texts)

    def sample(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        from lavit_pretrain.api import SampleSettings, sample_codes

        config = self.config
        settings = SampleSettings(
            guidance_scale=config.llm_guidance, top_k=config.top_k, top_p=config.top_p, temperature=config.temperature
        )
        return sample_codes(self.llm, prompts, seeds=seeds, settings=settings, batch_size=len(prompts))


class _Painter:
    """The detokenizer with the tokenizer whose decoder makes its condition."""

    def __init__(self, detokenizer: "Detokenizer", tokenizer: "VisualTokenizer", config: ShapesConfig) -> None:
        self.detokenizer, self.tokenizer, self.config = detokenizer, tokenizer, config

    def draw(self, codes: Sequence[np.ndarray], seeds: Sequence[int]) -> np.ndarray:
        import torch
        from lavit_detokenizer.api import DrawSettings, draw

        counts = torch.tensor([len(some) for some in codes])
        with torch.inference_mode():
            condition = self.tokenizer.decode_codes(torch.from_numpy(np.concatenate(codes)), counts)
        settings = DrawSettings(num_steps=self.config.decoder_steps, guidance_scale=self.config.decoder_guidance)
        return draw(self.detokenizer, condition, seeds=seeds, settings=settings)


def _load_llm(model: Path, device: str) -> "LanguageModel":
    from lavit_pretrain.api import load_llm

    return load_llm(model, device=device)


def _load_blind(blind: Path, device: str) -> "LanguageModel":
    from lavit_pretrain.api import load_llm

    llm = load_llm(blind, device=device)
    if llm.image_input != "none":
        raise InputError(
            f"--blind {blind}: this model was trained with image input {llm.image_input!r}, expected 'none'; "
            "train one with `lavit pretrain --image-input none`"
        )
    return llm
