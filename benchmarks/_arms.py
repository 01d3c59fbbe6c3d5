"""Ways of watching a pool that `overhead.py` compares: each takes an engine and attaches to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from _common import machine  # noqa: F401 - first, so that a checkout that is not installed is found
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from pool_exporter import instrument

Attach = Callable[[AsyncEngine], Any]
"""Watch an engine; what it returns is kept for as long as the engine is measured."""


def bare(engine: AsyncEngine) -> None:
    """Do nothing."""


def everything(engine: AsyncEngine) -> Any:
    """Instrument with all that is on by default."""
    return instrument(engine, registry=CollectorRegistry())


def without_attribution(engine: AsyncEngine) -> Any:
    """Instrument, without finding out who acquires."""
    return instrument(engine, registry=CollectorRegistry(), attribution=False)


def without_statements(engine: AsyncEngine) -> Any:
    """Instrument, without statements and the activity that they show."""
    return instrument(engine, registry=CollectorRegistry(), statements=False)


def with_opentelemetry(engine: AsyncEngine) -> Any:
    """Instrument for OpenTelemetry's SDK, everything else on; the reader collects between two blocks."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    made = instrument(engine, meter_provider=provider, registry=CollectorRegistry())
    reader.collect()  # from now on samples are kept for the next time
    return made, provider, reader


def listeners(engine: AsyncEngine) -> Any:
    """Write what people write by hand today: four listeners that set labelled metrics.

    Gauges from the pool's own methods after each event, a counter of checkouts, and a histogram
    of how long connections are held.
    """
    registry = CollectorRegistry()
    pool: Any = engine.sync_engine.pool
    labels = {"pool": "primary"}
    checked_out = Gauge("db_pool_checked_out", "Connections in use.", list(labels), registry=registry)
    checked_in = Gauge("db_pool_checked_in", "Connections idle.", list(labels), registry=registry)
    overflow = Gauge("db_pool_overflow", "Connections over the size.", list(labels), registry=registry)
    checkouts = Counter("db_pool_checkouts", "Checkouts.", list(labels), registry=registry)
    connects = Counter("db_pool_connects", "Connections made.", list(labels), registry=registry)
    closes = Counter("db_pool_closes", "Connections closed.", list(labels), registry=registry)
    held = Histogram("db_pool_hold_seconds", "Time held.", list(labels), registry=registry)

    def refresh() -> None:
        checked_out.labels(**labels).set(pool.checkedout())
        checked_in.labels(**labels).set(pool.checkedin())
        overflow.labels(**labels).set(pool.overflow())

    def on_checkout(connection: Any, record: Any, fairy: Any) -> None:
        record.info["checked_out_at"] = time.perf_counter()
        checkouts.labels(**labels).inc()
        refresh()

    def on_checkin(connection: Any, record: Any) -> None:
        began = record.info.pop("checked_out_at", None)
        if began is not None:
            held.labels(**labels).observe(time.perf_counter() - began)
        refresh()

    def on_connect(connection: Any, record: Any) -> None:
        connects.labels(**labels).inc()
        refresh()

    def on_close(connection: Any, record: Any) -> None:
        closes.labels(**labels).inc()
        refresh()

    event.listen(pool, "checkout", on_checkout)
    event.listen(pool, "checkin", on_checkin)
    event.listen(pool, "connect", on_connect)
    event.listen(pool, "close", on_close)
    return registry


def opentelemetry(engine: AsyncEngine) -> Any:
    """Attach the listeners of opentelemetry-instrumentation-sqlalchemy, with real SDK providers.

    Its instrumentor pins SQLAlchemy below 2.1 and does nothing on it; its
    `EngineTracer` works, so that is attached directly. Left out, in its favour: a span exporter,
    and the span around `Engine.connect` that its instrumentor adds to every checkout.
    """
    reader = InMemoryMetricReader()
    meters = MeterProvider(metric_readers=[reader])
    tracers = TracerProvider()
    usage = meters.get_meter("benchmark").create_up_down_counter("db.client.connections.usage")
    tracer = EngineTracer(tracers.get_tracer("benchmark"), engine.sync_engine, usage)
    return tracer, meters, tracers, reader


def record(kept: Any) -> None:
    """Record the samples that `with_opentelemetry` left to the next collection."""
    telemetry = kept[0]._telemetry
    for subject in telemetry._subjects.values():
        telemetry._instruments.record(subject.attributes, subject.ledger.samples())


ARMS: dict[str, Attach] = {
    "bare": bare,
    "bare again (control)": bare,
    "pool_exporter, everything": everything,
    "pool_exporter, attribution=False": without_attribution,
    "pool_exporter, statements=False": without_statements,
    "pool_exporter with OpenTelemetry": with_opentelemetry,
    "the same, samples recorded in the block": with_opentelemetry,
    "hand-written listeners": listeners,
    "OpenTelemetry's listeners": opentelemetry,
}
