"""A Ray cluster, joined or started, and left."""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import ray
from lavit_core.errors import InputError

CONNECT_SECONDS = 10.0


@contextlib.contextmanager
def ray_cluster(address: str | None) -> Iterator[bool]:
    """Connect to the cluster at `address` (None: that of RAY_ADDRESS, else start one of this machine's CPUs and GPUs),
    and leave it in the end; signals stay ours.

    Gives whether it was started here, and so ends here. Raises InputError if nobody answers at the address.
    """
    # Ray would report its use over the network.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    _check_reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise InputError(f"--ray-address {address}: no Ray cluster ({' '.join(str(error).split())[:300]})") from None
    finally:
        for number, handler in handlers.items():
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(number, handler)
    try:
        yield address == "local"
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise InputError if nobody answers at host:port: Ray would go on trying for ten minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # `local`, `auto`
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--ray-address {address}: no Ray cluster ({error}); expected HOST:PORT of its head") from None
