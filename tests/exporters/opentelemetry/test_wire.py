"""Check what arrives over OTLP, against `/metrics` and the database's own list, at the same moment."""

from __future__ import annotations

import asyncio
import contextlib
import math
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
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
from pool_exporter.catalogue.vocabularies import POOL_ATTRIBUTE, attribute_of
from tests.exporters.opentelemetry.receivers import (
    Attributes,
    Buckets,
    Receiver,
    grpc_receiver,
    http_receiver,
)
from tests.lab.demo.running import until
from tests.postgres import DATABASE, PostgresServer
from tests.prometheus import EVERY_SECOND, Prometheus, running_prometheus

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


@pytest.fixture(scope="module", autouse=True)
def role(postgres: PostgresServer) -> Iterator[None]:
    """A role of this module's own, which a test locks out."""
    with postgres.observer() as observer:
        observer.execute(f"create role {ROLE} login")
        yield
        observer.execute(f"drop role {ROLE}")


@pytest.fixture
async def engine(postgres: PostgresServer) -> AsyncIterator[AsyncEngine]:
    made = create_async_engine(
        f"postgresql+asyncpg://{ROLE}@127.0.0.1:{postgres.port}/{DATABASE}",
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


def backends(postgres: PostgresServer) -> tuple[int, int]:
    """Return how many backends the application has in a transaction, and without one."""
    with postgres.observer() as observer:
        rows = observer.execute(
            "select state = 'idle in transaction' from pg_stat_activity where application_name = %s", [NAME]
        ).fetchall()
    return sum(in_transaction for (in_transaction,) in rows), sum(not one for (one,) in rows)


def compare(
    receiver: Receiver, provider: MeterProvider, url: str, postgres: PostgresServer
) -> tuple[int, int]:
    """Read all three at one moment, in which the event loop stands; return connections used and idle."""
    before = scraped(url)
    assert provider.force_flush()
    after = scraped(url)
    assert_same(receiver, before, after)
    counts = {
        dict(key)["db.client.connection.state"]: value
        for key, value in receiver.metrics["db.client.connection.count"].items()
    }
    assert (counts["used"], counts["idle"]) == backends(postgres)
    return counts["used"], counts["idle"]


async def in_use(engine: AsyncEngine) -> Any:
    connection = await engine.connect()
    await connection.execute(text("select 1"))
    return connection


async def some_trouble(engine: AsyncEngine, postgres: PostgresServer) -> None:
    """Let a connect be refused, and a pre-ping find an idle connection dead."""
    with postgres.observer() as observer:
        observer.execute(f"alter role {ROLE} nologin")
        try:
            with pytest.raises((DBAPIError, asyncpg.PostgresError)):  # SQLAlchemy 2.0 leaves it as it is
                await engine.connect()
        finally:
            observer.execute(f"alter role {ROLE} login")
    await (await in_use(engine)).close()
    postgres.terminate(NAME)
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
    transport: str, temporality: Any, engine: AsyncEngine, postgres: PostgresServer
) -> None:
    """What a receiver got of each metric is what `/metrics` says, and connections are the server's backends."""
    registry = CollectorRegistry()
    with (
        exporting(transport, temporality) as (receiver, provider),
        instrument(engine, name=NAME, meter_provider=provider, registry=registry) as pool,
        start_server(0, registry=registry) as serving,
    ):
        url = serving.url
        await some_trouble(engine, postgres)
        held = [await in_use(engine), await in_use(engine)]
        await held.pop().close()
        assert compare(receiver, provider, url, postgres) == (1, 1)

        waiter = await full(engine, pool, held)
        assert compare(receiver, provider, url, postgres) == (3, 0)

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


