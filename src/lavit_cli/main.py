"""Entry of the `lavit` command: environment, arguments, one line for every failure, the exit code that goes with it."""

import contextlib
import difflib
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

from lavit_core.processes import is_main, num_processes, process_rank

from lavit_cli.broken_library import broken_library

QUIET_LIBRARIES = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Set before any stage loads: no network, no telemetry, no forked tokenizer threads. A value already set stays."""

ALLOW_NETWORK = "--allow-network"
"""With this option the hub's library is not set offline; it reads that setting once, when it is imported."""

INTERNAL, USAGE, INPUT, STOPPED, INTERRUPTED = 1, 2, 3, 75, 130

FAULTS_OF_THE_MACHINE = frozenset(
    {
        errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE,
        errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN,
    }
)  # fmt: skip
"""Error numbers of full disks, missing rights, broken storage and exhausted resources: no code of ours could help."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command line and exit: 0 ok, 1 internal, 2 usage, 3 input, 4 verification, 5 error budget, 75 stopped."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for name, value in QUIET_LIBRARIES.items():
        if name != "HF_HUB_OFFLINE" or ALLOW_NETWORK not in arguments:
            os.environ.setdefault(name, value)
    # --debug may stand anywhere: people add it to the end of the line that just failed.
    if "--debug" in arguments:
        arguments.remove("--debug")
        os.environ["LAVIT_DEBUG"] = "1"
    with _stopping_early():
        raise SystemExit(run(arguments or ["--help"]))


@contextlib.contextmanager
def _stopping_early() -> Iterator[None]:
    """Let SIGTERM end a command with the code for "run it again" where it does not listen itself (imports, loading)."""

    def stop(number: int, frame: FrameType | None) -> None:
        if is_main():  # past Python's stream, which may be in the middle of a write
            os.write(2, b"stopped: before there was anything to save; run the same command again\n")
        raise SystemExit(STOPPED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; every failure is one line on stderr."""
    from lavit_cli.empty_places import empty_place
    from lavit_cli.plugins import build_command, is_trainer

    command = next((word for word in arguments if not word.startswith("-")), None)
    if num_processes() > 1 and command is not None and not is_trainer(command):
        message = f"lavit {command}: works in one process, started by torchrun as {num_processes()}; start it alone"
        return _fail(message, USAGE) if is_main() else USAGE
    if not is_main():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the rest of this process
    try:
        if arguments[:1] == ["--version"]:
            from lavit_cli import __version__

            sys.stdout.write(f"lavit {__version__}\n")
            sys.stdout.flush()
            return 0
        program = build_command(arguments)
        if problem := _unknown_command(program, arguments):
            return _fail(problem, USAGE)
        if place := empty_place(program, arguments):
            return _fail(f"{place} is empty, expected a path (is a shell variable unset?)", USAGE)
        result = program.main(args=list(arguments), prog_name="lavit", standalone_mode=False, obj=list(arguments))
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader (say: head) has gone; a second flush at exit would complain again.
        _give_up_stdout()
        return INTERNAL
    except Exception as error:  # noqa: BLE001 - the outermost frame: nothing above could show it better
        return _unexpected(error, arguments)
    # Typer turns Ctrl-C in a command that does not save on signals into this code, and says nothing.
    if result == INTERRUPTED:
        return _fail("interrupted", INTERRUPTED)
    return result if isinstance(result, int) else 0


def _give_up_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unexpected(error: Exception, arguments: Sequence[str]) -> int:
    """Our errors and Typer's usage errors carry their message and exit code; anything else is a bug of ours."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return run([*arguments, "--help"])
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        if context is not None and getattr(error, "possibilities", None):
            hidden = {
                name for param in context.command.params if getattr(param, "hidden", False) for name in param.opts
            }
            error.possibilities = [name for name in error.possibilities if name not in hidden]  # type: ignore[attr-defined]
        hint = f"see `{context.command_path if context is not None else 'lavit'} --help`"
        message = error.format_message().rstrip(".")
        return _fail(f"{message}; {hint}", getattr(error, "exit_code", USAGE))
    if type(error).__name__ == "Abort":
        return _fail("interrupted", INTERRUPTED)
    # A distribution that stands without lavit-core has errors of its own, which carry their exit code.
    if isinstance(code := getattr(error, "exit_code", None), int):
        return _fail(str(error), code)
    if isinstance(error, OSError) and error.errno is not None and error.errno in FAULTS_OF_THE_MACHINE:
        reason = os.strerror(error.errno)
        try:
            sys.stdout.flush()
        except OSError:
            _give_up_stdout()
        return _fail(f"{error.filename}: {reason}" if error.filename else f"reading or writing failed: {reason}", INPUT)
    if library := broken_library(error):
        return _fail(f"{library}: the installation is broken; `lavit doctor` names what repairs it", INTERNAL)
    if isinstance(error, MemoryError):
        return _fail("memory ran out; smaller batches or fewer --workers need less", INTERNAL)
    text = " ".join(str(error).split()) or "no message"
    return _fail(f"{type(error).__name__}: {text} (a bug in lavit; run again with --debug for the trace)", INTERNAL)


def _unknown_command(group: Any, arguments: Sequence[str]) -> str:
    """Return the error message for a word that should be a command and is not; "" if it is one."""
    path = ["lavit"]
    for word in arguments:
        names = getattr(group, "commands", None)
        if names is None:
            break
        if word.startswith("-"):
            continue
        if word not in names:
            near = _near(word, list(names))
            meant = f" (did you mean {' or '.join(near)}?)" if near else ""
            return f"No such command '{word}'{meant}; see `{' '.join(path)} --help`"
        group, path = names[word], [*path, word]
    return ""


def _near(word: str, names: Sequence[str]) -> list[str]:
    """Return the commands that an unknown one may stand for: those that contain the word, else those spelt like it."""
    near = [name for name in names if word in name] or difflib.get_close_matches(word, names)
    return near or difflib.get_close_matches(word, names, n=1, cutoff=0.4)


def _fail(message: str, code: int) -> int:
    if os.environ.get("LAVIT_DEBUG") == "1":
        traceback.print_exc()
    process = "" if is_main() else f"process {process_rank()}: "
    sys.stderr.write(f"{'stopped' if code == STOPPED else 'error'}: {process}{message}\n")
    return code
