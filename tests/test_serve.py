"""`lavit serve` as a process: OpenAI's client, load and signals, clients that die, clients that never read."""

import base64
import concurrent.futures
import contextlib
import dataclasses
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest
from commandline import Done, Mini, environment
from lavit import LaVIT
from PIL import Image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
IMAGES = "/v1/images/generations"
DRAW = {"prompt": "a red circle", "num_steps": 2}
LONG = {"prompt": "a red circle", "num_steps": 50, "n": 4}
"""A request that takes a while."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Server:
    """A server process and its address."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def post(self, path: str = IMAGES, **body: Any) -> httpx2.Response:
        return httpx2.post(self.url + path, json=body, timeout=120)

    def metric(self, name: str) -> float:
        """Return one metric of /metrics, 0 if it is not there yet."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", httpx2.get(f"{self.url}/metrics").text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    def stop(self) -> Done:
        """Ask the server to end, and return how it did."""
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=60)
        return Done(code=self.process.returncode, out=out, err=self.log.read_text(encoding="utf-8"))


@contextlib.contextmanager
def serving(model: Path, log: Path, *options: str) -> Iterator[Server]:
    """Start `lavit serve` on a free port, and end it in any case."""
    with started([sys.executable, "-m", "lavit_cli", "serve", str(model), "--port", "0", *options], log) as server:
        yield server


@contextlib.contextmanager
def started(command: list[str], log: Path) -> Iterator[Server]:
    """Start a command that serves, and end it in any case."""
    with open(log, "w", encoding="utf-8") as err:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True, env=environment())
    try:
        assert process.stdout is not None
        found = re.match(r"listening on (http://127\.0\.0\.1:\d+)/v1 ", process.stdout.readline())
        assert found is not None, log.read_text(encoding="utf-8")
        yield Server(process=process, url=found.group(1), log=log)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def wait_until(condition: Any, seconds: float = 60) -> None:
    """Wait until something is true."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server(mini: Mini, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that most tests share."""
    with serving(mini.model, tmp_path_factory.mktemp("serve") / "log", "--time-limit", "30") as running:
        yield running


def test_images_are_those_of_generate(server: Server, mini: Mini) -> None:
    answer = server.post(prompt="a red circle", seed=4).json()
    image = Image.open(io.BytesIO(base64.b64decode(answer["data"][0]["b64_json"])))
    [expected] = LaVIT.from_pretrained(mini.model, device="cpu").generate("a red circle", seeds=4)
    # One request alone, the same batch: but this process may have other kernels warm.
    assert np.abs(np.asarray(image, dtype=np.int16) - np.asarray(expected, dtype=np.int16)).max() <= 1


