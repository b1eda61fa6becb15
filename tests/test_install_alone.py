"""Each stage installs alone and works alone: wheels, in an environment that holds nothing else of this project."""

import dataclasses
import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import yaml
from commandline import MINI, Mini, environment
from lavit_core.distributions import STAGES

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
FOLDERS = {"lavit": ROOT, **{f"lavit-{stage}": ROOT / "stages" / stage for stage in STAGES}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Installed:
    """An environment with some of the distributions."""

    folder: Path

    def lavit(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the installed console script."""
        env = {name: value for name, value in environment().items() if not name.startswith("PYTHON")}
        command = [str(self.folder / "bin" / "lavit"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=self.folder, check=False)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build the wheel of every distribution once."""
    out = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(out), *map(str, FOLDERS.values())], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return {name: next(out.glob(f"{name.replace('-', '_')}-*.whl")) for name in FOLDERS}


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with links to the installed libraries, and to nothing of this project."""
    out = tmp_path_factory.mktemp("heavy")
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "lavit" not in entry.name.lower():
            (out / entry.name).symlink_to(entry)
    return out


@pytest.fixture
def install(wheels: dict[str, Path], heavy: Path, tmp_path: Path):
    """Give a function that makes a clean environment with the named distributions and the heavy libraries."""

    def make(*names: str) -> Installed:
        folder = tmp_path / "-".join(names)
        venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
        site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        (site / "heavy.pth").write_text(f"{heavy}\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
        chosen = [str(wheels[name]) for name in names]
        done = subprocess.run([*pip, "--no-deps", "--no-index", *chosen], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return Installed(folder=folder)

    return make


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def config_of(tmp_path: Path, step: str) -> Path:
    file = tmp_path / f"{step}.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(MINI.read_text(encoding="utf-8"))[step]), encoding="utf-8")
    return file


def test_wheels_hold_presets_and_types_but_no_tests(wheels: dict[str, Path]) -> None:
    from zipfile import ZipFile

    for name, wheel in wheels.items():
        inside = ZipFile(wheel).namelist()
        assert any(file.endswith("py.typed") for file in inside), name
        assert not any("tests/" in file for file in inside), name
        if name not in ("lavit-core", "lavit-shapes", "lavit-trainkit", "lavit-model", "lavit-scoring", "lavit-serve"):
            assert any("/presets/" in file for file in inside), name
    for name in ("report/style.css", "report/page.html"):
        assert any(file.endswith(name) for file in ZipFile(wheels["lavit"]).namelist())


def test_core_shapes_and_host_alone(install, tmp_path: Path) -> None:
    here = install("lavit", "lavit-core", "lavit-shapes")
    shown = ok(here.lavit("--help"))
    assert "[not installed]" in shown
    ok(here.lavit("data", "make-shapes", "--help"))
    ok(here.lavit("data", "make-shapes", tmp_path / "data", "--images", "4", "--heldout", "2"))
    assert json.loads(ok(here.lavit("data", "inspect", tmp_path / "data" / "train", "--json")))["images"] == 4
    for command in ("train-tokenizer", "pretrain", "train-detokenizer", "eval"):
        done = here.lavit(command, "x")
        assert done.returncode == 3
        assert done.stderr.startswith("error: ")
        assert "pip install ./stages/core" in done.stderr
    done = here.lavit("quickstart", "--out", tmp_path / "q")
    assert done.returncode == 3
    assert "which is not installed; run `pip install" in done.stderr
    assert here.lavit("doctor").returncode == 0


def test_core_and_host_without_shapes(install, tmp_path: Path) -> None:
    here = install("lavit", "lavit-core")
    assert "[not installed] pip install" in ok(here.lavit("data", "--help"))
    done = here.lavit("data", "make-shapes", tmp_path / "data", "--images", "4")
    assert done.returncode == 3
    assert done.stderr == (
        "error: lavit data make-shapes: lavit-shapes not installed; run `pip install ./stages/core ./stages/shapes`\n"
    )


def test_tokenizer_alone(install, mini: Mini, tmp_path: Path) -> None:
    here = install("lavit", "lavit-core", "lavit-trainkit", "lavit-tokenizer")
    ok(here.lavit("tokenize-images", "--help"))
    run, config = tmp_path / "run", config_of(tmp_path, "encoder")
    ok(here.lavit("train-encoder", mini.train, "--out", run, "--config", config, "--quiet"))
    assert (run / "model" / "encoder" / "model.safetensors").exists()
    ok(here.lavit("tokenize-images", mini.heldout, "--model", mini.model, "--out", tmp_path / "tokens", "--quiet"))
    ok(here.lavit("tokens", "verify", tmp_path / "tokens"))


def test_pretrain_alone(install, mini: Mini, tmp_path: Path) -> None:
    here = install("lavit", "lavit-core", "lavit-trainkit", "lavit-tokenizer", "lavit-pretrain", "lavit-model")
    ok(here.lavit("pretrain", "--help"))
    config = config_of(tmp_path, "pretrain")
    ok(here.lavit("pretrain", mini.tokens, "--model", mini.model, "--out", tmp_path / "run", "--config", config))
    image = mini.heldout / "images/000000.png"
    assert json.loads(ok(here.lavit("caption", image, "--model", mini.model, "--json")))["captions"]


def test_detokenizer_alone(install, mini: Mini, tmp_path: Path) -> None:
    here = install("lavit", "lavit-core", "lavit-trainkit", "lavit-tokenizer", "lavit-detokenizer", "lavit-model")
    ok(here.lavit("train-detokenizer", "--help"))
    tokens = mini.run / "tokens" / "heldout"
    ok(here.lavit("detokenize", tokens, "--model", mini.model, "--out", tmp_path / "drawn", "--set", "num_steps=1"))
    assert len(list((tmp_path / "drawn").rglob("*.png"))) == 32
    done = here.lavit("generate", "a red circle", "--model", mini.model, "--out", tmp_path / "a.png")
    assert done.returncode == 3
    assert "lavit generate needs lavit-pretrain" in done.stderr


def test_evaluation_alone(install, mini: Mini, tmp_path: Path) -> None:
    here = install("lavit", "lavit-core", "lavit-shapes", "lavit-scoring", "lavit-evaluation")
    ok(here.lavit("eval", "shapes", "--help"))
    command = ["eval", "shapes", "--model", mini.model, "--data", mini.heldout, "--out", tmp_path / "score"]
    assert json.loads(ok(here.lavit(*command, "--dry-run", "--json")))["config"]["pictures"] > 0
    done = here.lavit(*command)
    assert done.returncode == 3, done.stderr
    assert "lavit-model" in done.stderr
    assert os.linesep not in done.stderr.strip()


def test_serve_alone(install, mini: Mini) -> None:
    stages = ("core", "trainkit", "tokenizer", "pretrain", "detokenizer", "model", "serve")
    here = install("lavit", *(f"lavit-{stage}" for stage in stages))
    ok(here.lavit("serve", "--help"))
    planned = json.loads(ok(here.lavit("serve", mini.model, "--port", "9", "--dry-run", "--json")))
    assert planned["config"]["port"] == 9
    done = here.lavit("serve", mini.run / "tokenizer" / "model", "--port", "0")
    assert done.returncode == 3, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_scoring_alone(install) -> None:
    here = install("lavit-scoring")
    program = "import lavit_scoring.scorers, importlib.util; print(importlib.util.find_spec('lavit_core'))"
    done = subprocess.run(
        [here.folder / "bin" / "python", "-I", "-c", program], capture_output=True, text=True, check=False
    )
    assert ok(done).strip() == "None"
