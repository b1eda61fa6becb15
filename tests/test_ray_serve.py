"""examples/cluster/ray_serve.py: replicas share requests behind the gate, one that dies is replaced, SIGTERM drains."""

import base64
import concurrent.futures
import importlib.util
import io
import re
import subprocess
import sys
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest
from commandline import Mini, environment
from lavit import LaVIT
from lavit_core.errors import UsageError
from PIL import Image
from test_serve import DRAW, IMAGES, LONG, Server, started, wait_until

pytestmark = pytest.mark.timeout(900)

SCRIPT = Path(__file__).parents[1] / "examples" / "cluster" / "ray_serve.py"
DONE = re.compile(r'^lavit_requests_total\{route="/v1/images/generations",status="200"\} (\S+)$', re.MULTILINE)


@pytest.fixture(autouse=True)
def _ray() -> None:
    pytest.importorskip("ray.serve", reason="pip install './stages/serve[ray]'", exc_type=ImportError)


def command(model: Path, *options: str) -> list[str]:
    return [sys.executable, str(SCRIPT), str(model), "--port", "0", *options]


def replicas(server: Server) -> set[psutil.Process]:
    """Return the replicas that run: they are below the cluster that the command started."""
    below = psutil.Process(server.process.pid).children(recursive=True)
    return {one for one in below if one.name().startswith("ray::ServeRepl")}


def drawn_by_each(server: Server) -> set[float]:
    """Return how many images each of two replicas has drawn; whoever is asked tells of itself."""
    counts: set[float] = set()
    for _ in range(100):
        text = httpx2.get(f"{server.url}/metrics").text
        counts.add(float(found.group(1)) if (found := DONE.search(text)) else 0.0)
    return counts


def test_a_joined_cluster_needs_a_key_whatever_the_host() -> None:
    spec = importlib.util.spec_from_file_location("ray_serve", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.check_joined("secret")
    with pytest.raises(UsageError, match="a joined cluster answers at its own address, not at --host, so give --api"):
        script.check_joined(None)


@pytest.mark.slow
def test_two_replicas_are_one_server(mini: Mini, tmp_path: Path) -> None:
    model = LaVIT.from_pretrained(mini.model, device="cpu")
    with started(command(mini.model, "--replicas", "2", "--cpus", "0.5"), tmp_path / "log") as server:
        first = replicas(server)
        assert len(first) == 2

        # An odd number of requests: the replicas' counts differ, and their sum is that of all.
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda seed: server.post(**DRAW, seed=seed), range(33)))
        expected = model.generate(["a red circle"] * 33, seeds=0, drawing=model.draw_settings(num_steps=2))
        for answer, image in zip(answers, expected, strict=True):
            drawn = Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))
            # Batches of other sizes round other ways.
            assert np.abs(np.asarray(drawn, dtype=np.int16) - np.asarray(image, dtype=np.int16)).max() <= 1
        counts = drawn_by_each(server)
        assert len(counts) == 2
        assert sum(counts) == 33
        assert min(counts) > 0

        # The gate stands between Ray's proxy and the model.
        assert httpx2.get(f"{server.url}/v1/models", headers={"host": "example.org"}).status_code == 403
        assert server.post(**DRAW, colour="red").json()["error"]["type"] == "invalid_request_error"
        assert server.post(prompt="x" * (21 << 20)).status_code == 413
        body = {**DRAW, "stream": True}
        with httpx2.stream("POST", server.url + IMAGES, json=body, timeout=120) as streamed:
            events = re.findall(r"^event: (\S+)$", streamed.read().decode(), re.MULTILINE)
        assert len(events) > 3
        assert events[-1] == "image_generation.completed"

        killed = min(first, key=lambda one: one.pid)
        killed.kill()
        wait_until(lambda: killed not in replicas(server) and len(replicas(server)) == 2, seconds=200)
        assert server.post(**DRAW).status_code == 200

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            in_hand = [pool.submit(server.post, **LONG, seed=seed) for seed in range(12)]
            wait_until(lambda: server.metric("lavit_requests_in_hand") > 0)
            everything = psutil.Process(server.process.pid).children(recursive=True)
            server.process.terminate()
            assert [one.result().status_code for one in in_hand] == [200] * 12
        server.process.communicate(timeout=200)
        assert server.process.returncode == 0, server.log.read_text(encoding="utf-8")
        assert psutil.wait_procs(everything, timeout=60)[1] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0: others can reach it, so give --api-key or set LAVIT_API_KEY"),
        (["--ray-address", "127.0.0.1:9"], "--ray-address 127.0.0.1:9: no Ray cluster"),
        (["--replicas", "1000"], "--replicas 1000: 1000 CPUs needed, "),
    ],
)
def test_what_would_not_serve_is_one_line(mini: Mini, options: list[str], message: str) -> None:
    done = subprocess.run(command(mini.model, *options), capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode in (2, 3), done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: {message}")