def test_the_page_about_serving_is_right(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openai")
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    [program] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(program.replace("http://127.0.0.1:8000", server.url), {})
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_pages_requests_by_curl_are_right(server: Server, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    [shell] = re.findall(r"```bash\n(curl.*?)```", page, re.DOTALL)
    program = f'{sys.executable} -c \'import json, sys; print(json.load(sys.stdin)["data"][0]["b64_json"])\''
    shell = shell.replace("localhost:8000", server.url).replace("jq -r '.data[0].b64_json'", program)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", shell], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [Image.open(tmp_path / name).size for name in ("a.png", "b.png")] == [(32, 32)] * 2
    assert len(json.loads(done.stdout)["data"]) == 1


def test_a_client_that_is_killed_takes_its_request_with_it(server: Server) -> None:
    gone = 'lavit_requests_total{route="/v1/images/generations",status="499"}'
    before = server.metric(gone)
    body = {**LONG, "num_steps": 1000}
    program = f"import httpx2; httpx2.post('{server.url}{IMAGES}', json={body}, timeout=100)"
    client = subprocess.Popen([sys.executable, "-c", program])
    wait_until(lambda: server.metric("lavit_requests_in_hand") == 1)
    client.kill()
    client.wait()
    wait_until(lambda: server.metric(gone) == before + 1)
    wait_until(lambda: server.metric("lavit_requests_in_hand") == 0)
    assert server.post(**DRAW).status_code == 200


def test_memory_is_flat_under_requests_that_fail(server: Server) -> None:
    def send(count: int) -> None:
        with httpx2.Client(base_url=server.url) as client:
            for number in range(count):
                wrong = [{"prompt": "x" * 20_000, "n": -1}, {"prompt": "blue " * 2000}, {"prompt": None}][number % 3]
                assert 400 <= client.post(IMAGES, json=wrong).status_code < 500

    process = psutil.Process(server.process.pid)
    send(100)
    before = process.memory_info().rss
    send(400)
    assert process.memory_info().rss - before < 20 << 20


def test_clients_that_never_read_and_never_write_harm_nobody(mini: Mini, tmp_path: Path) -> None:
    with serving(mini.model, tmp_path / "log", "--time-limit", "4") as server, contextlib.ExitStack() as sockets:
        sockets_open: list[socket.socket] = []

        def connect() -> socket.socket:
            opened = socket.socket()
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            opened.connect(("127.0.0.1", server.port))
            sockets_open.append(opened)
            return sockets.enter_context(opened)

        # Thousands of answers that the server has to keep, or to wait with.
        silent = connect()
        silent.settimeout(1)
        with contextlib.suppress(TimeoutError):
            silent.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 20_000)
        head = f"POST {IMAGES} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n".encode()
        for _ in range(8):
            connect().sendall(head)
        wait_until(lambda: server.metric("lavit_requests_in_hand") == 8)
        assert server.post(**DRAW).status_code == 200
        wait_until(lambda: server.metric("lavit_requests_in_hand") == 0, seconds=20)
        process = psutil.Process(server.process.pid)
        clients = {opened.getsockname()[1] for opened in sockets_open}
        wait_until(lambda: not clients & {one.raddr.port for one in process.net_connections() if one.raddr}, seconds=30)
        assert server.post(**DRAW).status_code == 200
        done = server.stop()
        assert done.code == 0, done.err
        assert "Traceback" not in done.err


def test_sigterm_under_load_answers_what_is_in_hand(mini: Mini, tmp_path: Path) -> None:
    with serving(mini.model, tmp_path / "log") as server:

        def draw(seed: int) -> int | str:
            try:
                answer = server.post(**LONG, seed=seed)
            except httpx2.ConnectError:
                return "refused"
            assert len(answer.json()["data"]) == 4
            return answer.status_code

        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            first = [pool.submit(draw, seed) for seed in range(12)]
            wait_until(lambda: server.metric("lavit_requests_in_hand") == 12)
            server.process.send_signal(signal.SIGTERM)
            later = [pool.submit(draw, seed) for seed in range(12, 24)]
            assert [one.result() for one in first] == [200] * 12
            assert {one.result() for one in later} <= {200, "refused"}
        server.process.communicate(timeout=60)
        assert server.process.returncode == 0
        assert "Traceback" not in server.log.read_text(encoding="utf-8")


def test_several_processes_share_an_address(mini: Mini, tmp_path: Path) -> None:
    done = 'lavit_requests_total{route="/v1/images/generations",status="200"}'
    with serving(mini.model, tmp_path / "log", "--workers", "2", "--quiet") as server:

        def workers() -> list[psutil.Process]:
            children = psutil.Process(server.process.pid).children()
            alive = [one for one in children if one.status() != psutil.STATUS_ZOMBIE]
            return [one for one in alive if "resource_tracker" not in " ".join(one.cmdline())]

        first = workers()
        assert len(first) == 2
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda seed: server.post(**DRAW, seed=seed % 4), range(16)))
        images = [answer.json()["data"][0]["b64_json"] for answer in answers]
        assert [len(set(images[seed::4])) <= 2 for seed in range(4)] == [True] * 4  # batches of other sizes may round
        assert server.metric(done) == 16  # of both, whichever is asked
        first[0].kill()
        wait_until(lambda: len({one.pid for one in workers()} - {first[0].pid}) == 2)
        wait_until(lambda: httpx2.get(f"{server.url}/ready").status_code == 200)
        assert server.post(**DRAW).status_code == 200
        assert server.metric("lavit_requests_in_hand") == 0
        ended = server.stop()
        assert ended.code == 0, ended.err
        assert "Traceback" not in ended.err
    assert not any(one.is_running() for one in first)


def test_processes_end_when_the_one_that_started_them_is_killed(mini: Mini, tmp_path: Path) -> None:
    with serving(mini.model, tmp_path / "log", "--workers", "2", "--quiet") as server:
        children = psutil.Process(server.process.pid).children()
        server.process.kill()
        assert psutil.wait_procs(children, timeout=60)[1] == []


def test_processes_that_cannot_load_the_model_end_the_server(mini: Mini, tmp_path: Path) -> None:
    tokenizer = mini.run / "tokenizer" / "model"
    command = [sys.executable, "-m", "lavit_cli", "serve", str(tokenizer), "--port", "0", "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 3
    assert "no llm/ here" in done.stderr


def test_a_model_that_lacks_a_part_is_one_line(mini: Mini, tmp_path: Path) -> None:
    tokenizer = mini.run / "tokenizer" / "model"
    command = [sys.executable, "-m", "lavit_cli", "serve", str(tokenizer), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("error: ")
