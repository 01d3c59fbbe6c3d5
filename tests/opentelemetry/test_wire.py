"""Check what arrives over OTLP, against `/metrics` and the database's own list, at the same moment."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter
from opentelemetry.sdk.metrics import Histogram, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pool_exporter import Instrumentation, instrument, start_server
from pool_exporter.catalogue import CATALOGUE, Metric
from pool_exporter.vocabularies import POOL_ATTRIBUTE, attribute_of
from tests.opentelemetry.receivers import Attributes, Buckets, Receiver, grpc_receiver, http_receiver
from tests.postgres import DATABASE, PostgresServer, running_server

NAME = "wire"
ROLE = "wire"
DELTA = {ObservableCounter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
GROWING = {
    "oldest_pending_seconds",
    "oldest_use_seconds",
    "oldest_quiet_seconds",
    "queue_seconds_total",
    "occupancy_seconds_total",
    "owner_use_seconds_total",
}
"""What grows with the clock, and so between two readings."""
IDENTITY = {"db.system.name", "db.namespace", "server.address", "server.port"}
Series = dict[str, dict[Attributes, Any]]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_server() as server, server.observer() as observer:
        observer.execute(f"create role {ROLE} login")
        yield server


@pytest.fixture
async def engine(server: PostgresServer) -> AsyncIterator[AsyncEngine]:
    made = create_async_engine(
        f"postgresql+asyncpg://{ROLE}@127.0.0.1:{server.port}/{DATABASE}",
        pool_size=2,
        max_overflow=1,
        pool_timeout=0.5,
        pool_recycle=3600,
        pool_pre_ping=True,
        connect_args={"server_settings": {"application_name": NAME}},
    )
    yield made
    await made.dispose()


@pytest.fixture(params=["grpc", "http", "http-gzip"])
def transport(request: pytest.FixtureRequest) -> Any:
    return request.param


@contextlib.contextmanager
def exporting(transport: str, temporality: Any) -> Iterator[tuple[Receiver, MeterProvider]]:
    """Run a receiver, and a provider whose exporter sends to it when it is told to."""
    with grpc_receiver() if transport == "grpc" else http_receiver() as receiver:
        exporter: Any
        if transport == "grpc":
            exporter = GrpcExporter(receiver.url, insecure=True, preferred_temporality=temporality)
        else:
            how = Compression.Gzip if transport == "http-gzip" else Compression.NoCompression
            exporter = HttpExporter(receiver.url, compression=how, preferred_temporality=temporality)
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
        provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
        try:
            yield receiver, provider
        finally:
            provider.shutdown()


def scraped(url: str) -> Series:
    """Return what `/metrics` says, by catalogue name and by the attributes that the labels become."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        families = {one.name: one for one in text_string_to_metric_families(answer.read().decode())}
    found: Series = {}
    for metric in CATALOGUE:
        if not metric.in_prometheus:
            continue
        family = families[metric.prometheus_name.removesuffix("_total")]
        series = found[metric.name] = {}
        if metric.kind == "histogram":
            series[frozenset({(POOL_ATTRIBUTE, NAME)})] = buckets_of(family.samples)
            continue
        for sample in family.samples:
            series[frozenset((attribute_of(key), value) for key, value in sample.labels.items())] = (
                sample.value
            )
    return found


def buckets_of(samples: list[Any]) -> Buckets:
    """Return the buckets of a scraped histogram, which adds them up, as those of OTLP."""
    summed = [(float(one.labels["le"]), int(one.value)) for one in samples if one.name.endswith("_bucket")]
    bounds, counts = zip(*summed, strict=True)
    each = tuple(count - before for count, before in zip(counts, (0, *counts), strict=False))
    (count,) = (int(one.value) for one in samples if one.name.endswith("_count"))
    (total,) = (one.value for one in samples if one.name.endswith("_sum"))
    return Buckets(bounds[:-1], each, count, total)


def expected(metric: Metric, said: Series) -> dict[Attributes, Any]:
    """Return the values that a metric must have, where `/metrics` says so much."""
    pool = frozenset({(POOL_ATTRIBUTE, NAME)})
    if metric.name == "idle_min":
        return {pool: 0}
    if metric.convention_sums:
        return {pool: sum(said[metric.name].values())}
    return said[metric.name if metric.in_prometheus else metric.field]


