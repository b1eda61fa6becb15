"""The parts of a model directory, each loaded once, when it is first needed."""

import gc
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavit_core.distributions import require_stages
from lavit_core.errors import UsageError
from lavit_core.modeldir import detokenizer_part, find_part

if TYPE_CHECKING:
    from lavit_detokenizer.api import Detokenizer
    from lavit_pretrain.api import LanguageModel
    from lavit_tokenizer.api import TokenizerConfig, VisualTokenizer

PARTS = ("tokenizer", "llm", "detokenizer")

_LOADING = threading.RLock()
"""One part is loaded at a time in a process: transformers and diffusers set global state while they load."""


class Parts:
    """Tokenizer, language model and detokenizer of one model directory.

    With `low_memory` one of three groups is held at a time: the tokenizer's encoding half, the language model, or the
    tokenizer's decoding half with the detokenizer.
    """

    def __init__(
        self, path: Path, *, allowed: Sequence[str] | None, device: str, precision: str, low_memory: bool,
        selection: str | None, highres: bool,
    ) -> None:  # fmt: skip
        """Check that the `allowed` parts are there (None: at least a tokenizer). Raises InputError, UsageError."""
        unknown = [name for name in allowed or () if name not in PARTS]
        if unknown:
            raise UsageError(f"parts: found {', '.join(unknown)}, expected some of {', '.join(PARTS)}")
        self.path, self.device, self.precision, self.low_memory = path, device, precision, low_memory
        self.selection = selection
        self.folders = {"tokenizer": "tokenizer", "llm": "llm", "detokenizer": detokenizer_part(highres=highres)}
        self.allowed = tuple(allowed) if allowed is not None else PARTS
        for name in allowed if allowed is not None else ("tokenizer",):
            self.folder(name)
        self._held: dict[str, tuple[str, Any]] = {}
        self._config: TokenizerConfig | None = None

    def folder(self, name: str) -> Path:
        """Return the folder of a part. Raises UsageError if it is not allowed, InputError if it is missing."""
        if name not in self.allowed:
            raise UsageError(f"{self.path}: loaded with parts={self.allowed!r}, and this needs {name!r} too")
        return find_part(self.path, self.folders[name])

    def has(self, name: str) -> bool:
        """Return whether a part is there and allowed."""
        return name in self.allowed and (self.path / self.folders[name]).is_dir()

    def precision_of(self, name: str) -> str:
        """Return the precision, fp32 or bf16, that language model or detokenizer is used in. Loads no weights."""
        from lavit_trainkit.precision import choose_precision

        folder = self.folder(name)
        if name == "llm":
            return choose_precision(self.precision, folder, ("model", "pytorch_model"))
        return choose_precision(self.precision, folder / "unet", ("diffusion_pytorch_model",))

    def tokenizer_config(self) -> "TokenizerConfig":
        """Return the tokenizer's configuration, read once."""
        if self._config is None:
            folder = self.folder("tokenizer")
            with require_stages(f"{folder}:"):
                from lavit_tokenizer.api import read_tokenizer_config
            self._config = read_tokenizer_config(folder)
        return self._config

    def image_input(self) -> str:
        """Return how the language model reads images: codes, features, live or none."""
        self.folder("llm")
        return str(self.pretrain_api().read_visual_config(self.path).image_input)

    def pretrain_api(self) -> Any:
        """Return the module of the language model's stage. Raises InputError if it is not installed."""
        with require_stages(f"{self.folder('llm')}:"):
            from lavit_pretrain import api
        return api

    def detokenizer_api(self) -> Any:
        """Return the module of the detokenizer's stage. Raises InputError if it is not installed."""
        with require_stages(f"{self.folder('detokenizer')}:"):
            from lavit_detokenizer import api
        return api

    def encoder(self) -> "VisualTokenizer":
        """Return a tokenizer that encodes; under `low_memory` it has no feature decoder."""
        return self._tokenizer("encode")

    def decoder(self) -> "VisualTokenizer":
        """Return a tokenizer that decodes codes; under `low_memory` it has no encoder."""
        return self._tokenizer("decode")

    def tokenizer(self) -> "VisualTokenizer":
        """Return the whole tokenizer."""
        return self._tokenizer("all")

    def llm(self) -> "LanguageModel":
        """Return the language model."""
        return self._get(  # type: ignore[no-any-return]
            "llm",
            "llm",
            lambda: self.pretrain_api().load_llm(self.path, device=self.device, precision=self.precision),
        )

    def detokenizer(self) -> "Detokenizer":
        """Return the detokenizer."""
        part = self.folders["detokenizer"]
        return self._get(  # type: ignore[no-any-return]
            "detokenizer",
            "decode",
            lambda: self.detokenizer_api().load_detokenizer(
                self.path, part=part, device=self.device, precision=self.precision
            ),
        )

    def _tokenizer(self, use: Any) -> "VisualTokenizer":
        use = use if self.low_memory else "all"

        def load() -> Any:
            self.folder("tokenizer")
            with require_stages(f"{self.path}:"):
                from lavit_tokenizer.api import load_tokenizer
            return load_tokenizer(self.path, device=self.device, selection=self.selection, use=use)

        return self._get(f"tokenizer, {use}", use, load)  # type: ignore[no-any-return]

    def _get(self, name: str, group: str, load: Callable[[], Any]) -> Any:
        """Return a part, loaded if it is not held; `low_memory` first lets the other groups go."""
        with _LOADING:
            if name not in self._held:
                if self.low_memory and any(other != group for other, _ in self._held.values()):
                    self._held = {key: value for key, value in self._held.items() if value[0] == group}
                    gc.collect()
                self._held[name] = (group, load())
            return self._held[name][1]
