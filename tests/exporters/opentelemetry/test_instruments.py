"""Check that every number of a snapshot reaches OpenTelemetry, with its kind and attributes."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.metrics import (
    MeterProvider,
)
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
)
from prometheus_client import REGISTRY, CollectorRegistry
from sqlalchemy import Engine, text

from pool_exporter import instrument
from pool_exporter.catalogue import CATALOGUE, Metric
from pool_exporter.catalogue.vocabularies import attribute_of
from pool_exporter.exporters.opentelemetry.attributes import pool_attributes, split_server
from pool_exporter.exporters.opentelemetry.instruments import PoolInstruments, Reading
from tests.exporters.opentelemetry.collecting import POOL, STATE, collect
from tests.exporters.opentelemetry.pools import HISTOGRAMS, use
from tests.exporters.snapshots import snapshot

OBSERVED = [metric for metric in CATALOGUE if metric.kind != "histogram"]


by_name = pytest.mark.parametrize("metric", OBSERVED, ids=lambda metric: metric.name)


def told(provider: MeterProvider, **changes: Any) -> None:
    """Tell a provider of a synthetic pool whose every number is known."""
    instruments = PoolInstruments(
        provider,
        lambda: [Reading(snapshot(**changes), pool_attributes(snapshot(**changes)))],
        {metric.name: metric.buckets for metric in HISTOGRAMS},
    )
    provider.kept = instruments  # type: ignore[attr-defined]  # as long as the provider


def expected_points(metric: Metric) -> dict[frozenset[tuple[str, Any]], Any]:
    """Return a metric's values by the attributes that come to those of the pool."""
    value = getattr(snapshot(), metric.field)
    if metric.kind == "info":
        return {frozenset((attribute_of(label), value[label]) for label in metric.labels): 1}
    if metric.convention_sums:
        return {frozenset(): sum(value.values())}
    if metric.labels:
        (label,) = metric.labels
        return {frozenset({(attribute_of(label), key)}): number for key, number in value.items()}
    return {frozenset(): value}


