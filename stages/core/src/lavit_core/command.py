"""Commands with few parameters: dataclasses of options, their settings, and one way to print a result.

A command function takes its own arguments and one `CommonOptions`; `command` turns both into Typer's signature:

    @dataclass(frozen=True, kw_only=True)
    class Files:
        annotations: Annotated[Path | None, typer.Option("--annotations", help="Official answers.")] = None
        split: Annotated[str | None, typer.Option("--split", help="Split of a Karpathy file.")] = None

    @command(renamed=[Renamed("--few", "--allow-small-sample")])
    def coco_fid(model: Model, files: Files, common: CommonOptions = NO_PRESET) -> None:
        from lavit_evaluation.config import CocoFidConfig

        settings = settings_of(common, CocoFidConfig, flags={"limit": limit})
        if common.dry_run:
            return show_plan(settings, common, captions=str(files.annotations))
        show(run_coco_fid(model, settings, quiet=common.silent), common, "score.json: the score")

`NO_PRESET` starts from the defaults of the settings; `command(omit=["preset"])` leaves out options that would do
nothing. Like every front, this module imports nothing heavier than typer.
"""

import dataclasses
import functools
import inspect
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import typer

from lavit_core.errors import UsageError
from lavit_core.progress import warn

if TYPE_CHECKING:
    from lavit_core.config import Config

C = TypeVar("C", bound="Config")
T = TypeVar("T")


def _without_arguments(context: typer.Context, given: bool) -> bool:
    """Let a command line of --print-config leave arguments out: settings do not depend on them."""
    needed = [parameter for parameter in context.command.params if parameter.required] if given else []

    def change(required: bool) -> None:
        for parameter in needed:
            parameter.required = required

    change(False)
    context.call_on_close(lambda: change(True))
    return given


_common = functools.partial(typer.Option, rich_help_panel="Common options")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Options of every command, also of those that have no settings."""

    as_json: Annotated[bool, _common("--json", help="Print one JSON object on stdout.")] = False
    quiet: Annotated[bool, _common("--quiet", help="Show no progress.")] = False

    @property
    def silent(self) -> bool:
        """Whether to show no progress: --quiet, or --json."""
        return self.quiet or self.as_json


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommonOptions(OutputOptions):
    """Options of every command that has settings; a command's own defaults stand in its default instance."""

    preset: Annotated[str | None, _common("--preset", help="Shipped settings to start from.")] = "tiny"
    config: Annotated[
        list[Path] | None,
        _common(
            "--config", metavar="FILE", help="YAML file of settings; repeatable, later ones win.", show_default=False
        ),
    ] = None
    sets: Annotated[
        list[str] | None,
        _common("--set", metavar="KEY=VALUE", help="Change one setting, say a.b=2; repeatable.", show_default=False),
    ] = None
    seed: Annotated[int, _common("--seed", help="Seed of every random draw.")] = 0
    device: Annotated[str, _common("--device", help="auto, cpu, cuda or cuda:N.")] = "auto"
    precision: Annotated[str, _common("--precision", help="auto, fp32 or bf16.")] = "auto"
    dry_run: Annotated[bool, _common("--dry-run", help="Print what would be done, and do nothing.")] = False
    print_config: Annotated[
        bool,
        _common(
            "--print-config",
            help="Print the settings as YAML, and exit; needs no arguments.",
            is_eager=True,
            callback=_without_arguments,
        ),
    ] = False


NO_PRESET = CommonOptions(preset=None)
"""Default of commands that start from the defaults of their settings."""


