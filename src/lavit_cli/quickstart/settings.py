"""Settings of every step of a quickstart: its command's preset and the quickstart's changes. Never imports torch."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from lavit_core.config import Config, load_preset, merge, resolve
from lavit_core.distributions import require_stages
from lavit_core.errors import UsageError

from lavit_cli.quickstart.config import QuickstartConfig

if TYPE_CHECKING:
    from lavit_detokenizer.config import TrainDetokenizerConfig
    from lavit_evaluation.config import EvalTokenizerConfig, ShapesConfig
    from lavit_pretrain.config import PretrainConfig
    from lavit_shapes.style import Style
    from lavit_tokenizer.config import TokenizeConfig, TrainEncoderConfig, TrainTokenizerConfig

C = TypeVar("C", bound=Config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepSettings:
    """One config per step, under the step's name."""

    encoder: "TrainEncoderConfig"
    tokenizer: "TrainTokenizerConfig"
    tokens: "TokenizeConfig"
    pretrain: "PretrainConfig"
    blind: "PretrainConfig"
    detokenizer: "TrainDetokenizerConfig"
    evaluation: "ShapesConfig"
    tokenizer_evaluation: "EvalTokenizerConfig"

    def as_json(self) -> dict[str, Any]:
        """Return every step's settings as plain values."""
        return {field.name: getattr(self, field.name).model_dump(mode="json") for field in dataclasses.fields(self)}


def settle(config: QuickstartConfig) -> StepSettings:
    """Resolve the settings of every step. Raises UsageError naming the step, InputError for a missing stage."""
    with require_stages("lavit quickstart"):
        from lavit_detokenizer.config import TrainDetokenizerConfig
        from lavit_evaluation.config import EvalTokenizerConfig, ShapesConfig
        from lavit_pretrain.config import PretrainConfig
        from lavit_tokenizer.config import TokenizeConfig, TrainEncoderConfig, TrainTokenizerConfig

    drawing_style(config)  # fails before anything runs

    def of(model: type[C], package: str, command: str, step: str, **always: Any) -> C:
        shipped = merge(load_preset(package, command, config.preset), always)
        return _resolve(model, step, merge(shipped, getattr(config, step)))

    pretrain = merge(load_preset("lavit_pretrain", "pretrain", config.preset), config.pretrain)
    blind = merge(pretrain, {"image_input": "none", **config.blind})
    return StepSettings(
        encoder=of(TrainEncoderConfig, "lavit_tokenizer", "train-encoder", "encoder"),
        tokenizer=of(TrainTokenizerConfig, "lavit_tokenizer", "train-tokenizer", "tokenizer"),
        tokens=of(TokenizeConfig, "lavit_tokenizer", "tokenize-images", "tokens", features=True),
        pretrain=_resolve(PretrainConfig, "pretrain", pretrain),
        blind=_resolve(PretrainConfig, "blind", blind),
        detokenizer=of(TrainDetokenizerConfig, "lavit_detokenizer", "train-detokenizer", "detokenizer"),
        evaluation=of(ShapesConfig, "lavit_evaluation", "shapes", "evaluation"),
        tokenizer_evaluation=_resolve(EvalTokenizerConfig, "tokenizer_evaluation", config.tokenizer_evaluation),
    )


def settled(config: QuickstartConfig) -> dict[str, Any]:
    """Return all settings, those of every step included, as plain values."""
    return {**config.model_dump(mode="json"), **settle(config).as_json()}


def drawing_style(config: QuickstartConfig) -> "Style":
    """Return the style of the drawn images. Raises UsageError if a name or value is not an option of make-shapes."""
    with require_stages("lavit quickstart"):
        from lavit_shapes.style import Style

    known = dataclasses.asdict(Style())
    for name, value in config.drawing.items():
        if name not in known:
            raise UsageError(f"drawing: unknown setting {name}; known settings: {', '.join(known)}")
        if type(value) is not type(known[name]):
            raise UsageError(f"drawing: {name} is {value!r}, expected {type(known[name]).__name__}")
    return Style(**config.drawing)


def _resolve(model: type[C], step: str, values: Mapping[str, Any]) -> C:
    try:
        return resolve(model, preset=values)
    except UsageError as error:
        raise UsageError(f"{step}: {error}") from None