def assert_same(received: Receiver, before: Series, after: Series) -> None:
    """Check every metric of the catalogue: equal, or between two readings where it grows with the clock."""
    assert set(received.metrics) == {
        metric.opentelemetry_name for metric in CATALOGUE if expected(metric, after)
    }
    for metric in CATALOGUE:
        low, high = expected(metric, before), expected(metric, after)
        found = {
            frozenset(pair for pair in key if pair[0] not in IDENTITY): value
            for key, value in received.metrics.get(metric.opentelemetry_name, {}).items()
        }
        assert found.keys() == low.keys() == high.keys(), metric.name
        for key, value in found.items():
            if metric.name in GROWING:
                assert low[key] <= value <= high[key], (metric.name, key)
            elif metric.kind == "histogram":
                assert low[key] == high[key]
                assert value[:3] == high[key][:3], metric.name
                assert value.sum == pytest.approx(high[key].sum), metric.name
            else:
                assert low[key] == high[key], (metric.name, key)
                assert value == pytest.approx(high[key], rel=1e-12), (metric.name, key)


def backends(server: PostgresServer) -> tuple[int, int]:
    """Return how many backends the application has in a transaction, and without one."""
    with server.observer() as observer:
        rows = observer.execute(
            "select state = 'idle in transaction' from pg_stat_activity where application_name = %s", [NAME]
        ).fetchall()
    return sum(in_transaction for (in_transaction,) in rows), sum(not one for (one,) in rows)


def compare(receiver: Receiver, provider: MeterProvider, url: str, server: PostgresServer) -> tuple[int, int]:
    """Read all three at one moment, in which the event loop stands; return connections used and idle."""
    before = scraped(url)
    assert provider.force_flush()
    after = scraped(url)
    assert_same(receiver, before, after)
    counts = {
        dict(key)["db.client.connection.state"]: value
        for key, value in receiver.metrics["db.client.connection.count"].items()
    }
    assert (counts["used"], counts["idle"]) == backends(server)
    return counts["used"], counts["idle"]


async def in_use(engine: AsyncEngine) -> Any:
    connection = await engine.connect()
    await connection.execute(text("select 1"))
    return connection


async def some_trouble(engine: AsyncEngine, server: PostgresServer) -> None:
    """Let a connect be refused, and a pre-ping find an idle connection dead."""
    with server.observer() as observer:
        observer.execute(f"alter role {ROLE} nologin")
        with pytest.raises(DBAPIError):
            await engine.connect()
        observer.execute(f"alter role {ROLE} login")
    await (await in_use(engine)).close()
    server.terminate(NAME)
    await (await in_use(engine)).close()


async def full(engine: AsyncEngine, pool: Instrumentation, held: list[Any]) -> asyncio.Task[Any]:
    """Hold every connection, let one caller time out, and return one that waits in the queue."""
    while len(held) < 3:
        held.append(await in_use(engine))
    with pytest.raises(PoolTimeoutError):
        await engine.connect()
    waiter = asyncio.ensure_future(engine.connect())
    while pool.snapshot().pending_requests["queued"] == 0:
        await asyncio.sleep(0)
    return waiter


@pytest.mark.parametrize("temporality", [None, DELTA], ids=["cumulative", "delta"])
async def test_every_number_arrives_as_it_is(
    transport: str, temporality: Any, engine: AsyncEngine, server: PostgresServer
) -> None:
    """What a receiver got of each metric is what `/metrics` says, and connections are the server's backends."""
    registry = CollectorRegistry()
    with (
        exporting(transport, temporality) as (receiver, provider),
        instrument(engine, name=NAME, meter_provider=provider, registry=registry) as pool,
        start_server(0, registry=registry) as serving,
    ):
        url = serving.url
        await some_trouble(engine, server)
        held = [await in_use(engine), await in_use(engine)]
        await held.pop().close()
        assert compare(receiver, provider, url, server) == (1, 1)

        waiter = await full(engine, pool, held)
        assert compare(receiver, provider, url, server) == (3, 0)

        now = pool.snapshot()
        assert (now.timeouts, now.pre_ping_failures, now.failed_acquires) == (1, 1, 1)
        await held.pop().close()
        await (await waiter).close()
        for connection in held:
            await connection.close()
    assert receiver.exports >= 2
    assert {
        "db.client.connection.timeouts",
        "db.client.connection.wait_time",
    } <= receiver.deltas or not temporality
    if transport == "http-gzip":
        assert set(receiver.encodings) == {"gzip"}
