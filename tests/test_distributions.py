"""The list of distributions stands in stages/workspace.txt; whatever needs a list of its own agrees with it."""

import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from lavit_core import distributions

from lavit_cli.plugins import GROUP, KNOWN

ROOT = Path(__file__).parents[1]


def workspace() -> list[str]:
    """Return the folders that stages/workspace.txt lists, in its order."""
    lines = (ROOT / "stages" / "workspace.txt").read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("-e ./").partition("[")[0].strip() for line in lines if line.startswith("-e ./")]


def pyproject(folder: str = ".") -> dict[str, Any]:
    """Return the content of a folder's pyproject.toml."""
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))


def modules() -> set[str]:
    """Return the import names of all distributions."""
    return {package.name for folder in (".", *workspace()) for package in (ROOT / folder / "src").iterdir()}


def test_every_stage_is_listed_and_core_knows_the_list() -> None:
    assert sorted(workspace()) == sorted(f"stages/{file.parent.name}" for file in ROOT.glob("stages/*/pyproject.toml"))
    assert tuple(folder.removeprefix("stages/") for folder in workspace()) == tuple(distributions.STAGES)
    assert [pyproject(folder)["project"]["name"] for folder in (*workspace(), ".")] == distributions.names()
    assert {distributions.module_name(name) for name in distributions.names()} == modules()
    assert list(distributions.installed()) == distributions.names()


def test_a_stage_is_listed_after_those_it_needs() -> None:
    for place, name in enumerate(distributions.STAGES):
        project = pyproject(f"stages/{name}")["project"]
        needs = {need.partition(">")[0].partition("[")[0] for need in project["dependencies"]}
        found = distributions.install_command(f"lavit-{name}").removeprefix("pip install ").split()
        assert {folder.replace("./stages/", "lavit-") for folder in found[:-1]} == needs & set(distributions.names())
        assert {folder.removeprefix("./stages/") for folder in found[:-1]} <= set(list(distributions.STAGES)[:place])


def test_the_extra_all_and_import_linter_name_every_distribution() -> None:
    root = pyproject()
    named = {need.partition(">")[0] for need in root["project"]["optional-dependencies"]["all"]}
    assert named | {"lavit-core", "lavit"} == set(distributions.names())
    linter = root["tool"]["importlinter"]
    assert set(linter["root_packages"]) == modules()
    layers = [layer for one in linter["contracts"] for layer in one.get("layers", ()) if "container" not in one]
    named = [name.strip(" ()") for layer in layers for name in layer.replace(":", "|").split("|")]
    assert {name for name in named if "." not in name} == modules()


def test_the_help_has_a_place_for_every_registered_command() -> None:
    groups = [group for group in entry_points().groups if group == GROUP or group.startswith(f"{GROUP}.")]
    registered = {
        f"{group.removeprefix(GROUP).removeprefix('.')} {entry.name}".strip(): entry.dist.name
        for group in groups
        for entry in entry_points(group=group)
    }
    assert registered == {name: distribution for name, (_, distribution) in KNOWN.items()}


def test_the_install_command_of_a_stage_brings_what_it_needs() -> None:
    assert distributions.install_command("lavit-core") == "pip install ./stages/core"
    assert distributions.install_command("lavit-tokenizer").endswith(
        "./stages/core ./stages/trainkit ./stages/tokenizer"
    )
    assert distributions.install_command("lavit") == "pip install ."
    assert distributions.install_command("other") == "pip install other"


def test_every_distribution_carries_the_same_metadata_its_licence_and_its_types() -> None:
    shared = ("version", "requires-python", "license", "license-files", "keywords", "classifiers")
    root = {name: pyproject()["project"][name] for name in shared}
    for folder in (*workspace(), "."):
        project = pyproject(folder)["project"]
        assert {name: project[name] for name in shared} == root
        assert (ROOT / folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
        assert (ROOT / folder / project["readme"]).is_file()
        assert all((package / "py.typed").is_file() for package in (ROOT / folder / "src").iterdir())
