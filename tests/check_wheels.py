"""Install the wheels of a folder into a fresh environment and use them: `python tests/check_wheels.py dist`.

pip resolves the distributions from the folder alone; what they need of others is linked from the environment that runs
this, which holds nothing else of this project. Every command shows its help, and one miniature run passes every stage.
"""

import json
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
LISTED = """
import importlib, importlib.metadata as m, json
names = sorted({d.name.lower() for d in m.distributions() if d.name.lower().startswith("lavit")})
def modules(name):
    files = m.distribution(name).files
    return sorted({str(f).split("/")[0] for f in files if "dist-info" not in str(f) and str(f).endswith(".py")})
print(json.dumps({
    "files": {name: importlib.import_module(name).__file__ for one in names for name in modules(one)},
    "commands": sorted({e.name for e in m.entry_points(group="lavit.commands")}),
    "metadata": {one: m.metadata(one).json for one in names},
}))
"""
EXPECTED = ("name", "version", "summary", "license_expression", "license_file", "keywords", "classifier",
            "requires_python", "description")  # fmt: skip


def main() -> None:
    """Print what was used; ends with an error for what is wrong."""
    wheels = sorted(Path(sys.argv[1]).resolve().glob("*.whl"))
    with tempfile.TemporaryDirectory(prefix="lavit-wheels-") as name:
        scratch = Path(name)
        python = install(wheels, scratch)
        said = json.loads(run(python, "-c", LISTED, cwd=scratch))
        for module, file in said["files"].items():
            assert Path(file).is_relative_to(scratch), f"{module} is {file}, not from a wheel"
        for dist, metadata in said["metadata"].items():
            missing = [field for field in EXPECTED if not metadata.get(field)]
            assert not missing, f"{dist}: its metadata has no {', '.join(missing)}"
        assert len(said["metadata"]) == len(wheels)
        lavit = python.with_name("lavit")
        for command in ("", *said["commands"]):
            assert "Usage" in run(lavit, *command.split(), "--help", cwd=scratch), command
        run(lavit, "quickstart", "--out", "run", "--config", ROOT / "tests/mini.yaml", "--quiet", cwd=scratch)
        model = scratch / "run/model"
        for line in (
            ["generate", "a red circle", "--model", model, "--out", "a.png"],
            ["ask", "a.png", "what shape is it?", "--model", model],
            ["eval", "list"],
            ["serve", model, "--dry-run"],
        ):
            run(lavit, *line, cwd=scratch)
    print(f"{len(wheels)} wheels installed; {len(said['commands'])} commands showed their help; every stage ran")


def install(wheels: list[Path], scratch: Path) -> Path:
    """Return the Python of a new environment with every distribution, resolved from the wheels' folder."""
    others = scratch / "others"
    others.mkdir()
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "lavit" not in entry.name.lower() and not entry.name.endswith(".pth"):
            (others / entry.name).symlink_to(entry)
    venv.EnvBuilder(with_pip=False, symlinks=True).create(scratch / "venv")
    python = scratch / "venv/bin/python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (scratch / "venv/lib" / version / "site-packages/others.pth").write_text(f"{others}\n", encoding="utf-8")
    # By name, not by file: a wheel that is missing, or asks for a version that is not there, is found out.
    names = [wheel.name.split("-")[0].replace("_", "-") for wheel in wheels]
    run(python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", wheels[0].parent, *names, cwd=scratch)
    return python


def run(*command: str | Path, cwd: Path) -> str:
    """Return what a command prints; ends with its errors if it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=cwd, check=False)
    if done.returncode:
        sys.exit(f"{done.stderr}error: {' '.join(map(str, command))}: exit code {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()
