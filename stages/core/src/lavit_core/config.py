"""Configuration: a preset, then a YAML file, then `--set key=value`; unknown keys are refused with the nearest name."""

import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from lavit_core.errors import UsageError


class Config(BaseModel):
    """Base of every stage's settings: frozen, strict about names, a docstring under each field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class _OneValueAKey(yaml.SafeLoader):
    """PyYAML's safe loader, but a key that stands twice is an error: it would take the last value in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := sorted({key for key in keys if keys.count(key) > 1}, key=str):
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


C = TypeVar("C", bound=Config)


def resolve(
    model: type[C],
    *,
    preset: Mapping[str, Any] | None = None,
    file: Path | None = None,
    sets: Sequence[str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> C:
    """Merge preset < file < sets < explicit flags (None means "not given") into one validated config.

    Raises UsageError naming the key, the value found and the values that exist.
    """
    values: dict[str, Any] = {}
    _merge(values, preset or {})
    if file is not None:
        _merge(values, _read_yaml(file))
    for item in sets or ():
        key, equals, text = item.partition("=")
        if not equals:
            raise UsageError(f"--set {item}: expected key=value")
        try:
            _merge(values, _nested(key.strip().split("."), yaml.safe_load(text)))
        except yaml.YAMLError as error:
            raise UsageError(f"--set {item}: not a YAML value ({' '.join(str(error).split())})") from None
    _merge(values, {key: value for key, value in (flags or {}).items() if value is not None})
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UsageError(_one_line(model, error)) from None


def load_preset(package: str, command: str, preset: str) -> dict[str, Any]:
    """Return the settings of `<package>/presets/<command>.<preset>.yaml`. Raises UsageError listing what exists."""
    folder = resources.files(package) / "presets"
    file = folder / f"{command}.{preset}.yaml"
    if not file.is_file():
        names = sorted(entry.name.split(".")[1] for entry in folder.iterdir() if entry.name.startswith(f"{command}."))
        raise UsageError(f"--preset {preset}: {command} has the presets {', '.join(names)}")
    return yaml.load(file.read_text(encoding="utf-8"), Loader=_OneValueAKey) or {}


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        # A subclass of SafeLoader: plain values only.
        values = yaml.load(file.read_text(encoding="utf-8"), Loader=_OneValueAKey) or {}
    except FileNotFoundError:
        raise UsageError(f"--config {file}: file not found") from None
    except OSError as error:
        raise UsageError(f"--config {file}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {file}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise UsageError(f"--config {file}: expected a mapping of settings, found {type(values).__name__}")
    return values


def _nested(path: list[str], value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return value


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _one_line(model: type[BaseModel], error: ValidationError) -> str:
    # A misspelt name also leaves the right one missing: say the cause.
    first = next((item for item in error.errors() if item["type"] == "extra_forbidden"), error.errors()[0])
    where = ".".join(map(str, first["loc"]))
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"setting {where} is missing; give it with --set {where}=VALUE or in --config"
    if first["type"] != "extra_forbidden":
        # A rule over several settings has no place of its own; its message names them.
        return f"setting {where}: {said}, found {first['input']!r}" if where else f"settings: {said}"
    names = sorted(_fields_at(model, first["loc"][:-1]))
    near = difflib.get_close_matches(str(first["loc"][-1]), names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known settings: {', '.join(names)}"
    return f"unknown setting {where}; {hint}"


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for name in path:
        field = model.model_fields.get(str(name))
        inner = field.annotation if field is not None else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)
