"""A registry with pools, and requests for its metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
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
from tests.serving import asgi
from tests.serving.asgi import Answer

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


async def ask(
    app: Any,
    path: str = "/metrics",
    *,
    query: Sequence[tuple[str, str]] = (),
    method: str = "GET",
    root_path: str = "",
    **headers: str | None,
) -> Answer:
    """Send one request for metrics straight to an application; a header of None is left out."""
    sent = [(name.replace("_", "-"), value) for name, value in headers.items() if value is not None]
    return await asgi.ask(app, path, query=urlencode(query), method=method, root_path=root_path, headers=sent)


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
