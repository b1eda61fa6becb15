"""Options as dataclasses, old option names, settings of a command, and how results are printed."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import pytest
import typer
from lavit_core.command import NO_PRESET, CommonOptions, OutputOptions, Renamed, command, required, settings_of, show
from lavit_core.config import Config
from lavit_core.errors import UsageError
from typer.testing import CliRunner


class Settings(Config):
    """Settings of a command."""

    lr: float = 0.1
    """A number."""
    name: str = "default"
    """A word."""
    precision: str = "bf16"
    """Of arithmetic."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files:
    """Options that two commands share."""

    split: Annotated[str | None, typer.Option("--split", help="Which split.")] = None
    limit: int = 3


def run(function, *arguments):
    app = typer.Typer()
    app.command("paint")(function)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_dataclasses_become_options_and_come_back_as_instances():
    seen = []

    @command()
    def paint(images: Annotated[list[Path], typer.Argument()], files: Files, common: CommonOptions) -> None:
        """Paint."""
        seen.append((images, files, common))

    assert run(paint, "a", "b", "--split", "val", "--limit", 4, "--seed", 7, "--json").exit_code == 0
    assert seen == [([Path("a"), Path("b")], Files(split="val", limit=4), CommonOptions(seed=7, as_json=True))]
    paint(images=[Path("c")], quiet=True)
    assert seen[1] == ([Path("c")], Files(), CommonOptions(quiet=True))
    shown = run(paint, "--help").stdout
    assert all(option in shown for option in ("--split", "--preset", "--print-config", "Common options", "Paint."))


def test_defaults_come_from_the_default_instance_and_omitted_options_are_refused():
    seen = []

    @command(omit=["precision"])
    def paint(common: CommonOptions = CommonOptions(preset="base", precision="fp32")) -> None:
        seen.append(common)

    assert run(paint).exit_code == 0
    assert seen == [CommonOptions(preset="base", precision="fp32")]
    assert "No such option" in run(paint, "--precision", "bf16").output


def test_old_names_are_hidden_and_warned_of(capsys):
    seen = []
    renamed = [Renamed("--best-by", "--rerank-by", {"reading": "likelihood"}), Renamed("--few", "--allow-small")]

    @command(renamed=renamed)
    def paint(
        rerank_by: Annotated[str | None, typer.Option("--rerank-by")] = None,
        allow_small: bool = False,
    ) -> None:
        seen.append((rerank_by, allow_small))

    shown = run(paint, "--best-by", "reading", "--few")
    assert seen.pop() == ("likelihood", True)
    assert shown.stderr.splitlines() == [
        "warning: --best-by is now --rerank-by likelihood; the old name is accepted for one more release",
        "warning: --few is now --allow-small; the old name is accepted for one more release",
    ]
    assert run(paint, "--rerank-by", "clip").stderr == ""
    assert seen.pop() == ("clip", False)
    shown = run(paint, "--help").stdout
    assert "--rerank-by" in shown
    assert "--best-by" not in shown


def test_an_old_name_beside_its_new_one_is_refused():
    @command(renamed=[Renamed("--pictures", "--images")])
    def paint(images: int | None = None) -> None:
        raise AssertionError(images)

    with pytest.raises(UsageError, match="--pictures is the old name of --images, and both are given: leave --pic"):
        run(paint, "--pictures", 3, "--images", 4)


def test_an_unknown_old_value_is_not_announced_as_renamed():
    @command(renamed=[Renamed("--best-by", "--rerank-by", {"reading": "likelihood"})])
    def paint(rerank_by: Annotated[str | None, typer.Option("--rerank-by")] = None) -> None:
        assert rerank_by == "guess"

    shown = run(paint, "--best-by", "guess").stderr
    assert shown == "warning: --best-by is now --rerank-by; the old name is accepted for one more release\n"


def test_settings_are_merged_in_order(tmp_path, monkeypatch):
    presets = tmp_path / "painting_package" / "presets"
    presets.mkdir(parents=True)
    (tmp_path / "painting_package" / "__init__.py").touch()
    (presets / "paint.tiny.yaml").write_text("lr: 0.5\nname: preset\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    one, two = tmp_path / "1.yaml", tmp_path / "2.yaml"
    one.write_text("lr: 1\nname: one\n")
    two.write_text("name: two\n")
    where = ("painting_package", "paint")
    assert settings_of(CommonOptions(), Settings, where) == Settings(lr=0.5, name="preset")
    both = CommonOptions(config=[one, two], precision="fp32")
    assert settings_of(both, Settings, where) == Settings(lr=1, name="two", precision="fp32")
    assert settings_of(CommonOptions(config=[two, one]), Settings, where).name == "one"
    changed = CommonOptions(config=[one], sets=["name=set"])
    assert settings_of(changed, Settings, where).name == "set"
    assert settings_of(changed, Settings, where, {"name": "flag", "lr": None}) == Settings(lr=1, name="flag")
    assert settings_of(NO_PRESET, Settings) == Settings()
    with pytest.raises(UsageError, match="--preset tiny: this command has no presets"):
        settings_of(CommonOptions(), Settings)


def test_print_config_prints_and_exits():
    @command()
    def paint(common: CommonOptions = NO_PRESET) -> None:
        settings_of(common, Settings)
        raise AssertionError("goes on")

    assert run(paint, "--print-config", "--set", "lr=2").stdout == "lr: 2.0\nname: default\nprecision: bf16\n"
    assert json.loads(run(paint, "--print-config", "--json").stdout)["lr"] == 0.1


def test_print_config_needs_no_arguments():
    @command()
    def paint(
        images: Annotated[list[Path], typer.Argument()],
        out: Annotated[Path, typer.Option("--out")],
        common: CommonOptions = NO_PRESET,
    ) -> None:
        settings_of(common, Settings)
        assert out == Path("x")

    for line in (["--print-config"], ["--set", "lr=2", "--print-config"], ["a", "--print-config"]):
        assert "name: default" in run(paint, *line).stdout
    assert "Missing argument" in run(paint, "--out", "x").output
    assert "Missing option '--out'" in run(paint, "a").output


def test_a_result_has_one_form_for_people_and_one_for_programs(capsys):
    result = {"steps": 3, "loss": 0.123456, "part": {"name": "é"}}
    show(result, OutputOptions(), "next: lavit x")
    assert capsys.readouterr().out == "steps: 3\nloss: 0.1235\npart.name: é\nnext: lavit x\n"
    show(result, OutputOptions(), "last", lines=["a red circle"])
    assert capsys.readouterr().out == "a red circle\nlast\n"
    show(result, OutputOptions(as_json=True), "next: lavit x")
    assert json.loads(capsys.readouterr().out) == result
    assert OutputOptions(as_json=True).silent


def test_a_missing_argument_is_named():
    assert required("--out", 0) == 0
    with pytest.raises(UsageError, match="--out is missing; only --dry-run and --print-config work without it"):
        required("--out", None)
