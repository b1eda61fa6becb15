"""Configuration: a preset, then YAML files, then `--set key=value`; unknown keys are refused with the nearest name."""

import difflib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lavit_core.errors import UsageError


class Config(BaseModel):
    """Base of every stage's settings: frozen, strict about names, a docstring under each field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
"""A learning rate, a decay of weights or the weight of a term."""
Positive = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]
"""Decay of a moving average; at 1 it would never move."""


class _OneValueAKey(yaml.SafeLoader):
    """PyYAML's safe loader, but a key that stands twice and 010 are errors: the last value, and 8, without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := sorted({key for key in keys if keys.count(key) > 1}, key=str):
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Return a whole number. Raises ConstructorError for 010 and 1:30, which YAML 1.1 reads as 8 and 90."""
        text = self.construct_scalar(node)
        if ":" in text or re.fullmatch(r"[-+]?0[0-9_]+", text):
            problem = f"{text} is read as {super().construct_yaml_int(node)}; write that number, or quote the text"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return int(super().construct_yaml_int(node))


_OneValueAKey.add_constructor("tag:yaml.org,2002:int", _OneValueAKey.construct_yaml_int)


C = TypeVar("C", bound=Config)

MOST_NESTED = 20
"""Levels of a settings file; the presets have four."""
NESTED = f"a value contains itself, or is nested more than {MOST_NESTED} levels deep"


def resolve(
    model: type[C],
    *,
    preset: Mapping[str, Any] | None = None,
    file: Path | Sequence[Path] | None = None,
    sets: Sequence[str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> C:
    """Merge preset < file (several: left to right) < sets < explicit flags (None means "not given") into one config.

    A mapping on top of a list changes the list's items by their `name` or index: `phases.selector.num_steps=200`.
    Raises UsageError naming the key, the value found and the values that exist.
    """
    values = _over(model, {}, preset or {})
    for one in [file] if isinstance(file, Path) else file or ():
        given = read_yaml(one, f"--config {one}")
        _refuse_quickstart(model, one, given)
        values = _over(model, values, given)
    for item in sets or ():
        values = _over(model, values, _setting(item))
    values = _over(model, values, _given(flags or {}))
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UsageError(_one_line(model, error)) from None


def merge(below: Mapping[str, Any], above: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return `below` with the values of `above`: mappings merge, and a mapping on top of a list merges into the items
    that its keys name. Raises UsageError for an item that does not exist."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            value = merge(old, value, f"{where}{key}.")
        elif isinstance(value, Mapping) and isinstance(old, list | tuple):
            value = _merge_items(old, value, f"{where}{key}")
        elif isinstance(value, Mapping):
            value = merge({}, value)
        merged[key] = value
    return merged


def as_yaml(settings: Mapping[str, Any]) -> str:
    """Return plain values as YAML, in their order."""
    return yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)


def load_preset(package: str, command: str, preset: str) -> dict[str, Any]:
    """Return the settings of `<package>/presets/<command>.<preset>.yaml`. Raises UsageError listing what exists."""
    folder = resources.files(package) / "presets"
    file = folder / f"{command}.{preset}.yaml"
    if not file.is_file():
        names = sorted(entry.name.split(".")[1] for entry in folder.iterdir() if entry.name.startswith(f"{command}."))
        raise UsageError(f"--preset {preset}: {command} has the presets {', '.join(names)}")
    return yaml.load(file.read_text(encoding="utf-8"), Loader=_OneValueAKey) or {}


def read_yaml(file: Path, named: str) -> dict[str, Any]:
    """Return the mapping in a YAML file. Raises UsageError, which calls the file `named`."""
    try:
        # A subclass of SafeLoader: plain values only.
        values = yaml.load(file.read_text(encoding="utf-8"), Loader=_OneValueAKey) or {}
        _check_nesting(values)
    except FileNotFoundError:
        raise UsageError(f"{named}: file not found") from None
    except OSError as error:
        raise UsageError(f"{named}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{named}: not valid YAML ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise UsageError(f"{named}: {NESTED}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{named}: expected a mapping of settings, found {type(values).__name__}")
    return values


def _check_nesting(value: Any, depth: int = 0) -> None:
    """Raise RecursionError for a value that contains itself, as YAML's aliases allow, or nests without need."""
    if depth > MOST_NESTED:
        raise RecursionError
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_nesting(inner, depth + 1)


QUICKSTART_STEPS = frozenset({"encoder", "tokenizer", "tokens", "pretrain", "blind", "detokenizer", "evaluation"})
"""Names under which a file for `lavit quickstart` has the settings of its steps."""


