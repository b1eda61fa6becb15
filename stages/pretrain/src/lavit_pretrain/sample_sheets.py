"""Sample images of a language model in training: what it draws of captions it learned from, and the codes it uses."""

import importlib.metadata
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from lavit_core.errors import UsageError
from lavit_core.files import write_text
from lavit_core.seeds import derive_seed
from lavit_core.shown_images import enlarge, histogram, in_grid
from lavit_core.tokens import TokenReader
from lavit_trainkit.samples import FOLDER, SHOWN, Sheets

from lavit_pretrain.attention import continuing
from lavit_pretrain.config import SampleSettings
from lavit_pretrain.language_model import LanguageModel
from lavit_pretrain.sample_codes import check_room, sample_codes
from lavit_pretrain.sequence import tokenize_prompt

Drawer = Callable[[Sequence[np.ndarray]], np.ndarray]
"""Codes int64 [n] of B images to pixels uint8 [B, h, w, 3]."""


class SampleSheets:
    """Sheets of one training. Prompts are captions of samples spread evenly over the token files, always the same ones.

    What draws pixels is loaded with the first sheet: `model`'s detokenizer if it has one, else decoded features as
    colours (`features_as_colours`).
    """

    def __init__(self, run: Path, model: Path, reader: TokenReader, network: LanguageModel, *, seed: int) -> None:
        self._file, self._model, self._reader = run / FOLDER / "prompts.txt", model, reader
        self._network, self._seed = network, seed
        self._draw: Drawer | None = None

    def draw(self) -> Sheets:
        """Return `drawings`, pairs of a caption's own image and what is drawn of the caption, and `code-usage`.

        Writes samples/prompts.txt of the run: one caption a line, in the order of the drawings.
        """
        llm, (prompts, own) = self._network, self._prompts()
        seeds = [derive_seed(self._seed, "samples", place) for place in range(len(prompts))]
        with continuing(llm.llm):
            drawn = sample_codes(llm, prompts, seeds=seeds, settings=SampleSettings(), batch_size=SHOWN)
        if self._draw is None:
            self._draw = _open_drawer(self._model, own, device=str(llm.device))
            self._file.parent.mkdir(exist_ok=True)
            write_text(self._file, "".join(f"{' '.join(prompt.split())}\n" for prompt in prompts))
        filled = [codes if len(codes) else own[place][:1] for place, codes in enumerate(drawn)]
        panels = [panel for both in zip(self._draw(own), self._draw(filled), strict=True) for panel in both]
        counts = np.bincount(np.concatenate(drawn), minlength=self._reader.manifest.codebook_size)
        return {
            "drawings": in_grid([enlarge(panel, 128) for panel in panels], columns=4),
            "code-usage": histogram(counts),
        }

    def _prompts(self) -> tuple[list[str], list[np.ndarray]]:
        """Return captions that leave room for an image, and the codes of their own images."""
        indices = np.unique(np.linspace(0, len(self._reader) - 1, SHOWN).astype(np.int64))
        captions = [texts[0] if texts else "" for texts in self._reader.texts(indices)]
        codes, counts = self._reader.codes(indices)
        own = np.split(codes, np.cumsum(counts)[:-1])
        return [caption if self._fits(caption) else "" for caption in captions], own

    def _fits(self, caption: str) -> bool:
        llm = self._network
        try:
            check_room(llm, [tokenize_prompt(caption, llm.vocabulary, llm.codec.encode)], llm.visual.code_range[1])
        except UsageError:
            return False
        return True


def _open_drawer(model: Path, own: Sequence[np.ndarray], *, device: str) -> Drawer:
    found = importlib.metadata.entry_points(group="lavit.codes_to_images")
    if found and (model / "detokenizer").is_dir():
        drawer: Drawer = next(iter(found)).load()(model, device)
        return drawer
    return features_as_colours(model, own, device=device)


def features_as_colours(model: Path, fitted_on: Sequence[np.ndarray], *, device: str) -> Drawer:
    """Return a drawer for models without detokenizer: the first three principal components of the decoded features of
    `fitted_on` are red, green and blue, one pixel a patch."""
    from lavit_tokenizer.api import load_tokenizer

    tokenizer = load_tokenizer(model, device=device, use="decode")
    grid = tokenizer.config.grid

    def features(codes: Sequence[np.ndarray]) -> torch.Tensor:
        counts = torch.tensor([len(one) for one in codes])
        return tokenizer.decode_codes(torch.from_numpy(np.concatenate(codes)), counts).cpu()

    reference = features(fitted_on).flatten(0, 1).double()
    mean, directions = reference.mean(dim=0), torch.linalg.svd(reference - reference.mean(dim=0))[2][:3].T
    scale = 2.5 * ((reference - mean) @ directions).std(dim=0).clamp_min(1e-9)

    def draw(codes: Sequence[np.ndarray]) -> np.ndarray:
        colours = ((features(codes).double() - mean) @ directions / scale + 1) / 2
        return (colours.clamp(0, 1) * 255).round().byte().numpy().reshape(len(codes), *grid, 3)

    return draw
