"""Counts and times of a server, for Prometheus. Several processes share them through `PROMETHEUS_MULTIPROC_DIR`."""

import os
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
ROWS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The metrics of one server."""

    registry: CollectorRegistry
    requests: Counter
    """By route and status; 499: the client did not wait."""
    seconds: Histogram
    """By route: from a request's head to the end of its answer."""
    batch_rows: Histogram
    """Images and texts of a batch."""
    in_hand: Gauge
    """Requests that are read, waiting or computed."""
    waiting: Gauge
    """Requests that no batch has taken yet."""

    def as_text(self) -> str:
        """Return all of them in Prometheus' text format: those of all processes together, where there are several."""
        registry = self.registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry).decode()


def new_metrics() -> Metrics:
    """Return metrics that count from zero."""
    registry = CollectorRegistry()
    gauge: dict[str, Any] = {"registry": registry, "multiprocess_mode": "livesum"}
    return Metrics(
        registry=registry,
        requests=Counter("lavit_requests", "Requests answered.", ["route", "status"], registry=registry),
        seconds=Histogram(
            "lavit_request_seconds", "Seconds to the end of an answer.", ["route"], buckets=SECONDS, registry=registry
        ),
        batch_rows=Histogram("lavit_batch_rows", "Images and texts of a batch.", buckets=ROWS, registry=registry),
        in_hand=Gauge("lavit_requests_in_hand", "Requests read, waiting or computed.", **gauge),
        waiting=Gauge("lavit_requests_waiting", "Requests that no batch has taken yet.", **gauge),
    )
