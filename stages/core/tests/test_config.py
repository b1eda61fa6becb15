from pathlib import Path
from typing import Literal

import pytest
from lavit_core.config import Config, Count, load_preset, resolve
from lavit_core.errors import UsageError
from pydantic import model_validator


class Inner(Config):
    """Inner settings."""

    width: int = 4
    """Width in units."""

    @model_validator(mode="after")
    def _check(self) -> "Inner":
        if self.width == 13:
            raise ValueError("width must not be 13")
        return self


class Settings(Config):
    """Outer settings."""

    num_steps: int
    """Steps."""
    lr: float = 0.1
    """Learning rate."""
    name: str = "a"
    """A word."""
    inner: Inner = Inner()
    """More."""

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        if self.num_steps == 13:
            raise ValueError("num_steps must not be 13")
        return self


class Kinds(Config):
    """Settings of several kinds."""

    heads: Count | tuple[Count, ...] = 8
    """A number, or one a block."""
    bits: Literal[4, 8] | None = None
    """Bits."""


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("heads=0", "setting heads: Input should be greater than or equal to 1, found 0"),
        ("heads=[2, 0]", "setting heads.1: Input should be greater than or equal to 1, found 0"),
        ("heads=[2, a]", "setting heads.1: Input should be a valid integer, .*found 'a'"),
        ("bits=5", "setting bits: Input should be 4 or 8, found 5"),
    ],
)
def test_a_setting_of_several_kinds_is_told_by_its_own_name(setting, message):
    with pytest.raises(UsageError, match=message):
        resolve(Kinds, sets=[setting])


def test_order_preset_file_set_flag(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("lr: 0.3\nname: file\ninner: {width: 6}\n")
    preset = {"num_steps": 1, "lr": 0.2, "name": "preset", "inner": {"width": 5}}
    got = resolve(
        Settings, preset=preset, file=file, sets=["name=set", "inner.width=7", "lr=1e-3"], flags={"name": None}
    )
    assert got == Settings(num_steps=1, lr=1e-3, name="set", inner=Inner(width=7))
    assert resolve(Settings, preset=preset, sets=["num_steps=2"], flags={"num_steps": 3}).num_steps == 3
    assert preset == {"num_steps": 1, "lr": 0.2, "name": "preset", "inner": {"width": 5}}


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["num_stesp=1"], r"unknown setting num_stesp; did you mean num_steps\?"),
        (["inner.widht=1"], r"unknown setting inner.widht; did you mean width\?"),
        (["int=1"], r"unknown setting int; "),
        (["qqq=1"], r"unknown setting qqq; known settings: inner, lr, name, num_steps"),
        (["num_steps=many"], r"setting num_steps: .*found 'many'"),
        (["num_steps"], r"--set num_steps: expected key=value"),
        (["num_steps={"], r"--set num_steps=\{: not a YAML value"),
        (["num_steps=13"], r"settings: .*must not be 13"),
        (["num_steps=1", "inner.width=13"], r"setting inner: width must not be 13$"),
        ([], r"setting num_steps is missing; give it with --set num_steps=VALUE"),
    ],
)
def test_refusals_are_one_line(sets, message):
    with pytest.raises(UsageError, match=message) as caught:
        resolve(Settings, sets=sets)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "not valid YAML"),
        (b"- 1", "expected a mapping of settings, found list"),
        (b"\xff", "not valid YAML"),
        (b"lr: 1\nname: a\nlr: 2\n", "not valid YAML .*lr stands twice"),
        (b"inner: {width: 1, width: 1}", "width stands twice"),
        (b"inner: {width: 010}", "not valid YAML .*010 is read as 8; write that number"),
        (b"lr: -1:30", "not valid YAML .*-1:30 is read as -90; write that number"),
    ],
)
def test_bad_files(tmp_path, content, message):
    file = tmp_path / "c.yaml"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        resolve(Settings, file=file)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UsageError, match="file not found"):
        resolve(Settings, file=tmp_path / "absent.yaml")
    with pytest.raises(UsageError, match="directory"):
        resolve(Settings, file=tmp_path)


def test_configs_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Settings(num_steps=1).lr = 3


