"""Check the catalogue: unique names, a value behind each, the promised buckets and number of series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import create_engine
from sqlalchemy.pool import QueuePool

from pool_exporter import PoolSnapshot, instrument
from pool_exporter.catalogue import (
    CATALOGUE,
    MAX_ERROR_LABELS,
    Detail,
    Metric,
    prometheus_metrics,
    resolve_buckets,
    series_per_pool,
)

CONVENTIONS = {
    "connections": ("db.client.connection.count", "{connection}"),
    "connections_max": ("db.client.connection.max", "{connection}"),
    "size": ("db.client.connection.idle.max", "{connection}"),
    "idle_min": ("db.client.connection.idle.min", "{connection}"),
    "pending_requests": ("db.client.connection.pending_requests", "{request}"),
    "pending_requests_by_phase": ("sqlalchemy.pool.pending_requests", "{request}"),
    "timeouts_total": ("db.client.connection.timeouts", "{timeout}"),
    "wait_seconds": ("db.client.connection.wait_time", "s"),
    "use_seconds": ("db.client.connection.use_time", "s"),
    "connect_seconds": ("db.client.connection.create_time", "s"),
    "timeout_seconds": ("sqlalchemy.pool.config.timeout", "s"),
    "recycle_seconds": ("sqlalchemy.pool.config.recycle", "s"),
    "start_time_seconds": ("sqlalchemy.pool.start_time", "s"),
}
BUCKETS = {
    "wait_seconds": (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60),
    "use_seconds": (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600),
    "connect_seconds": (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10),
    "pre_ping_seconds": (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 1),
    "stale_idle_seconds": (10, 60, 300, 600, 1800, 3600, 14400, 86400),
    "stale_age_seconds": (10, 60, 300, 600, 1800, 3600, 14400, 86400),
}
SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "gauge": ("",), "counter": ("",), "info": ("",)}
each_metric = pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)


def sample_names(metric: Metric) -> list[str]:
    """Return every name that a metric claims in the Prometheus format."""
    family = metric.prometheus_name.removesuffix("_total").removesuffix("_info")
    samples = [metric.prometheus_name + suffix for suffix in SUFFIXES[metric.kind]]
    return [*dict.fromkeys([family, *samples])]


VOCABULARIES: dict[str, Callable[[Metric], list[str]]] = {
    "prometheus": sample_names,
    "opentelemetry": lambda metric: [metric.opentelemetry_name],
    "collector": lambda metric: [
        metric.collector_name + suffix for suffix in SUFFIXES[metric.kind] if metric.collector_name
    ],
}


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_no_two_metrics_share_a_name(vocabulary: str) -> None:
    """In each vocabulary a name, with all the suffixes that come of it, belongs to one metric."""
    counted = Counter(name for metric in CATALOGUE for name in VOCABULARIES[vocabulary](metric))
    assert [name for name, count in counted.items() if count > 1] == []


def test_no_collector_name_is_a_prometheus_name() -> None:
    """Both roads may lead into one Prometheus, where one name must not mean two things."""
    prometheus = {name for metric in CATALOGUE for name in VOCABULARIES["prometheus"](metric)}
    collector = {name for metric in CATALOGUE for name in VOCABULARIES["collector"](metric)}
    meanings = {metric.prometheus_name: metric.field for metric in CATALOGUE if metric.in_prometheus}
    same = {m.collector_name for m in CATALOGUE if meanings.get(m.collector_name) == m.field}
    assert prometheus & collector <= same | {name.removesuffix("_total") for name in same}


@each_metric
def test_every_metric_has_a_value_in_the_snapshot(metric: Metric) -> None:
    """The field that an exporter reads exists in the record."""
    assert hasattr(PoolSnapshot, metric.field)


@each_metric
def test_every_help_is_a_full_sentence_of_its_own(metric: Metric) -> None:
    """A help begins with a capital, ends with a full stop and does not merely repeat the name."""
    assert metric.help[0].isupper()
    assert metric.help.endswith(".")
    assert "\n" not in metric.help
    assert len(metric.help.split()) >= 5
    assert metric.help.lower().rstrip(".") != metric.name.replace("_", " ")


@each_metric
def test_names_tell_kind_and_unit(metric: Metric) -> None:
    """Counters end in _total and nothing else does; what is measured in seconds says so."""
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.name.removesuffix("_total").endswith("_seconds") == (metric.unit == "seconds")
    assert "milli" not in metric.name


@each_metric
def test_opentelemetry_names_are_the_conventions_or_made_by_rule(metric: Metric) -> None:
    """Names and units are those of the semantic conventions where they have one."""
    stem = metric.name.removesuffix("_total")
    made = "sqlalchemy.pool." + (
        stem.removesuffix("_seconds") + "_time" if stem.endswith("_seconds") else stem
    )
    name, unit = CONVENTIONS.get(metric.name, (made, None))
    assert metric.opentelemetry_name == name
    if unit is not None:
        assert metric.opentelemetry_unit == unit


def test_buckets_are_those_that_dashboards_rely_on() -> None:
    """Every histogram has just the bounds of the contract, in seconds."""
    assert {metric.name: metric.buckets for metric in CATALOGUE if metric.kind == "histogram"} == BUCKETS
    assert resolve_buckets(None) == BUCKETS


@pytest.mark.parametrize(("detail", "most"), [("full", 140), ("basic", 60)])
def test_series_stay_within_the_budget(detail: Detail, most: int) -> None:
    """One pool costs a scrape no more series than promised."""
    assert series_per_pool(detail) <= most


@pytest.mark.parametrize("detail", ["full", "basic"])
def test_a_bounded_pool_exports_just_so_many_series(detail: Detail) -> None:
    """The promised number is what a fresh QueuePool with a recycle age really exposes."""
    registry = CollectorRegistry()
    engine = create_engine("sqlite://", poolclass=QueuePool, pool_recycle=60)
    with instrument(engine, registry=registry, detail=detail):
        lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    assert len(lines) == series_per_pool(detail)
    exported = {line.partition("{")[0] for line in lines}
    wanted = {
        name + suffix
        for metric in prometheus_metrics(detail)
        if not metric.open_label
        for name in [metric.prometheus_name]
        for suffix in SUFFIXES[metric.kind]
    }
    assert exported == wanted


def test_error_labels_are_bounded() -> None:
    """A pool has at most 20 series for each kind of error, and one for all others."""
    assert MAX_ERROR_LABELS == 20
