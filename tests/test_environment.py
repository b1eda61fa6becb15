"""Full and read-only disks, other umasks and locales, missing rights and no network: a clear line, and nothing lost."""

import json
import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from commandline import MINI, Done, Mini
from lavit_core.verify import verify

SETTINGS = yaml.safe_load(MINI.read_text(encoding="utf-8"))
SCRIPT = Path(__file__).parent / "run_commands.py"


def settings(tmp_path: Path, step: str, **more: object) -> Path:
    file = tmp_path / f"{step}.yaml"
    file.write_text(yaml.safe_dump({**SETTINGS.get(step, {}), **more}), encoding="utf-8")
    return file


def tokenize(mini: Mini, out: Path, tmp_path: Path) -> list[str]:
    """Return the command line by which the quickstart made its training tokens, with another --out."""
    config = settings(tmp_path, "tokens", features=True)
    return [
        str(part) for part in ("tokenize-images", mini.train, "--model", mini.model, "--out", out, "--config", config)
    ]


def train(mini: Mini, out: Path, tmp_path: Path) -> list[str]:
    config = settings(tmp_path, "encoder")
    return [str(part) for part in ("train-encoder", mini.train, "--out", out, "--config", config)]


def children(lines: list[list[str]], tmp_path: Path, *prefix: str, env: dict[str, str] | None = None, umask: int = -1,
             ) -> tuple[list[int], str]:  # fmt: skip
    """Run command lines one after another in one child, started by `prefix`; return their exit codes and stderr."""
    (tmp_path / "lines.json").write_text(json.dumps(lines), encoding="utf-8")
    done = subprocess.run(
        [*prefix, sys.executable, str(SCRIPT), str(tmp_path / "lines.json"), str(tmp_path / "codes.json")],
        env={"OMP_NUM_THREADS": "1"} | (os.environ if env is None else env),
        capture_output=True, text=True, check=False, umask=umask,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "a bug in lavit" not in done.stderr
    return json.loads((tmp_path / "codes.json").read_text()), done.stderr


def can(*command: str) -> bool:
    """Tell whether a tool is there and this machine lets us use it."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0


def assert_same_tokens(mini: Mini, out: Path) -> None:
    names = ["manifest.json", *(file.name for file in mini.tokens.glob("*.safetensors"))]
    assert len(names) > 2
    for name in names:
        assert (out / name).read_bytes() == (mini.tokens / name).read_bytes(), name


def test_a_bare_environment_changes_no_byte(mini: Mini, tmp_path: Path) -> None:
    """No HOME, no network, LANG=C, another seed of hashes, and the modes that the umask gives."""
    out = tmp_path / "tokens"
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C", "LANG": "C", "PYTHONHASHSEED": "7"}
    prefix = ["unshare", "-n"] if can("unshare", "-n") else []
    lines = [tokenize(mini, out, tmp_path), ["verify", str(out)]]
    codes, _ = children(lines, tmp_path, *prefix, env=env, umask=0o027)
    assert codes == [0, 0]
    assert_same_tokens(mini, out)
    assert {stat.S_IMODE(file.stat().st_mode) for file in out.rglob("*") if file.is_file()} == {0o640}
    assert {stat.S_IMODE(file.stat().st_mode) for file in (out, *out.rglob("*")) if file.is_dir()} == {0o750}


def test_a_file_too_large_for_the_disk_is_named_and_the_same_command_goes_on(
    mini: Mini, here: Callable[..., Done], tmp_path: Path
) -> None:
    out, run = tmp_path / "tokens", tmp_path / "run"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Less than a shard of tokens, and than a checkpoint.
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[1]))
    try:
        failed = [here(*tokenize(mini, out, tmp_path), "--quiet"), here(*train(mini, run, tmp_path), "--quiet")]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    for done, place in zip(failed, (out, run), strict=True):
        assert done.code == 3, done.err
        assert str(place) in done.last_error
        assert "can't be written (File too large)" in done.last_error
    assert not list(out.glob("*.safetensors"))
    assert not list((run / "checkpoints").iterdir())
    assert here(*tokenize(mini, out, tmp_path), "--quiet").code == 0
    assert_same_tokens(mini, out)
    assert here(*train(mini, run, tmp_path), "--quiet").code == 0
    assert not [problem for part in verify(run, quiet=True) for problem in part.problems]


@pytest.mark.slow
@pytest.mark.skipif(not can("unshare", "-m"), reason="needs the right to mount")
def test_a_full_disk_and_a_disk_for_reading_alone_leave_what_was_there(mini: Mini, tmp_path: Path) -> None:
    """A tmpfs that is full in the middle of each job, made larger, and then one that is read only."""
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    lines = [tokenize(mini, disk / "tokens", tmp_path), train(mini, disk / "run", tmp_path)]
    (tmp_path / "lines.json").write_text(json.dumps(lines), encoding="utf-8")
    ran = f"{sys.executable} {SCRIPT} {tmp_path}/lines.json"
    script = f"""
        set -e
        mount -t tmpfs -o size=24k tmpfs {disk}
        {ran} {tmp_path}/full.json
        ls -A {disk}/tokens {disk}/run/checkpoints > {tmp_path}/left
        mount -o remount,size=50m {disk}
        {ran} {tmp_path}/whole.json
        cp -a {disk} {kept}
        mount -o remount,ro {disk}
        {ran} {tmp_path}/read.json
    """
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    codes = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("full", "whole", "read")]
    assert codes == [[3, 3], [0, 0], [2, 2]], done.stderr
    assert done.stderr.count("No space left on device") == 2
    assert done.stderr.count("Read-only file system") == 2
    assert "a bug in lavit" not in done.stderr
    assert ".tmp" not in (tmp_path / "left").read_text()
    assert_same_tokens(mini, kept / "tokens")
    assert not [problem for run in kept.iterdir() for part in verify(run, quiet=True) for problem in part.problems]


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0", "42", "random"])
def test_no_byte_depends_on_the_seed_of_hashes(mini: Mini, tmp_path: Path, seed: str) -> None:
    out, run = tmp_path / "tokens", tmp_path / "run"
    env = {**os.environ, "PYTHONHASHSEED": seed}
    codes, _ = children([tokenize(mini, out, tmp_path), train(mini, run, tmp_path)], tmp_path, env=env)
    assert codes == [0, 0]
    assert_same_tokens(mini, out)
    weights = "model/encoder/model.safetensors"
    assert (run / weights).read_bytes() == (mini.run / "encoder" / weights).read_bytes()


RIGHTS = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
"""Takes root's right to read everything away; nobody else has it."""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() == 0 and not can(*RIGHTS), reason="root reads everything")
def test_files_that_may_not_be_read_are_named(mini: Mini, tmp_path: Path) -> None:
    image = str(mini.heldout / "images/000000.png")
    data, tokens, weights, part = (tmp_path / name for name in ("data", "tokens", "weights", "part"))
    for source, copy in ((mini.heldout, data), (mini.tokens, tokens), (mini.model, weights), (mini.model, part)):
        shutil.copytree(source, copy)
    closed = {
        data / "captions.jsonl": ["data", "inspect", str(data)],
        tokens / "shard-000000.safetensors": [
            "pretrain", str(tokens), "--model", str(mini.model), "--out", str(tmp_path / "r"),
        ],
        weights / "llm" / "model.safetensors": ["ask", image, "what?", "--model", str(weights)],
        part / "llm": ["verify", str(part)],
    }  # fmt: skip
    for path in closed:
        path.chmod(0)
    try:
        codes, told = children(list(closed.values()), tmp_path, *(RIGHTS if os.geteuid() == 0 else ()))
    finally:
        for path in closed:
            path.chmod(0o755)
    assert codes == [3, 3, 3, 4], told
    for path in closed:
        assert f"{path}: can't be read (Permission denied)" in told
