"""What users import from `lavit` is a promise: a change of a name or a signature must be made here too."""

import inspect

import lavit
from lavit import LaVIT

NAMES = [
    "Beams",
    "DrawSettings",
    "GenerationStep",
    "ImageLike",
    "ImageTokens",
    "LaVIT",
    "PromptLike",
    "SampleSettings",
]

IMAGES = "images: 'ImageLike | Sequence[ImageLike]'"
DRAW = (
    "prompts: 'str | Sequence[PromptLike]', seeds: 'int | Sequence[int] | None' = None, "
    "guidance_scale: 'float | None' = None, sampling: 'SampleSettings | None' = None, "
    "drawing: 'DrawSettings | None' = None, batch_size: 'int' = 16"
)
SEEDS = "seeds: 'int | Sequence[int] | None' = None"

METHODS = {
    "from_pretrained": "(path: 'str | Path', parts: 'str | Sequence[str] | None' = None, device: 'str' = 'auto', "
    "precision: 'str' = 'auto', low_memory: 'bool' = False, selection: 'str | None' = None, highres: 'bool' = False, "
    "preset: 'str | None' = None, tokens: 'int | None' = None, allow_network: 'bool' = False) -> 'LaVIT'",
    "encode": f"(self, {IMAGES}, selection: 'str | None' = None, seed: 'int' = 0, "
    "keys: 'Sequence[str] | None' = None, tokens: 'int | None' = None) -> 'ImageTokens'",
    "draw_settings": "(self, **changes: 'Any') -> 'DrawSettings'",
    "sample_settings": "(self, **changes: 'Any') -> 'SampleSettings'",
    "decode": f"(self, tokens: 'ImageTokens | Sequence[np.ndarray]', {SEEDS}, "
    "settings: 'DrawSettings | Sequence[DrawSettings] | None' = None) -> 'list[Image.Image]'",
    "reconstruct": f"(self, {IMAGES}, {SEEDS}, settings: 'DrawSettings | None' = None) -> 'list[Image.Image]'",
    "sample": f"(self, prompts: 'str | Sequence[PromptLike]', {SEEDS}, settings: 'SampleSettings | None' = None, "
    "batch_size: 'int' = 16) -> 'list[np.ndarray]'",
    "generate": f"(self, {DRAW}) -> 'list[Image.Image]'",
    "generate_steps": f"(self, {DRAW}) -> 'Iterator[GenerationStep]'",
    "caption": f"(self, {IMAGES}, max_tokens: 'int' = 36, beams: 'Beams | None' = None) -> 'list[str]'",
    "answer": "(self, images: 'ImageLike | Sequence[ImageLike] | None', questions: 'str | Sequence[PromptLike]', "
    "max_tokens: 'int' = 10, beams: 'Beams | None' = None, "
    "earlier: 'Sequence[Sequence[tuple[PromptLike, str]]] | None' = None, chat: 'bool' = False) -> 'list[str]'",
    "interleave": "(self, prompts: 'str | Sequence[PromptLike]', seeds: 'int | Sequence[int] | None' = None, "
    "settings: 'InterleaveSettings | None' = None, drawing: 'DrawSettings | None' = None) "
    "-> 'list[list[str | Image.Image]]'",
    "score": f"(self, {IMAGES}, texts: 'str | Sequence[str]', all_pairs: 'bool' = False, batch_size: 'int' = 64) "
    "-> 'np.ndarray'",
    "score_codes": "(self, texts: 'str | Sequence[str]', codes: 'ImageTokens | Sequence[np.ndarray]', "
    "all_pairs: 'bool' = False, batch_size: 'int' = 64) -> 'np.ndarray'",
    "count_tokens": "(self, texts: 'str | Sequence[str]') -> 'np.ndarray'",
    "draw_size": "(self, settings: 'DrawSettings | None' = None) -> 'tuple[int, int]'",
    "draw_sizes": "(self) -> 'list[tuple[int, int]]'",
    "fitting_settings": f"(self, {IMAGES}, settings: 'DrawSettings | None' = None) -> 'list[DrawSettings]'",
    "save_pretrained": "(self, folder: 'str | Path') -> 'None'",
}

PROPERTIES = [
    "codebook_size",
    "detokenizer",
    "grid",
    "image_input",
    "image_px",
    "language_model",
    "metadata",
    "tokenizer",
]


def test_public_names() -> None:
    assert sorted(lavit.__all__) == NAMES
    assert all(hasattr(lavit, name) for name in NAMES)


def test_methods_and_their_signatures() -> None:
    public = {name: value for name, value in vars(LaVIT).items() if not name.startswith("_")}
    found = {
        name: str(inspect.signature(getattr(LaVIT, name) if name != "from_pretrained" else value.__func__))
        for name, value in public.items()
        if inspect.isfunction(value) or isinstance(value, classmethod)
    }
    found["from_pretrained"] = found["from_pretrained"].replace("(cls, ", "(")
    assert found == METHODS
    assert sorted(set(public) - set(found)) == PROPERTIES