@by_name
def test_every_number_of_a_snapshot_is_observed(
    metric: Metric, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """A metric has its name, unit and description, and its values by the labels that became attributes."""
    told(provider)
    found = collect(reader).metrics[metric.opentelemetry_name]
    assert (found.unit, found.description) == (metric.opentelemetry_unit, metric.opentelemetry_help)
    pool = pool_attributes(snapshot()).items()
    points = {
        frozenset(dict(point.attributes).items() - pool): point.value for point in found.data.data_points
    }
    assert points == expected_points(metric)


@by_name
def test_each_instrument_is_of_its_kind(
    metric: Metric, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """Counters only rise, what can be added up goes up and down, and the rest is a gauge."""
    told(provider)
    data: Any = collect(reader).metrics[metric.opentelemetry_name].data
    if metric.kind == "counter":
        assert data.is_monotonic
    elif metric.unit in ("connections", "uses", "requests"):
        assert data.is_monotonic is False
    else:
        assert not hasattr(data, "is_monotonic")


def test_identity_goes_along_with_every_number(provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    """Each point says of which pool and of which database it is."""
    told(provider)
    collected = collect(reader)
    for name in collected.metrics:
        for point in collected.points(name):
            assert (
                point.attributes.items()
                >= {
                    POOL: "db:5432/app",
                    "db.system.name": "postgresql",
                    "db.namespace": "app",
                    "server.address": "db",
                    "server.port": 5432,
                }.items()
            )


@pytest.mark.parametrize(
    ("server", "address", "port"),
    [
        ("db:5432", "db", 5432),
        ("[::1]:5432", "::1", 5432),
        ("db", "db", None),
        ("/var/run/postgresql", "/var/run/postgresql", None),
        ("one:5432,two:5432", "one:5432,two:5432", None),
        ("[::1]", "[::1]", None),
        ("db:²", "db:²", None),
    ],
)
def test_a_server_is_split_into_address_and_port(server: str, address: str, port: int | None) -> None:
    """A port is a number of its own; several servers and sockets stay as they are."""
    assert split_server(server) == (address, port)


@pytest.mark.parametrize(
    ("dialect", "system"),
    [
        ("mssql", "microsoft.sql_server"),
        ("oracle", "oracle.db"),
        ("mysql", "mysql"),
        ("unheard", "other_sql"),
    ],
)
def test_dialects_have_the_conventions_names(dialect: str, system: str) -> None:
    """`db.system.name` has a value of the conventions', `other_sql` where they know none."""
    assert pool_attributes(snapshot(info={"dialect": dialect}))["db.system.name"] == system


def test_what_cannot_be_known_is_not_observed(provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    """A pool without a limit has no max, and a name without its characters is still a name."""
    told(provider, max=None, pending_requests=None, name="p\udcff", info={"server": "", "dialect": "sqlite"})
    collected = collect(reader)
    assert "db.client.connection.max" not in collected.metrics
    assert "db.client.connection.pending_requests" not in collected.metrics
    assert "sqlalchemy.pool.pending_requests" not in collected.metrics
    info = collected.point("sqlalchemy.pool.info").attributes
    assert dict(info) == {POOL: "p?", "db.system.name": "sqlite", "sqlalchemy.pool.dialect": "sqlite"}


def test_a_real_pool_is_told_of(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """Used, idle, pending, timeouts and the three histograms are those of the snapshot."""
    with instrument(engine, name="orders", meter_provider=provider) as pool, engine.connect() as connection:
        use(engine, 3)
        connection.execute(text("select 1"))
        collected = collect(reader)
        now = pool.snapshot()
    assert collected.value("db.client.connection.count", **{STATE.replace(".", "__"): "used"}) == 1
    assert collected.value("db.client.connection.count", **{STATE.replace(".", "__"): "idle"}) == 1
    assert collected.value("db.client.connection.max") == 5
    assert collected.value("db.client.connection.idle.max") == 2
    assert collected.value("sqlalchemy.pool.statements") == now.statements == 1
    assert now.wait_seconds is not None
    for name, histogram in (
        ("wait_time", now.wait_seconds),
        ("use_time", now.use_seconds),
        ("create_time", now.connect_seconds),
    ):
        point = collected.point("db.client.connection." + name)
        assert histogram is not None
        assert point.count == histogram.count
        assert point.sum == pytest.approx(histogram.sum)
        assert tuple(point.bucket_counts) == histogram.counts
        assert tuple(point.explicit_bounds) == histogram.bounds


def test_prometheus_is_off_unless_asked_for(engine: Engine, provider: MeterProvider) -> None:
    """With a meter provider the default registry is left alone; one that is given serves as well."""
    with instrument(engine, name="only told", meter_provider=provider):
        assert REGISTRY.get_sample_value("sqlalchemy_pool_checkouts_total", {"pool": "only told"}) is None
    registry = CollectorRegistry()
    with instrument(engine, name="both", meter_provider=provider, registry=registry):
        assert registry.get_sample_value("sqlalchemy_pool_checkouts_total", {"pool": "both"}) == 0


def test_both_exports_say_the_same(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """What OpenTelemetry observes is what the registry exposes at that moment."""
    registry = CollectorRegistry()
    with instrument(engine, name="orders", meter_provider=provider, registry=registry):
        use(engine, 70)
        connection = engine.connect()
        collected = collect(reader)
        compared = 0
        for metric in OBSERVED:
            if metric.kind != "counter" or metric.labels or metric.unit == "seconds":
                continue
            value = registry.get_sample_value(metric.prometheus_name, {"pool": "orders"})
            assert collected.value(metric.opentelemetry_name) == value, metric.name
            compared += 1
        connection.close()
    assert compared >= 15
