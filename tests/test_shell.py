"""The command in a shell: completion, colour, narrow terminals, pipes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import environment

LAVIT = Path(sys.executable).parent / "lavit"
SHELLS = ("bash", "zsh", "fish")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def ask(shell: str, typed: str) -> str:
    """Return what the command answers to a shell's completion script at the end of what was typed."""
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split(" ")) - 1)} if shell == "bash" else {
        "_TYPER_COMPLETE_ARGS": typed, "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }  # fmt: skip
    done = subprocess.run(
        [LAVIT], env=environment(_LAVIT_COMPLETE=f"complete_{shell}", **words), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_subcommands_and_options_are_completed(shell: str) -> None:
    assert "quickstart" in ask(shell, "lavit qu")
    assert "reconstruct" not in ask(shell, "lavit qu")
    assert {"inspect", "verify", "export"} <= set(re.findall(r"[a-z]+", ask(shell, "lavit tokens ")))
    assert "--guidance-scale" in ask(shell, "lavit generate --gui")


@pytest.mark.parametrize("shell", SHELLS)
def test_install_completion_writes_what_the_shell_reads(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    env = {name: value for name, value in environment().items() if not name.startswith("XDG_")} | {
        "HOME": str(tmp_path), "PATH": f"{LAVIT.parent}:{os.environ['PATH']}",
    }  # fmt: skip

    def run(script: str) -> subprocess.CompletedProcess[str]:
        # A command after it: a shell that runs one alone puts it in its own place, and nobody could tell which it was.
        return subprocess.run([shell, "-c", f"{script}\ntrue"], env=env, capture_output=True, text=True, cwd=tmp_path)

    done = run("lavit --install-completion")
    assert f"{shell} completion installed in" in done.stdout, done.stderr
    typed = {
        "bash": f"source {tmp_path}/.bashrc; COMP_WORDS=(lavit qu); COMP_CWORD=1; _lavit_completion lavit; "
        'echo "${COMPREPLY[@]}"',
        "fish": "complete --do-complete 'lavit qu'",
        # zsh completes in its line editor alone: that its file is valid and found is what can be asked here.
        "zsh": f"fpath=({tmp_path}/.zfunc $fpath); autoload -Uz _lavit; _lavit 2>/dev/null; functions _lavit",
    }
    assert {"zsh": "_TYPER_COMPLETE_ARGS"}.get(shell, "quickstart") in run(typed[shell]).stdout


def help_of(command: str, **env: str) -> str:
    done = subprocess.run([LAVIT, command, "--help"], env=environment(**env), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pipes_have_no_colour_and_force_color_and_no_color_are_heard() -> None:
    assert not COLOUR.search(help_of("generate"))
    assert COLOUR.search(help_of("generate", FORCE_COLOR="1"))
    shown = help_of("generate", FORCE_COLOR="1", NO_COLOR="1")
    assert not [code for code in COLOUR.findall(shown) if re.search(r"\[(3|4|9|10)\d", code)], "bold is no colour"


@pytest.mark.parametrize("columns", [40, 60, 200])
def test_help_fits_the_terminal(columns: int) -> None:
    shown = help_of("generate", COLUMNS=str(columns))
    assert max(map(len, shown.splitlines())) <= columns
    assert "--guidance-scale" in shown.replace("\n", "") or columns == 40


def test_a_reader_that_goes_ends_the_command_without_a_trace() -> None:
    child = subprocess.Popen(
        [LAVIT, "--help"], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    child.stdout.close()
    assert child.stderr.read() == ""
    child.stderr.close()
    child.wait()
