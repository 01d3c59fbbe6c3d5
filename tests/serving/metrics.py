"""A registry with pools, and requests for its metrics."""

from __future__ import annotations

import gzip
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
)

from pool_exporter.exporters.prometheus import PoolCollector
from pool_exporter.serving.sliced import SLICE_COST
from tests.exporters.snapshots import snapshot

# What Prometheus 2 sends.
PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


ACCEPTS = {
    "none": None,
    "any": "*/*",
    "text": "text/plain; version=0.0.4",
    "text-utf8": "text/plain; version=1.0.0; escaping=allow-utf-8",
    "openmetrics": "application/openmetrics-text; version=1.0.0",
    "openmetrics-dots": "application/openmetrics-text; version=1.0.0; escaping=dots",
    "openmetrics-values": "application/openmetrics-text; version=1.0.0; escaping=values",
    "prometheus-2": PROMETHEUS_ACCEPT,
}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        compressed = self.headers.get("content-encoding") == "gzip"
        return (gzip.decompress(self.body) if compressed else self.body).decode()


async def ask(
    app: Any,
    path: str = "/metrics",
    *,
    method: str = "GET",
    root_path: str = "",
    query: list[tuple[str, str]] | None = None,
    **headers: str | None,
) -> Answer:
    """Send one request straight to an ASGI application."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": root_path,
        "query_string": urlencode(query or []).encode(),
        "headers": [
            (name.replace("_", "-").encode(), value.encode())
            for name, value in headers.items()
            if value is not None
        ],
    }
    await app(scope, receive, send)
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    assert [message.get("more_body", False) for message in bodies] == [True] * (len(bodies) - 1) + [False]
    return Answer(
        start["status"],
        {name.decode().lower(): value.decode() for name, value in start["headers"]},
        b"".join(message["body"] for message in bodies),
    )


def fill(registry: CollectorRegistry, pools: int) -> None:
    """Register pools among metrics of the application, of which some have more samples than a slice."""
    jobs = Counter("jobs", "Jobs done.\nSecond line, with a \\ backslash.", ["kind"], registry=registry)
    for number in range(3 * SLICE_COST):
        jobs.labels(f"kind {number}").inc(number, {"trace_id": "abc"} if number % 7 == 0 else None)
    registry.register(
        PoolCollector(lambda: (snapshot(f"pool{n}", max=None, size=None) for n in range(pools)))
    )
    Gauge("temperature_celsius", "A name without labels.", registry=registry).set(21.5)
    work = Histogram("work_seconds", "Time worked.", ["who"], registry=registry, buckets=[0.1, 1, 10])
    for number in range(SLICE_COST):
        work.labels(str(number)).observe(number / 10)
    Gauge("temp.utf8", "A name that needs escaping.", ["label.utf8"], registry=registry).labels("é").set(1)
    Info("build", "Labels only.", registry=registry).info({"version": "1"})


@pytest.fixture(scope="module")
def registry() -> CollectorRegistry:
    registry = CollectorRegistry(target_info={"env": "test"})
    fill(registry, pools=23)
    return registry


def one_pool() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(PoolCollector(lambda: [snapshot("orders")]))
    return registry


def has_the_pool(text: str) -> bool:
    return 'sqlalchemy_pool_connections{pool="orders",state="used"} 6.0\n' in text
