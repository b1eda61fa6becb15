r"""The server of `lavit serve` on a Ray cluster, a model a replica.

    python examples/cluster/ray_serve.py MODEL --replicas 2                (this machine's CPUs)
    LAVIT_API_KEY=... python examples/cluster/ray_serve.py MODEL --ray-address HEAD:6379 --replicas 8 --gpus 1 \
        --host 0.0.0.0

Ray starts the replicas, shares the requests among them and starts those again that died; each has batches and limits of
its own, as a process of `lavit serve`. Every node sees MODEL at the same path and has lavit with `lavit-serve[ray]`.
Without --ray-address or RAY_ADDRESS the cluster is this machine, and ends with the command; a joined one needs a key.
SIGTERM answers what is in hand.
"""

import argparse
import dataclasses
import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import ray
from lavit_core.config import resolve
from lavit_core.errors import InputError, LavitError, UsageError
from lavit_serve.config import ServeSettings, check_key
from lavit_serve.gate import App
from lavit_serve.server import Opened, bind, check_model
from lavit_tokenizer.ray_cluster import ray_cluster
from ray import serve
from ray.serve.context import _get_global_client

NAME = "lavit"
SPARE_REQUESTS = 16
"""How many more than --max-requests a replica is handed: the gate refuses them, and answers /ready and /metrics."""
UNANSWERED_SECONDS = 120
"""A replica that does not answer Ray for so long hangs, and is started again: large batches take long."""


def main() -> None:
    """Deploy the model, and serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of a replica; 0.5 lets two share one")
    parser.add_argument("--cpus", type=float, default=1, help="CPUs, and so threads, of a replica")
    parser.add_argument("--ray-address", help="HOST:PORT of the cluster's head (default: RAY_ADDRESS)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--api-key", default=os.environ.get("LAVIT_API_KEY"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        run(given)
    except LavitError as error:
        parser.exit(error.exit_code, f"error: {error}\n")


def run(given: argparse.Namespace) -> None:
    """Join or start the cluster, deploy, wait for a signal, drain. Raises UsageError, InputError."""
    check_key(given.host, given.api_key)
    if given.replicas < 1:
        raise UsageError(f"--replicas {given.replicas}: expected at least 1")
    settings = resolve(ServeSettings, preset={}, flags={"host": given.host, "port": given.port})
    opened = Opened(folder=given.model.resolve(), device="cuda" if given.gpus else "cpu")
    check_model(dataclasses.replace(opened, device="cpu"))  # this node may have no GPU
    # Ray's workers give way to every other process (nice 15): on a busy machine such a server would hardly answer.
    os.environ.setdefault("RAY_worker_niceness", "0")
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with ray_cluster(given.ray_address) as own:
        if own:
            settings = check_machine(given, settings)
        else:
            check_joined(given.api_key)
        deploy(replica_of(opened, settings, api_key=given.api_key, seed=given.seed), given, settings)
        print(f"listening on http://{settings.host}:{settings.port}/v1 (Ctrl-C or SIGTERM ends it)", flush=True)
        ended.wait()
        drain()


def check_joined(api_key: str | None) -> None:
    """Raise UsageError without a key on a cluster that ran before: --host does not tell who reaches its nodes."""
    if api_key is None:
        raise UsageError(
            "--ray-address: where Ray Serve runs already, a joined cluster answers at its own address, not at --host, "
            "so give --api-key or set LAVIT_API_KEY"
        )


def check_machine(given: argparse.Namespace, settings: ServeSettings) -> ServeSettings:
    """Return settings with a port that is free. Raises UsageError, InputError for what this machine does not have."""
    there = ray.cluster_resources()
    for kind, each in (("CPU", given.cpus), ("GPU", given.gpus)):
        needed, found = given.replicas * each, there.get(kind, 0)
        if needed > found:
            message = f"{needed:g} {kind}s needed, {found:g} here; Ray would wait for more"
            raise UsageError(f"--replicas {given.replicas}: {message}")
    with bind(settings.host, settings.port, settings.time_limit_seconds) as bound:
        return settings.model_copy(update={"port": bound.getsockname()[1]})


def deploy(build: Callable[[], App], given: argparse.Namespace, settings: ServeSettings) -> None:
    """Start the replicas, and return when all have loaded the model.

    Raises UsageError if Ray Serve runs at another address, InputError if a replica can't load the model.
    """
    serve.start(
        proxy_location="EveryNode",
        http_options={"host": settings.host, "port": settings.port, "request_timeout_s": settings.time_limit_seconds},
    )
    there = _get_global_client().http_config  # serve.start leaves a Ray Serve that runs as it is
    if (there.host, there.port) != (settings.host, settings.port):
        asked, found = (f"--host {one.host} --port {one.port}" for one in (settings, there))
        raise UsageError(f"{asked}: Ray Serve runs on this cluster already, so give {found}")
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    deployment = serve.deployment(
        serve.ingress(build)(),
        name=NAME,
        num_replicas=given.replicas,
        ray_actor_options={"num_cpus": given.cpus, "num_gpus": given.gpus},
        max_ongoing_requests=settings.max_requests + SPARE_REQUESTS,
        max_queued_requests=settings.max_requests,
        health_check_timeout_s=UNANSWERED_SECONDS,
        graceful_shutdown_timeout_s=settings.time_limit_seconds,
    )
    try:
        serve.run(deployment.bind(), name=NAME)
    except RuntimeError as error:
        said = serve.status().applications[NAME].deployments[NAME].message.strip() or str(error)
        last = said.rpartition("\n")[2]
        drain()  # a cluster that was joined would go on trying
        raise InputError(f"{given.model}: no replica could load the model ({last})") from None


def replica_of(opened: Opened, settings: ServeSettings, *, api_key: str | None, seed: int) -> Callable[[], App]:
    """Return a function that loads the model in a replica and returns the application of `lavit serve`."""

    def build() -> App:
        from lavit_serve.app import new_app
        from lavit_serve.server import open_model
        from lavit_serve.service import new_service

        return new_app(new_service(open_model(opened), opened.folder, settings, seed=seed), api_key=api_key)

    return build


def drain() -> None:
    """Take nothing new, and wait until the replicas have answered what they have in hand."""
    while NAME in serve.status().applications:
        try:
            serve.delete(NAME)
        except TimeoutError:  # Ray's patience is a minute, that of requests may be longer
            continue


if __name__ == "__main__":
    main()