@dataclasses.dataclass(frozen=True)
class Renamed:
    """The old name of an option: hidden, accepted for one release, with a warning on stderr."""

    old: str
    new: str
    values: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Old values that have a new name too."""


def command(
    *, omit: Sequence[str] = (), renamed: Sequence[Renamed] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Expand the dataclass parameters of a command function into Typer options, and hand over instances.

    A parameter's default instance gives the options' defaults. Fields named in `omit` are no options and keep their
    default. The command that results takes keyword arguments alone: the function's own, and the dataclasses' fields.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        groups: dict[str, tuple[type[Any], dict[str, Any]]] = {}
        parameters: dict[str, inspect.Parameter] = {}
        for name, parameter in inspect.signature(function).parameters.items():
            kind: Any = hints[name]
            if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
                parameters[name] = _keyword(name, kind, parameter.default)
                continue
            given = None if parameter.default is inspect.Parameter.empty else parameter.default
            fields = {field.name: field for field in _fields(kind, given)}
            groups[name] = (kind, {key: parameter.default for key, parameter in fields.items() if key in omit})
            parameters.update({key: parameter for key, parameter in fields.items() if key not in omit})
        old = {one.old: (one, _option_named(parameters, one.new)) for one in renamed}
        for one, target in old.values():
            parameters[_hidden_name(one)] = _hidden(one, parameters[target])

        @functools.wraps(function)
        def run(**given: Any) -> None:
            for one, target in old.values():
                _take_old(one, target, given, parameters[target].default)
            for name, (kind, kept) in groups.items():
                names = [field.name for field in dataclasses.fields(kind) if field.name in parameters]
                values = {key: given.pop(key, parameters[key].default) for key in names}
                given[name] = kind(**values, **kept)
            function(**given)

        run.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
        run.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
        return run

    return decorate


def settings_of(
    options: CommonOptions,
    model: type[C],
    shipped: tuple[str, str] | Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> C:
    """Return validated settings: preset < --config files < --set < `flags` (None: not given); --precision is a flag of
    settings that have one. With --print-config, print them and exit.

    `shipped` is where the preset is, as (package, command), or its values. Raises UsageError.
    """
    from lavit_core.config import load_preset, resolve

    if options.preset is not None and shipped is None:
        raise UsageError(f"--preset {options.preset}: this command has no presets")
    if isinstance(shipped, tuple):
        shipped = None if options.preset is None else load_preset(*shipped, options.preset)
    given = dict(flags or {})
    if "precision" in model.model_fields and options.precision != "auto":
        given["precision"] = options.precision
    settings = resolve(model, preset=shipped, file=options.config, sets=options.sets, flags=given)
    if options.print_config:
        print_config(settings.model_dump(mode="json"), options)
    return settings


def print_config(settings: Mapping[str, Any], options: OutputOptions) -> NoReturn:
    """Print resolved settings as YAML (with --json as JSON), and exit."""
    from lavit_core.config import as_yaml

    typer.echo(json.dumps(settings, ensure_ascii=False) if options.as_json else as_yaml(settings).rstrip())
    raise typer.Exit


def word(value: object) -> str:
    """Return a value, say a path with blanks, as one word of a command line."""
    return shlex.quote(str(value))


def show(
    result: Mapping[str, Any], options: OutputOptions, *last: str, lines: str | Sequence[str] | None = None
) -> None:
    """Print a command's result: with --json as one JSON object, else one `name: value` a line, or `lines` where the
    result has a form of its own; then `last`, say the next command."""
    if options.as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
        return
    shown = _lines(result) if lines is None else [lines] if isinstance(lines, str) else lines
    typer.echo("\n".join([*shown, *last]))


def show_plan(settings: "Config", options: CommonOptions, **facts: Any) -> None:
    """Print what a --dry-run knows: `facts`, the settings and the seed."""
    show({**facts, "config": settings.model_dump(mode="json"), "seed": options.seed}, options)


def required(name: str, value: T | None) -> T:
    """Return an argument that --dry-run and --print-config do not need. Raises UsageError if it is missing."""
    if value is None:
        raise UsageError(f"{name} is missing; only --dry-run and --print-config work without it")
    return value


def _fields(kind: type[Any], default: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    for name, parameter in inspect.signature(kind).parameters.items():
        yield _keyword(name, hints[name], parameter.default if default is None else getattr(default, name))


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _option_named(parameters: Mapping[str, inspect.Parameter], option: str) -> str:
    for name, parameter in parameters.items():
        info = _split(parameter.annotation)[1]
        names = [str(one) for one in (getattr(info, "default", None), *(getattr(info, "param_decls", None) or ()))]
        if option in names or option == "--" + name.replace("_", "-"):
            return name
    raise ValueError(f"{option}: no parameter has this option")


def _split(annotation: Any) -> tuple[Any, Any]:
    """Return an annotation's type and its Typer information, if it has one."""
    return get_args(annotation)[:2] if get_origin(annotation) is Annotated else (annotation, None)


def _hidden_name(one: Renamed) -> str:
    return "old_" + one.old.strip("-").replace("-", "_")


def _hidden(one: Renamed, target: inspect.Parameter) -> inspect.Parameter:
    kind: Any = str if one.values else _split(target.annotation)[0]
    return _keyword(_hidden_name(one), Annotated[kind | None, typer.Option(one.old, hidden=True)], None)


def _take_old(one: Renamed, target: str, given: dict[str, Any], default: Any) -> None:
    value = given.pop(_hidden_name(one), None)
    if value in (None, []):
        return
    if given.get(target, default) not in (None, [], default):
        raise UsageError(f"{one.old} is the old name of {one.new}, and both are given: leave {one.old} out")
    new = one.values.get(value, value)
    shown = f"{one.new} {new}" if value in one.values else one.new
    warn(f"{one.old} is now {shown}; the old name is accepted for one more release")
    given[target] = new


def _lines(result: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in result.items():
        if isinstance(value, Mapping):
            yield from _lines(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}: {value:.4g}" if isinstance(value, float) else f"{prefix}{name}: {value}"