def _refuse_quickstart(model: type[BaseModel], file: Path, values: Mapping[str, Any]) -> None:
    steps = [name for name in QUICKSTART_STEPS if name in values and name not in model.model_fields]
    if steps and all(isinstance(values[name], Mapping) for name in steps):
        raise UsageError(
            f"--config {file}: settings of a whole quickstart (found {', '.join(sorted(steps))}); give it to "
            "`lavit quickstart`, or put the settings of this command alone into a file"
        )


def _setting(item: str) -> dict[str, Any]:
    key, equals, text = item.partition("=")
    if not equals:
        raise UsageError(f"--set {item}: expected key=value")
    try:
        value = yaml.load(text, Loader=_OneValueAKey)
        _check_nesting(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {item}: not a YAML value ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise UsageError(f"--set {item[:40]} ...: {NESTED}") from None
    for name in reversed(key.strip().split(".")):
        value = {name: value}
    return value


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    nested = {key: _given(value) if isinstance(value, Mapping) else value for key, value in flags.items()}
    return {key: value for key, value in nested.items() if value is not None}


def _over(model: type[BaseModel], below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    # A list that nothing below gives is the default's, and its items have names too.
    lists = {}
    for key, value in above.items():
        field = model.model_fields.get(key)
        default = field.get_default(call_default_factory=True) if field is not None else None
        if isinstance(value, Mapping) and key not in below and isinstance(default, list | tuple):
            lists[key] = [one.model_dump() if isinstance(one, BaseModel) else one for one in default]
    return merge({**below, **lists}, above)


def _merge_items(items: Sequence[Any], above: Mapping[str, Any], where: str) -> list[Any]:
    merged = list(items)
    names = [str(one["name"]) for one in merged if isinstance(one, Mapping) and "name" in one]
    for key, value in above.items():
        if str(key) in names:
            place = next(
                i for i, one in enumerate(merged) if isinstance(one, Mapping) and str(one.get("name")) == str(key)
            )
        elif str(key).isdecimal() and int(key) < len(merged):
            place = int(key)
        else:
            near = difflib.get_close_matches(str(key), names, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            known = ", ".join(names) or "none has a name"
            raise UsageError(f"{where} has no item {key}; {hint}items: {known} (or by index, 0 to {len(merged) - 1})")
        both = isinstance(value, Mapping) and isinstance(merged[place], Mapping)
        merged[place] = merge(merged[place], value, f"{where}.{key}.") if both else value
    return merged


KIND = re.compile(r"constrained-\w+|int|float|str|bool|none|\w[\w-]*\[.*\]")
"""What pydantic puts between a setting's name and what is wrong with it, where the setting may be of several kinds."""


def _one_line(model: type[BaseModel], error: ValidationError) -> str:
    # A misspelt name also leaves the right one missing: say the cause.
    first = next((item for item in error.errors() if item["type"] == "extra_forbidden"), error.errors()[0])
    where = _place(first["loc"])
    # A setting of several kinds, say a number or a list, has an error for each: the one deepest inside is of its kind.
    of_setting = [item for item in error.errors() if (_place(item["loc"]) + ".").startswith(where + ".")]
    first = max(of_setting, key=lambda item: len(item["loc"])) if where else first
    where = _place(first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"setting {where} is missing; give it with --set {where}=VALUE or in --config"
    if first["type"] != "extra_forbidden":
        # A rule over several settings has no place or value of its own; its message names them.
        of_several = isinstance(first["input"], Mapping) and first["type"] == "value_error"
        found = "" if of_several else f", found {first['input']!r}"
        return f"setting {where}: {said}{found}" if where else f"settings: {said}"
    where = ".".join(map(str, first["loc"]))  # as it was written, even if a kind has that name
    names = sorted(_fields_at(model, first["loc"][:-1]))
    near = difflib.get_close_matches(str(first["loc"][-1]), names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known settings: {', '.join(names)}"
    return f"unknown setting {where}; {hint}"


def _place(parts: Sequence[int | str]) -> str:
    """Return where a setting stands, without the kinds that pydantic names on the way (`constrained-int`)."""
    return ".".join(str(part) for part in parts if isinstance(part, int) or not KIND.fullmatch(part))


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for name in path:
        if isinstance(name, int):  # an item of a list, whose kind is known
            continue
        field = model.model_fields.get(name)
        kinds = (field.annotation, *get_args(field.annotation)) if field is not None else ()
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)
