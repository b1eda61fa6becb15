"""The parts of a model directory, each loaded once, when it is first needed."""

import contextlib
import gc
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lavit_core.device_name import check_precision_name
from lavit_core.distributions import require_stages
from lavit_core.errors import UsageError
from lavit_core.modeldir import (
    check_made_with,
    check_selection,
    denoiser_folder,
    detokenizer_part,
    find_part,
    selection_of,
)

if TYPE_CHECKING:
    from lavit_detokenizer.api import Detokenizer
    from lavit_detokenizer.config import DrawSettings
    from lavit_pretrain.api import LanguageModel
    from lavit_tokenizer.api import TokenizerConfig, VisualTokenizer

PARTS = ("tokenizer", "llm", "detokenizer")

_LOADING = threading.RLock()
"""One part is loaded at a time in a process: transformers and diffusers set global state while they load."""

Group = Literal["encode", "decode", "all", "llm"]
"""What `low_memory` holds at a time; the detokenizer belongs to `decode`."""


class Parts:
    """Tokenizer, language model and detokenizer of one model directory.

    The tokenizer's encoding half is loaded without its feature decoder, which is added when codes are first decoded.
    With `low_memory` one of three groups is held at a time: the tokenizer's encoding half, the language model, or the
    tokenizer's decoding half with the detokenizer.
    """

    def __init__(
        self, path: Path, *, allowed: str | Sequence[str] | None, device: str, precision: str, low_memory: bool,
        selection: str | None, highres: bool, tokens: int | None = None,
    ) -> None:  # fmt: skip
        """Check that the `allowed` parts are there and belong together (None: that there is a tokenizer).

        Raises InputError, UsageError.
        """
        allowed = (allowed,) if isinstance(allowed, str) else allowed
        unknown = [name for name in allowed or () if name not in PARTS]
        if unknown:
            raise UsageError(f"parts: found {', '.join(unknown)}, expected some of {', '.join(PARTS)}")
        check_precision_name(precision)
        check_selection(selection_of(path)[0] if selection is None and tokens is not None else selection, tokens)
        self.path, self.device, self.precision, self.low_memory = path, device, precision, low_memory
        self.selection, self.tokens = selection, tokens
        self.folders = {"tokenizer": "tokenizer", "llm": "llm", "detokenizer": detokenizer_part(highres=highres)}
        self.allowed = tuple(allowed) if allowed is not None else PARTS
        self._found: dict[str, Path] = {}
        self._checked: set[str] = set()
        self._group: Group | None = None
        self._config: TokenizerConfig | None = None
        self._tokenizer: VisualTokenizer | None = None
        self._llm: LanguageModel | None = None
        self._arranges = True
        self._detokenizer: Detokenizer | None = None
        self.check(*(allowed if allowed is not None else ("tokenizer",)))

    def folder(self, name: str) -> Path:
        """Return the folder of a part, looked at once. Raises UsageError if it is not allowed, InputError if it is
        missing."""
        if name not in self.allowed:
            raise UsageError(f"{self.path}: loaded with parts={self.allowed!r}, and this needs {name!r} too")
        if name not in self._found:
            self._found[name] = find_part(self.path, self.folders[name])
        return self._found[name]

    def has(self, name: str) -> bool:
        """Return whether a part is there and allowed."""
        return name in self.allowed and (self.path / self.folders[name]).is_dir()

    def check(self, *names: str) -> None:
        """Check, before anything is loaded, that parts are there and were made with this tokenizer; once each.

        Raises what `folder` raises, and InputError for a part that was made with another tokenizer.
        """
        for name in names:
            self.folder(name)
        for name in names:
            if name != "tokenizer" and name not in self._checked:
                check_made_with(self.path, self.folders[name])
                self._checked.add(name)

    @contextlib.contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Check a part, and explain an import of its stage that fails.

        Raises what `check` raises, and InputError if the stage's distribution is not installed.
        """
        self.check(name)
        with require_stages(f"{self.folder(name)}:"):
            yield

    def precision_of(self, name: str) -> str:
        """Return the precision, fp32 or bf16, that language model or detokenizer is used in. Loads no weights."""
        from lavit_trainkit.precision import choose_precision

        folder = self.folder(name)
        if name == "llm":
            return choose_precision(self.precision, folder, ("model", "pytorch_model"))
        return choose_precision(self.precision, denoiser_folder(folder), ("diffusion_pytorch_model",))

    def tokenizer_config(self) -> "TokenizerConfig":
        """Return the tokenizer's configuration, read once."""
        if self._config is None:
            with self.using("tokenizer"):
                from lavit_tokenizer.api import read_tokenizer_config
            self._config = read_tokenizer_config(self.folder("tokenizer"))
        return self._config

    def image_input(self) -> str:
        """Return how the language model reads images: codes, features, live or none."""
        with self.using("llm"):
            from lavit_pretrain.api import read_visual_config
        return read_visual_config(self.path).image_input

    def encoder(self) -> "VisualTokenizer":
        """Return a tokenizer that encodes; it need not have a feature decoder."""
        return self._load_tokenizer("encode")

    def decoder(self) -> "VisualTokenizer":
        """Return a tokenizer that decodes codes; it need not have an encoder."""
        return self._load_tokenizer("decode")

    def tokenizer(self) -> "VisualTokenizer":
        """Return the whole tokenizer."""
        return self._load_tokenizer("all")

    def llm(self) -> "LanguageModel":
        """Return the language model."""
        with _LOADING:
            self._make_room("llm")
            if self._llm is None:
                with self.using("llm"):
                    from lavit_pretrain.api import load_llm
                self._llm = load_llm(self.path, device=self.device, precision=self.precision)
                if self._arranges:
                    self._llm.arrange()
            return self._llm

    def changeable_llm(self) -> "LanguageModel":
        """Return the language model for somebody who may change it: its weights are held once from now on."""
        with _LOADING:
            self._arranges = False
            return self.llm().unarrange()

    def detokenizer(self) -> "Detokenizer":
        """Return the detokenizer."""
        with _LOADING:
            self._make_room("decode")
            if self._detokenizer is None:
                with self.using("detokenizer"):
                    from lavit_detokenizer.api import load_detokenizer
                self._detokenizer = load_detokenizer(
                    self.path, part=self.folders["detokenizer"], device=self.device, precision=self.precision
                )
            return self._detokenizer

    def draw_size(self, settings: "DrawSettings") -> tuple[int, int]:
        """Return height and width in pixels of the images drawn. Loads no weights.

        Raises UsageError for a size that the detokenizer does not draw.
        """
        with self.using("detokenizer"):
            from lavit_detokenizer.api import model_image_size
        return model_image_size(self.path, self.folders["detokenizer"], settings)

    def fitting_settings(self, settings: "DrawSettings", images_px: Sequence[tuple[int, int]]) -> list["DrawSettings"]:
        """Return the settings that draw each image (height, width) at the trained size nearest to its shape. Loads no
        weights."""
        with self.using("detokenizer"):
            from lavit_detokenizer.api import model_fitting_settings
        return model_fitting_settings(self.path, self.folders["detokenizer"], settings, images_px)

    def draw_sizes(self) -> list[tuple[int, int]]:
        """Return height and width in pixels of all images that the detokenizer draws, the default's first. Loads no
        weights."""
        with self.using("detokenizer"):
            from lavit_detokenizer.api import model_sizes
        return model_sizes(self.path, self.folders["detokenizer"])

    def _load_tokenizer(self, use: Literal["all", "encode", "decode"]) -> "VisualTokenizer":
        """Return the tokenizer, its halves loaded as far as `use` needs them: what is held is never loaded again."""
        with self.using("tokenizer"):
            from lavit_tokenizer.api import add_decoder, load_tokenizer
        with _LOADING:
            self._make_room(use)
            held = self._tokenizer
            if held is None or (use != "decode" and not hasattr(held, "encoder")):
                half: Literal["encode", "decode"] = "decode" if use == "decode" else "encode"
                loaded = load_tokenizer(
                    self.path, device=self.device, selection=self.selection, tokens=self.tokens, use=half
                )
                if held is not None and hasattr(held, "decoder"):
                    loaded.decoder = held.decoder
                held = self._tokenizer = loaded
            if use != "encode" and not hasattr(held, "decoder"):
                add_decoder(held, self.path)
            return held

    def _make_room(self, group: Group) -> None:
        """Let the parts of other groups go, if memory is low."""
        if self.low_memory and self._group not in (None, group):
            self._tokenizer = self._llm = self._detokenizer = None
            gc.collect()
        self._group = group
