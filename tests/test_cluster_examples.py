"""The recipes of examples/cluster: their scripts run, and their command lines are ones that lavit takes."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from commandline import Done

CLUSTER = Path(__file__).parents[1] / "examples" / "cluster"

STAND_IN = """#!/bin/bash
case "$1" in lavit) shift ;; esac
printf '%s\\0' "$(basename "$0")" "$@" >> "$RECORD"
printf '\\n' >> "$RECORD"
exit "${LAVIT_EXIT:-0}"
"""
"""A command that notes its arguments; `srun lavit ...` is `lavit ...`."""


def commands_of(script: list[str], folder: Path, **env: str) -> tuple[int, list[list[str]]]:
    """Run a script with stand-ins for the scheduler's commands and for lavit; return its exit code and what it ran."""
    for name in ("srun", "lavit", "scontrol", "ray"):
        file = folder / name
        file.write_text(STAND_IN if name != "scontrol" else STAND_IN.replace("${LAVIT_EXIT:-0}", "0"))
        file.chmod(0o755)
    record = folder / "record"
    record.write_text("")
    path = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(script, env={"PATH": path, "RECORD": str(record), **env}, check=False)
    return done.returncode, [line.split("\0")[:-1] for line in record.read_text().split("\n")[:-1]]


@pytest.fixture
def understood(here: Callable[..., Done]) -> Callable[[list[str]], dict]:
    """Give a function that checks a command line with the real command, and returns its settings."""

    def check(words: list[str]) -> dict:
        done = here(*words, "--print-config", "--json")
        assert done.code == 0, done.err
        return json.loads(done.out)

    return check


def test_slurm(understood: Callable[[list[str]], dict], tmp_path: Path) -> None:
    script = CLUSTER / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    env = {"SLURM_ARRAY_TASK_ID": "63", "SLURM_ARRAY_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "8"}
    code, [[_, *words]] = commands_of(["bash", str(script)], tmp_path, **env)
    assert code == 0
    assert words[:2] == ["tokenize-images", "/shared/photos"]
    assert understood(words)["workers"] == 7
    assert words[words.index("--num-tasks") :][:4] == ["--num-tasks", "64", "--task-id", "63"]
    code, ran = commands_of(["bash", str(script)], tmp_path, **env, LAVIT_EXIT="75")
    assert (code, ran[1]) == (75, ["scontrol", "requeue", "7_63"])
    code, ran = commands_of(["bash", str(script)], tmp_path, **env, LAVIT_EXIT="5")
    assert (code, len(ran)) == (5, 1)
    array = next(line for line in script.read_text().splitlines() if line.startswith("#SBATCH --array="))
    assert array.endswith("=0-63")


def test_kubernetes(understood: Callable[[list[str]], dict], tmp_path: Path) -> None:
    job = yaml.safe_load((CLUSTER / "kubernetes.yaml").read_text())
    spec, container = job["spec"], job["spec"]["template"]["spec"]["containers"][0]
    assert (job["kind"], spec["completionMode"]) == ("Job", "Indexed")
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["containerName"] == container["name"]
    index = str(spec["completions"] - 1)
    code, [[name, *words]] = commands_of(
        [*container["command"], *container["args"]], tmp_path, JOB_COMPLETION_INDEX=index
    )
    assert (code, name) == (0, "lavit")
    assert understood(words)["workers"] == 7
    assert words[words.index("--num-tasks") :][:4] == ["--num-tasks", str(spec["completions"]), "--task-id", index]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert all(any(word.startswith(mount) for mount in mounts) for word in words if word.startswith("/"))


def test_ray(understood: Callable[[list[str]], dict], tmp_path: Path) -> None:
    script = CLUSTER / "ray.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    code, [words] = commands_of(["bash", str(script), "http://head:8265"], tmp_path)
    assert code == 0
    assert words[:5] == ["ray", "job", "submit", "--address", "http://head:8265"]
    inner = words[words.index("--") + 1 :]
    assert inner[0] == "lavit"
    assert inner[inner.index("--engine") + 1] == "ray"
    assert understood(inner[1:])["workers"] == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num-tasks", "64"], "--num-tasks 64 needs --task-id"),
        (["--engine", "spark"], "--engine spark: expected local or ray"),
        (["--ray-address", "head:6379"], "--ray-address head:6379 without --engine ray"),
    ],
)
def test_a_recipe_that_is_wrong_is_refused(here: Callable[..., Done], words: list[str], message: str) -> None:
    done = here("tokenize-images", "photos", "--model", "m", "--out", "t", *words, "--print-config")
    assert done.code == 2
    assert message in done.last_error