def stored(server: Prometheus) -> tuple[Series, dict[str, str]]:
    """Return what Prometheus has of the target, by name and labels, and the type of each family."""
    until(lambda: not math.isnan(server.value("count(db_client_connection_count)")), "a scrape")
    found: Series = {}
    for one in server.get("query", query='{job="wire"}')["result"]:
        labels = {key: value for key, value in one["metric"].items() if key not in ("job", "instance")}
        name = labels.pop("__name__")
        found.setdefault(name, {})[frozenset(labels.items())] = float(one["value"][1])
    types = {one["metric"]: one["type"] for one in server.get("targets/metadata")}
    return found, types


def spelled(key: Attributes) -> Attributes:
    """Return attributes as labels."""
    return frozenset((name.replace(".", "_"), value) for name, value in key)


async def test_prometheus_has_the_names_that_the_catalogue_says(
    engine: AsyncEngine, postgres: PostgresServer, tmp_path: Path
) -> None:
    """A real Prometheus that scrapes OpenTelemetry's exporter has each name, type, label and value."""
    registry, own = CollectorRegistry(), CollectorRegistry()
    reader = PrometheusMetricReader(registry=own)
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    with (
        instrument(engine, name=NAME, meter_provider=provider, registry=registry),
        start_server(0, registry=registry) as ours,
        start_server(0, registry=own) as theirs,
    ):
        await some_trouble(engine, postgres)
        said = scraped(ours.url)
        host, port = theirs.address
        scraping = EVERY_SECOND.format(job="wire", target=f"{host}:{port}")
        with running_prometheus(tmp_path, scraping) as running:
            found, types = stored(running)
    provider.shutdown()
    identity = {name.replace(".", "_") for name in IDENTITY}
    for metric in CATALOGUE:
        name, want = metric.collector_name, expected(metric, said)
        if metric.kind == "info":
            # A Collector writes _ratio for a gauge of unit 1; this exporter writes nothing for that unit:
            # _UNIT_MAPPINGS in opentelemetry/exporter/prometheus/_mapping.py.
            name = name.removesuffix("_ratio")
        if not want:
            continue
        kind = "gauge" if metric.kind == "info" else metric.kind
        family = name.removesuffix("_total") if name.removesuffix("_total") in types else name
        assert types.get(family) == kind, name
        sample = name + "_count" if metric.kind == "histogram" else name
        have = {
            frozenset(
                (label, value)
                for label, value in key
                if label not in identity and not label.startswith("otel_scope_")
            ): value
            for key, value in found[sample].items()
        }
        values = {
            spelled(key): value.count if isinstance(value, Buckets) else value for key, value in want.items()
        }
        assert have == pytest.approx(values), name
        if metric.kind == "histogram":
            assert {float(dict(key)["le"]) for key in found[name + "_bucket"]} == {*metric.buckets, math.inf}


@pytest.mark.parametrize("fault", ["refuse", "hang"])
async def test_nothing_is_lost_while_the_receiver_is_away(fault: str, engine: AsyncEngine) -> None:
    """A receiver that refuses or hangs costs no checkout, and the next good export has every sample."""
    with http_receiver() as receiver:
        exporter = HttpExporter(receiver.url, timeout=0.3)
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
        provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
        with instrument(engine, name=NAME, meter_provider=provider) as pool:
            receiver.fault = fault
            export = asyncio.ensure_future(asyncio.to_thread(provider.force_flush))
            uses = 0
            while not export.done() or not receiver.faults:
                await (await in_use(engine)).close()
                uses += 1
            assert receiver.exports == 0
            receiver.fault = ""
            receiver.healed.set()
            held = await in_use(engine)
            await asyncio.to_thread(provider.shutdown)  # which exports for the last time
            await held.close()
            assert pool.snapshot().telemetry_errors == 0
            assert pool.snapshot().checkouts == uses + 1
    (times,) = receiver.metrics["db.client.connection.use_time"].values()
    (checkouts,) = receiver.metrics["sqlalchemy.pool.checkouts"].values()
    assert (times.count, checkouts) == (uses, uses + 1)
