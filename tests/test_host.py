"""The host: one line and the right exit code for every failure, and stages that are missing or broken."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest
import typer
from lavit_core.distributions import names
from lavit_core.errors import InputError, Interrupted

from lavit_cli import plugins
from lavit_cli.main import main


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code if isinstance(end.value.code, int) else -1


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, object]], None]:
    """Make the given objects the only registered commands, by name."""

    def use(commands: dict[str, object]) -> None:
        module = ModuleType("fake_stage")
        entries = []
        for name, target in commands.items():
            if target is not None:
                setattr(module, name, target)
            entries.append(EntryPoint(name=name, value=f"fake_stage:{name}", group=plugins.GROUP))
        monkeypatch.setitem(sys.modules, "fake_stage", module)
        monkeypatch.setattr(plugins, "entry_points", lambda group: [one for one in entries if one.group == group])
        monkeypatch.setenv("LAVIT_DEBUG", "0")

    return use


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        """Fail."""
        raise error

    return command


def test_an_error_of_ours_is_one_line_with_its_code(register, capsys) -> None:
    register({"caption": raising(InputError("a.png: file not found")), "ask": raising(Interrupted("run: step 3"))})
    assert run("caption") == 3
    assert capsys.readouterr().err == "error: a.png: file not found\n"
    assert run("ask") == 75
    assert capsys.readouterr().err == "stopped: run: step 3\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space", "/full/file"), "/full/file: No space left on device"),
        (OSError(28, "No space"), "reading or writing failed: No space left on device"),
        (PermissionError(13, "no", "/secret"), "/secret: Permission denied"),
        (OSError(30, "ro", "/ro/x"), "/ro/x: Read-only file system"),
        (OSError(5, "io", "/nfs/x"), "/nfs/x: Input/output error"),
    ],
)
def test_a_fault_of_the_machine_is_no_bug_of_ours(register, capsys, error: OSError, line: str) -> None:
    register({"caption": raising(error)})
    assert run("caption") == 3
    assert capsys.readouterr().err == f"error: {line}\n"


@pytest.mark.parametrize("line", [("doctor", "--help"), ("--version",)])
def test_a_full_disk_under_stdout_is_no_bug_of_ours(line) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lavit_cli", *line], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 3
    assert done.stderr == b"error: reading or writing failed: No space left on device\n"


def test_sigterm_before_a_command_listens_says_run_it_again(register, capfd) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def command() -> None:
        """Wait."""
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    register({"caption": command})
    assert run("caption") == 75
    assert capfd.readouterr().err == "stopped: before there was anything to save; run the same command again\n"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("line", "place"),
    [
        (("tokenize-images", "data", "--out", ""), "--out"),
        (("tokenize-images", "data", "--out="), "--out"),
        (("tokenize-images", "data", "--model", "", "--out", "x"), "--model"),
        (("tokenize-images", "", "--model", "m", "--out", "x"), "DATA"),
        (("pretrain", "tokens", "", "--model", "m", "--out", "x"), "TOKENS"),
        (("tokens", "inspect", ""), "TOKENS"),
        (("ask", "", "", "--model", "m"), "IMAGE"),
    ],
)
def test_an_empty_place_is_no_current_folder(capsys, line, place) -> None:
    assert run(*line) == 2
    assert capsys.readouterr().err == f"error: {place} is empty, expected a path (is a shell variable unset?)\n"


def test_an_empty_text_is_no_empty_place(capsys) -> None:
    assert run("generate", "", "--model", "nowhere") == 3
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("hidden", [False, True])
def test_a_library_that_fails_to_import_is_no_bug_of_ours(
    register, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: bool
) -> None:
    (tmp_path / "stub_vision.py").write_text("raise RuntimeError('operator stub::nms does not exist')")
    (tmp_path / "stub_formers.py").write_text(
        "def lazy():\n try:\n  import stub_vision\n except Exception as error:\n"
        "  raise ModuleNotFoundError('Could not import module X') from error\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def command() -> None:
        """Import."""
        if hidden:
            import stub_formers

            stub_formers.lazy()
        import stub_vision  # noqa: F401

    register({"caption": command})
    assert run("caption") == 1
    assert capsys.readouterr().err == (
        "error: stub_vision can't be imported (RuntimeError: operator stub::nms does not exist): "
        "the installation is broken; `lavit doctor` names what repairs it\n"
    )


def test_an_unexpected_error_is_one_line_and_debug_shows_the_trace(register, capsys, monkeypatch) -> None:
    register({"caption": raising(ValueError("shapes\ndiffer"))})
    assert run("caption") == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ValueError: shapes differ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    monkeypatch.delenv("LAVIT_DEBUG")
    assert run("caption", "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_error_with_an_exit_code_of_its_own_is_one_line_with_it(register, capsys) -> None:
    error = ValueError("results.json: found 2 answers, expected 3")
    error.exit_code = 3  # type: ignore[attr-defined]
    register({"caption": raising(error)})
    assert run("caption") == 3
    assert capsys.readouterr().err == "error: results.json: found 2 answers, expected 3\n"


def test_ctrl_c_is_one_line_and_exits_130(register, capsys) -> None:
    register({"caption": raising(KeyboardInterrupt())})
    assert run("caption") == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_hidden_old_options_are_not_proposed(capsys) -> None:
    assert run("generate", "x", "--prompt-imag", "a.png") == 2
    err = capsys.readouterr().err
    assert "--image-prompt-format" in err
    assert "--prompt-image," not in err
    assert "--prompt-images-as" not in err


def test_usage_errors_are_one_line_and_exit_2(capsys) -> None:
    for arguments in (["pretrin"], ["reconstruct"], ["report", "--foo"], ["generate", "x", "--num-images", "0"]):
        assert run(*arguments) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert "--help`" in err


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["pretrin"], "No such command 'pretrin' (did you mean pretrain?); see `lavit --help`"),
        (["train"], "(did you mean train-encoder or train-tokenizer or pretrain or train-detokenizer?); see"),
        (["data", "shapes"], "No such command 'shapes' (did you mean make-shapes?); see `lavit data --help`"),
        (["qqqqqq"], "No such command 'qqqqqq'; see `lavit --help`"),
    ],
)
def test_an_unknown_command_is_answered_with_the_nearest(capsys, typed, answer) -> None:
    assert run(*typed) == 2
    assert answer in capsys.readouterr().err


def test_a_missing_stage_keeps_its_place_and_says_how_to_install_it(register, capsys) -> None:
    register({"doctor": raising(InputError("unused"))})
    assert run("--help") == 0
    assert "[not installed]" in capsys.readouterr().out
    assert run("pretrain", "tokens", "--model", "m", "--epochs=3") == 3
    err = capsys.readouterr().err
    assert "lavit-pretrain not installed; run `pip install" in err
    assert "./stages/pretrain`" in err


def test_a_stop_while_a_stage_loads_is_no_fault_of_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(self: EntryPoint) -> None:
        raise SystemExit(Interrupted.exit_code)

    monkeypatch.setattr(EntryPoint, "load", stopped)
    with pytest.raises(SystemExit) as end:
        plugins.find_commands("train-encoder")
    assert end.value.code == 75


def test_a_stage_that_fails_to_load_does_not_take_the_host_down(register, capsys) -> None:
    register({"pretrain": None, "caption": raising(InputError("fine"))})
    assert run("--help") == 0
    assert "[failed to load]" in capsys.readouterr().out
    assert run("pretrain", "--help-me") == 3
    err = capsys.readouterr().err
    assert "failed to load: AttributeError" in err
    assert err.count("\n") == 1
    assert run("caption") == 3
    assert capsys.readouterr().err == "error: fine\n"


def test_a_signature_that_typer_cannot_read_is_reported_too(register, capsys) -> None:
    def odd(value) -> None:  # type: ignore[no-untyped-def]
        """Take what no command line can give."""

    odd.__annotations__["value"] = "NoSuchType"

    register({"caption": odd, "ask": raising(InputError("fine"))})
    assert run("--help") == 0
    assert "[failed to load]" in capsys.readouterr().out
    assert run("ask") == 3


def test_groups_and_foreign_commands_are_added(register, capsys) -> None:
    group = typer.Typer(help="Scores.", no_args_is_help=True)
    group.command("one")(raising(InputError("inner")))
    group.command("two")(raising(InputError("other")))
    register({"eval": group, "stranger": raising(InputError("foreign"))})
    assert run("eval", "one") == 3
    assert capsys.readouterr().err == "error: inner\n"
    assert run("stranger") == 3
    run("--help")
    assert "Other commands" in capsys.readouterr().out


def test_version(capsys) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("lavit 0.")


def test_doctor_reports_every_stage_as_json(capsys) -> None:
    code = run("doctor", "--json")
    found = json.loads(capsys.readouterr().out)
    by_name = {check["name"]: check for check in found["checks"]}
    assert by_name["cpu float32"]["state"] == "ok"
    assert by_name["cpu bfloat16"]["state"] == "ok"
    for stage in names():
        assert by_name[stage]["state"] == "ok", by_name[stage]
    assert code == (1 if found["broken"] else 0)


def test_doctor_names_a_broken_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lavit_cli.doctor import check_torchvision

    package = tmp_path / "torchvision"
    package.mkdir()
    about = tmp_path / "torchvision-0.28.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    (check,) = check_torchvision()
    assert check.state == "broken"
    assert "operator torchvision::nms does not exist" in check.value
    assert check.fix.startswith("pip uninstall torchvision")
    (package / "__init__.py").write_text("")
    (check,) = check_torchvision()
    assert check.state == "warning"