def test_presets_are_read_from_the_package(tmp_path, monkeypatch):
    presets = tmp_path / "some_package" / "presets"
    presets.mkdir(parents=True)
    (tmp_path / "some_package" / "__init__.py").touch()
    (presets / "train-x.tiny.yaml").write_text("# how to run it\nlr: 0.5\n")
    (presets / "train-x.published.yaml").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_preset("some_package", "train-x", "tiny") == {"lr": 0.5}
    assert load_preset("some_package", "train-x", "published") == {}
    with pytest.raises(UsageError, match="--preset huge: train-x has the presets published, tiny"):
        load_preset("some_package", "train-x", "huge")


def test_every_field_of_core_has_a_docstring():
    from lavit_core.images import Preprocessing
    from lavit_core.token_format import Manifest, ShardEntry

    for model in (Preprocessing, Manifest, ShardEntry):
        assert all(field.description for field in model.model_fields.values()), Path(model.__module__)


class Phase(Config):
    """A phase."""

    name: str
    """Its name."""
    num_steps: int = 1
    """Steps."""


class Phases(Config):
    """Settings with a list."""

    phases: tuple[Phase, ...] = (Phase(name="selector"), Phase(name="codes", num_steps=9))
    """In order."""
    tau: tuple[float, float] = (1.0, 0.5)
    """First and last."""


def test_sets_reach_into_lists_by_name_and_index(tmp_path):
    changed = resolve(Phases, sets=["phases.codes.num_steps=5", "phases.0.num_steps=3", "tau.1=0.1"])
    assert [(phase.name, phase.num_steps) for phase in changed.phases] == [("selector", 3), ("codes", 5)]
    assert changed.tau == (1.0, 0.1)
    preset = {"phases": [{"name": "masks"}, {"name": "merger", "num_steps": 4}]}
    file = tmp_path / "c.yaml"
    file.write_text("phases: {merger: {num_steps: 6}}")
    changed = resolve(Phases, preset=preset, file=file, sets=["phases.masks.num_steps=2"])
    assert [phase.num_steps for phase in changed.phases] == [2, 6]
    assert preset == {"phases": [{"name": "masks"}, {"name": "merger", "num_steps": 4}]}
    file.write_text("phases: {7: {num_steps: 6}}")  # YAML reads the name as a number
    assert resolve(Phases, preset={"phases": [{"name": "7"}]}, file=file).phases[0].num_steps == 6


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["phases.slector.num_steps=1"], r"phases has no item slector; did you mean selector\? items: selector, codes"),
        (["phases.2.num_steps=1"], r"phases has no item 2; items: selector, codes \(or by index, 0 to 1\)"),
        (["phases.codes.num_stesp=1"], r"unknown setting phases.1.num_stesp; did you mean num_steps\?"),
        (["tau.2=1"], r"tau has no item 2; items: none has a name \(or by index, 0 to 1\)"),
        (["phases.codes=1"], r"setting phases.1: .*found 1"),
        (["phases.².num_steps=1"], r"phases has no item ²; items: selector, codes"),
    ],
)
def test_wrong_paths_into_lists_name_what_exists(sets, message):
    with pytest.raises(UsageError, match=message):
        resolve(Phases, sets=sets)


def test_files_merge_left_to_right(tmp_path):
    one, two = tmp_path / "1.yaml", tmp_path / "2.yaml"
    one.write_text("num_steps: 1\nname: one\ninner: {width: 1}\n")
    two.write_text("name: two\n")
    assert resolve(Settings, file=[one, two]) == Settings(num_steps=1, name="two", inner=Inner(width=1))
    assert resolve(Settings, file=[two, one]).name == "one"


@pytest.mark.parametrize("text", ["a: &a\n  b: *a\n", "a: &a [*a]\n", "a: " + "[" * 1500 + "]" * 1500])
def test_yaml_that_contains_itself_or_nests_too_deep_is_refused(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"--config .*c.yaml: a value contains itself, or is nested more than 20"):
        resolve(Config, file=tmp_path / "c.yaml")
    with pytest.raises(UsageError, match=r"--set .* a value contains itself, or is nested more than 20"):
        resolve(Config, sets=["a=" + "[" * 1500 + "]" * 1500])


def test_a_quickstart_file_is_told_apart(tmp_path):
    file = tmp_path / "q.yaml"
    file.write_text("images: 20\nencoder: {num_steps: 3}\ntokenizer: {}\n")
    with pytest.raises(UsageError, match=r"q.yaml: settings of a whole quickstart \(found encoder, tokenizer\)"):
        resolve(Settings, file=file)
