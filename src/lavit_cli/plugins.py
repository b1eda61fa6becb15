"""The command surface: every distribution registers its verbs in the entry-point group `lavit.commands`, and what it
adds to another one's group of commands (`lavit data ...`) in `lavit.commands.data`.

A stage that is missing or fails to load keeps its place as a command that says what is wrong and how to install it.
"""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
import typer.main
from lavit_core.distributions import install_command
from lavit_core.errors import InputError, Interrupted

GROUP = "lavit.commands"

START, DATA, TRAIN, USE, JUDGE = "Start here", "Data and tokens", "Train", "Use a model", "Evaluate and report"
OTHER = "Other commands"

KNOWN = {
    "quickstart": (START, "lavit"),
    "doctor": (START, "lavit"),
    "data": (DATA, "lavit-core"),
    "data make-shapes": (DATA, "lavit-shapes"),
    "data preview": (DATA, "lavit"),
    "tokenize-images": (DATA, "lavit-tokenizer"),
    "tokens": (DATA, "lavit-core"),
    "tokens push": (DATA, "lavit"),
    "verify": (DATA, "lavit-core"),
    "train-encoder": (TRAIN, "lavit-tokenizer"),
    "train-tokenizer": (TRAIN, "lavit-tokenizer"),
    "pretrain": (TRAIN, "lavit-pretrain"),
    "train-detokenizer": (TRAIN, "lavit-detokenizer"),
    "generate": (USE, "lavit"),
    "reconstruct": (USE, "lavit"),
    "caption": (USE, "lavit"),
    "ask": (USE, "lavit"),
    "sample": (USE, "lavit-pretrain"),
    "detokenize": (USE, "lavit-detokenizer"),
    "serve": (USE, "lavit-serve"),
    "ui": (USE, "lavit-serve"),
    "import-checkpoint": (USE, "lavit"),
    "export-checkpoint": (USE, "lavit"),
    "push": (USE, "lavit"),
    "eval": (JUDGE, "lavit-evaluation"),
    "bench": (JUDGE, "lavit"),
    "report": (JUDGE, "lavit"),
}
"""Commands of this project in the order of the help: (help panel, distribution that registers it)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """One command: the function or group that runs it, or why it can't run."""

    name: str
    distribution: str
    target: Callable[..., Any] | typer.Typer | None = None
    problem: str = ""
    inner: tuple["Command", ...] = ()
    """Subcommands that other distributions add to this group; their names begin with the group's."""

    @property
    def panel(self) -> str:
        """Its heading in `lavit --help`."""
        return KNOWN.get(self.name, (OTHER, ""))[0]

    @property
    def remedy(self) -> str:
        """The command that installs it."""
        return install_command(self.distribution)


def is_trainer(command: str) -> bool:
    """Tell whether torchrun's processes share a command's work; in any other they would all write the same files."""
    return KNOWN.get(command, (OTHER, ""))[0] == TRAIN


def find_commands(only: str | None = None) -> list[Command]:
    """Load the registered commands, or only the one named; known commands come first and are never left out."""
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    known = [name for name in KNOWN if " " not in name]
    names = [only] if only in KNOWN or only in found else [*known, *sorted(found.keys() - KNOWN.keys())]
    return [_load_group(name, found.get(name)) for name in names if name is not None]


def _load_group(name: str, entry: EntryPoint | None) -> Command:
    """Load a command; when it is a group, also the subcommands that other distributions register for it."""
    command = _load(name, entry)
    if not isinstance(command.target, typer.Typer):
        return command
    found = {f"{name} {entry.name}": entry for entry in entry_points(group=f"{GROUP}.{name}")}
    names = dict.fromkeys([*(known for known in KNOWN if known.startswith(f"{name} ")), *sorted(found)])
    return dataclasses.replace(command, inner=tuple(_load(inner, found.get(inner)) for inner in names))


def _load(name: str, entry: EntryPoint | None) -> Command:
    if entry is None:
        return Command(name=name, distribution=KNOWN[name][1], problem="not installed")
    distribution = entry.dist.name if entry.dist is not None else KNOWN.get(name, ("", name))[1]
    try:
        target = entry.load()
        if not callable(target):
            raise TypeError(f"{entry.value} is a {type(target).__name__}, expected a function or a typer.Typer")
    # A foreign module may fail in any way while it loads, and must not take the host with it.
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code == Interrupted.exit_code:
            raise  # somebody asked this process to stop, and the module has no part in it
        return Command(name=name, distribution=distribution, problem=f"failed to load: {one_line(error)}")
    return Command(name=name, distribution=distribution, target=target)


def build_command(arguments: Sequence[str]) -> Any:
    """Return the click command for a command line; only the named verb's module is loaded."""
    commands = find_commands(next((word for word in arguments if not word.startswith("-")), None))
    try:
        command = typer.main.get_command(_assemble(commands))
    # A signature that typer can't read: find whose it is, and put a placeholder there.
    except Exception:  # noqa: BLE001
        command = typer.main.get_command(_assemble([_checked(one) for one in commands]))
    _drop_unused_options(command, arguments)
    return command


def _drop_unused_options(group: Any, arguments: Sequence[str]) -> None:
    """Remove --help and completion from the groups above the named command: typer imports pydantic to check them."""
    for word in arguments:
        if word not in getattr(group, "commands", ()):
            break
        group.add_help_option, group.params = False, []
        group = group.commands[word]


def _checked(command: Command) -> Command:
    try:
        typer.main.get_command(_assemble([command]))
    except Exception as error:  # noqa: BLE001
        return dataclasses.replace(command, target=None, problem=f"failed to load: {one_line(error)}")
    return command


def _assemble(commands: Sequence[Command]) -> typer.Typer:
    app = typer.Typer(
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for command in commands:
        _add(app, command, command.panel)
    return app


def _add(app: typer.Typer, command: Command, panel: str | None) -> None:
    name = command.name.rpartition(" ")[2]
    if isinstance(command.target, typer.Typer):
        # A copy: the registered group stays as it is.
        group = copy.copy(command.target)
        group.registered_commands = list(group.registered_commands)
        for inner in command.inner:
            _add(group, inner, None)
        app.add_typer(group, name=name, rich_help_panel=panel)
    elif command.target is not None:
        app.command(name, rich_help_panel=panel)(command.target)
    else:
        _place_holder(app, command, panel)


def _place_holder(app: typer.Typer, command: Command, panel: str | None) -> None:
    def stand_in() -> None:
        raise InputError(f"lavit {command.name}: {command.distribution} {command.problem}; run `{command.remedy}`")

    # Whatever was typed after the verb, the answer is the same.
    anything = {"allow_extra_args": True, "ignore_unknown_options": True}
    label = f"[{command.problem.partition(':')[0]}] {command.remedy}".replace("[", r"\[")
    name = command.name.rpartition(" ")[2]
    app.command(name, rich_help_panel=panel, help=label, context_settings=anything)(stand_in)


def _root() -> None:
    """Images as words: train and run models that read and write a variable number of image tokens.

    Begin with `lavit quickstart --out runs/demo`; `lavit COMMAND --help` explains each command. `lavit --version`
    prints the version; `--debug` with any command shows the trace of an error (also LAVIT_DEBUG=1).
    """


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
