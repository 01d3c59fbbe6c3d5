"""Check what a registry gives for pool snapshots: names, labels and exact values."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pool_exporter.catalogue import CLOSE_REASONS, prometheus_metrics, series_per_pool
from pool_exporter.exporters.prometheus import SNAPSHOT_COST, PoolCollector, next_family, pieces
from pool_exporter.records import HistogramSnapshot, PoolSnapshot
from tests.exporters.snapshots import BUCKETS, snapshot
from tests.support import need_tool

Parse = Callable[[str], Iterable[Any]]
parse_openmetrics: Parse = openmetrics_parser.text_string_to_metric_families  # untyped upstream
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
POOL = "db:5432/app"
HOSTILE_NAMES = [
    'a "quoted" name',
    "back\\slash",
    "C:\\new\\table",
    "line\nbreak",
    "trailing backslash\\",
    "{curly} # hash, comma=1",
    "données/ряд/データ/🐘",
    "x" * 200,
    " ",
]


def registry_of(*snapshots: PoolSnapshot, **options: Any) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(PoolCollector(lambda: iter(snapshots), **options))
    return registry


def text_of(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def openmetrics_of(registry: CollectorRegistry) -> str:
    encoder, _ = choose_encoder(OPENMETRICS)
    return encoder(registry).decode()


def series_in(families: Iterable[Any]) -> Series:
    samples = [sample for family in families for sample in family.samples]
    series = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(series) == len(samples), "a series was exported twice"
    return series


def series(name: str, value: float, **labels: str) -> Series:
    return {("sqlalchemy_pool_" + name, frozenset({"pool": POOL, **labels}.items())): value}


def histogram_series(name: str, above_all: int, sum_seconds: float) -> Series:
    """Build what `snapshots.histogram` must look like: bucket n holds n(n+1)/2 samples."""
    expected: Series = {}
    for number, bound in enumerate(BUCKETS[name], 1):
        expected |= series(name + "_bucket", number * (number + 1) // 2, le=str(float(bound)))
    count = len(BUCKETS[name]) * (len(BUCKETS[name]) + 1) // 2 + above_all
    expected |= series(name + "_bucket", count, le="+Inf")
    return expected | series(name + "_count", count) | series(name + "_sum", sum_seconds)


def expected_series() -> Series:
    """Build every series of `snapshot()`, spelled out by hand and not from the catalogue."""
    expected: Series = {}
    for name, value in {
        "connections_max": 15,
        "size": 5,
        "overflow": 2,
        "processes": 1,
        "oldest_pending_seconds": 1.25,
        "oldest_use_seconds": 400.5,
        "oldest_quiet_seconds": 399.5,
        "orphaned_connections": 2,
        "unaccounted_slots": 0,
        "timeout_seconds": 30,
        "recycle_seconds": 1800,
        "start_time_seconds": 1700000000.5,
        "acquires_total": 1000,
        "checkouts_total": 980,
        "checkins_total": 970,
        "detaches_total": 3,
        "timeouts_total": 7,
        "cancelled_acquires_total": 5,
        "failed_acquires_total": 2,
        "waits_total": 100,
        "queue_seconds_total": 12.5,
        "stranded_waits_total": 4,
        "occupancy_seconds_total": 12345.75,
        "connects_total": 50,
        "pre_ping_failures_total": 8,
        "reset_failures_total": 6,
        "leaks_collected_total": 1,
        "statements_total": 5000,
        "telemetry_errors_total": 0,
    }.items():
        expected |= series(name, value)
    expected |= series("connections", 6, state="used") | series("connections", 1, state="idle")
    expected |= series("pending_requests", 3, phase="queued")
    expected |= series("pending_requests", 2, phase="connecting")
    expected |= series("pending_requests", 1, phase="pinging")
    for age, count in (("60", 4), ("300", 3), ("900", 2), ("1800", 1), ("3600", 0)):
        expected |= series("aged_uses", count, age=age)
    for kind, suspected, recovered in (("idle", 3, 1), ("idle_in_transaction", 4, 2), ("orphaned", 5, 3)):
        expected |= series("leaks_suspected_total", suspected, kind=kind)
        expected |= series("leaks_recovered_total", recovered, kind=kind)
    for kind, count in (("idle", 0), ("idle_in_transaction", 1), ("busy", 2), ("orphaned", 3)):
        expected |= series("overdue_uses", count, kind=kind)
    expected |= series("exempt_uses", 1)
    for owner, held, seconds, leaks in (
        ("POST /orders/{id}", 5, 12000.5, 13),
        ("jobs:nightly", 1, 345.25, 0),
    ):
        expected |= series("owner_connections", held, owner=owner)
        expected |= series("owner_use_seconds_total", seconds, owner=owner)
        expected |= series("owner_leaks_total", leaks, owner=owner)
    expected |= series("connect_errors_total", 2, error="asyncpg.exceptions.TooManyConnectionsError")
    expected |= series("disconnects_total", 9, error="asyncpg.exceptions.ConnectionDoesNotExistError")
    expected |= series("disconnects_total", 1, error="other")
    for number, reason in enumerate(CLOSE_REASONS):
        expected |= series("closes_total", number, reason=reason)
    expected |= series("invalidations_total", 2, kind="hard") | series("invalidations_total", 1, kind="soft")
    expected |= histogram_series("wait_seconds", 4, 81.5)
    expected |= histogram_series("use_seconds", 0, 900.25)
    expected |= histogram_series("connect_seconds", 0, 3.5)
    expected |= histogram_series("pre_ping_seconds", 0, 0.5)
    expected |= histogram_series("stale_idle_seconds", 0, 5000)
    expected |= histogram_series("stale_age_seconds", 0, 90000)
    return expected | series(
        "info",
        1,
        dialect="postgresql",
        driver="asyncpg",
        pool_class="AsyncAdaptedQueuePool",
        pre_ping="true",
        reset_on_return="rollback",
        server="db:5432",
        database="app",
        mode="full",
    )


def test_every_series_has_the_value_of_the_snapshot() -> None:
    """Each series of a pool is exported with exactly its number, and no other series is."""
    assert series_in(parse_text(text_of(registry_of(snapshot())))) == expected_series()


def test_openmetrics_says_the_same_as_text() -> None:
    """The OpenMetrics text parses by the strict parser and holds the same series."""
    assert series_in(parse_openmetrics(openmetrics_of(registry_of(snapshot())))) == expected_series()


def test_large_bounds_are_written_as_go_writes_them() -> None:
    """Bucket bounds are written like prometheus_client's own histograms write them, `1e+06` for a million."""
    pool = snapshot(use_seconds=HistogramSnapshot((0.5, 1e6), (1, 2, 3), 4e6))
    lines = [line for line in text_of(registry_of(pool)).splitlines() if "use_seconds_" in line]
    assert lines[-5:] == [
        'sqlalchemy_pool_use_seconds_bucket{le="0.5",pool="db:5432/app"} 1.0',
        'sqlalchemy_pool_use_seconds_bucket{le="1e+06",pool="db:5432/app"} 3.0',
        'sqlalchemy_pool_use_seconds_bucket{le="+Inf",pool="db:5432/app"} 6.0',
        'sqlalchemy_pool_use_seconds_count{pool="db:5432/app"} 6.0',
        'sqlalchemy_pool_use_seconds_sum{pool="db:5432/app"} 4e+06',
    ]


@pytest.mark.parametrize("detail", ["full", "basic"])
def test_the_number_of_series_is_the_stated_one(detail: Any) -> None:
    """A pool exports as many series as the catalogue says, error and owner labels aside."""
    exported = series_in(registry_of(snapshot(), detail=detail).collect())
    unbounded = [name for name, labels in exported if {"error", "owner"} & dict(labels).keys()]
    assert len(exported) - len(unbounded) == series_per_pool(detail)


def test_basic_detail_exports_the_basic_metrics_only() -> None:
    """With detail="basic" exactly the metrics marked basic are exported."""
    families = list(registry_of(snapshot(), detail="basic").collect())
    basic = {metric.prometheus_name for metric in prometheus_metrics() if metric.basic}
    names = {family.name for family in families}
    assert {"sqlalchemy_pool_wait_seconds", "sqlalchemy_pool_connections"} <= names
    assert "sqlalchemy_pool_connect_seconds" not in names
    assert len(names) == len(basic)


@pytest.mark.parametrize(
    ("field", "gone"),
    [
        ("max", "connections_max"),
        ("pending_requests", "pending_requests"),
        ("oldest_pending_seconds", "oldest_pending_seconds"),
        ("unaccounted_slots", "unaccounted_slots"),
        ("timeout_seconds", "timeout_seconds"),
        ("recycle_seconds", "recycle_seconds"),
        ("acquires", "acquires_total"),
        ("queue_seconds", "queue_seconds_total"),
        ("connect_errors", "connect_errors_total"),
        ("wait_seconds", "wait_seconds"),
    ],
)
def test_what_is_unknown_is_left_out(field: str, gone: str) -> None:
    """A field that is None takes its own series out and no others."""
    changes: dict[str, Any] = {field: None}
    exported = series_in(registry_of(snapshot(**changes)).collect())
    prefix = "sqlalchemy_pool_" + gone
    suffixes = ("", "_bucket", "_count", "_sum")
    assert exported == {
        key: value
        for key, value in expected_series().items()
        if key[0] not in {prefix + suffix for suffix in suffixes}
    }


def test_without_a_size_there_is_no_overflow() -> None:
    """A pool without pool_size has neither size nor overflow."""
    exported = series_in(registry_of(snapshot(size=None)).collect())
    assert expected_series().keys() - exported.keys() == (series("size", 5) | series("overflow", 2)).keys()


def test_a_bounded_label_value_that_is_unknown_is_left_out() -> None:
    """Where a mapping lacks one of a label's values, the series is left out instead of failing the scrape."""
    exported = series_in(registry_of(snapshot(pending_requests={"queued": 3})).collect())
    phases = [dict(labels)["phase"] for name, labels in exported if name.endswith("pending_requests")]
    assert phases == ["queued"]


def test_pools_share_families() -> None:
    """Two pools are two label values in the same families, never a second family of a name."""
    families = list(registry_of(snapshot("a", used=1), snapshot("b", used=2)).collect())
    names = [family.name for family in families]
    assert len(names) == len(set(names)) == len(prometheus_metrics())
    used = {
        sample.labels["pool"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "sqlalchemy_pool_connections" and sample.labels["state"] == "used"
    }
    assert used == {"a": 1, "b": 2}


def test_a_registry_without_pools_has_families_without_samples() -> None:
    """Before the first engine is instrumented a scrape succeeds and holds no series."""
    assert series_in(parse_text(text_of(registry_of()))) == {}


def test_each_snapshot_is_taken_once_in_a_scrape() -> None:
    """All series of a pool in one scrape come from the same snapshot."""
    taken: list[int] = []

    def source() -> Iterator[PoolSnapshot]:
        taken.append(len(taken) + 1)
        yield snapshot(checkouts=taken[-1], checkins=taken[-1])

    registry = CollectorRegistry()
    registry.register(PoolCollector(source))
    assert taken == []
    exported = series_in(registry.collect())
    assert taken == [1]
    both = series("checkouts_total", 1) | series("checkins_total", 1)
    assert {key: exported[key] for key in both} == both


def test_there_are_no_created_series() -> None:
    """No `_created` series double the number of counters and histograms."""
    assert "_created" not in text_of(registry_of(snapshot()))
    assert "_created" not in openmetrics_of(registry_of(snapshot()))


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize(
    ("render", "parse"),
    [(text_of, parse_text), (openmetrics_of, parse_openmetrics)],
    ids=["text", "openmetrics"],
)
def test_any_pool_name_comes_back_from_the_parser(
    name: str, render: Callable[[CollectorRegistry], str], parse: Parse
) -> None:
    """A pool name with quotes, backslashes, line breaks or any Unicode is read back as it was."""
    info = {**snapshot().info, "database": name}
    exported = series_in(parse(render(registry_of(snapshot(name, info=info), snapshot("other")))))
    assert {dict(labels)["pool"] for _, labels in exported} == {name, "other"}
    databases = {dict(labels)["database"] for metric, labels in exported if metric.endswith("_info")}
    assert databases == {name, "app"}


def test_a_name_that_is_no_unicode_does_not_fail_the_scrape() -> None:
    """A lone surrogate, as undecodable environment variables have, is replaced by a question mark."""
    exported = series_in(parse_text(text_of(registry_of(snapshot("db\udcff")))))
    assert {dict(labels)["pool"] for _, labels in exported} == {"db?"}


def test_promtool_accepts_the_text() -> None:
    """Prometheus's own linter has no complaint about names, help texts and types."""
    promtool = need_tool("promtool", "prometheus")
    names = [snapshot(name) for name in HOSTILE_NAMES]
    result = subprocess.run(
        [promtool, "check", "metrics"],
        input=generate_latest(registry_of(*names)),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stdout.decode(), result.stderr.decode()) == (0, "", "")


@pytest.mark.parametrize("detail", ["full", "basic"])
def test_the_whole_catalogue_is_described(detail: Any) -> None:
    """`describe()` names every family of the catalogue without samples, whatever the detail."""
    described = list(PoolCollector(lambda: [snapshot()], detail=detail).describe())
    collected = list(PoolCollector(lambda: [snapshot()]).collect())
    assert [(family.name, family.type) for family in described] == [
        (family.name, family.type) for family in collected
    ]
    assert all(family.samples == [] for family in described)


@pytest.mark.parametrize(
    "taken", ["sqlalchemy_pool_size", "sqlalchemy_pool_info", "sqlalchemy_pool_wait_seconds_sum"]
)
def test_a_taken_name_clashes_at_registration(taken: str) -> None:
    """A registry that already has a metric of one of our names refuses the collector at once."""
    registry = CollectorRegistry()
    Gauge(taken, "Somebody else's.", registry=registry)
    with pytest.raises(ValueError, match="Duplicated timeseries.*" + taken):
        registry.register(PoolCollector(list, detail="basic"))


def test_our_names_are_taken_for_others() -> None:
    """A metric of the application that takes one of our names, basic or not, is refused."""
    registry = registry_of(detail="basic")
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        Counter("sqlalchemy_pool_closes", "Somebody else's.", registry=registry)


# Piece by piece


def in_pieces(registry: Any, limit: int) -> list[list[Any]]:
    """Return the pieces of each family of a registry."""
    families = iter(registry.collect())
    parts = []
    while (family := next_family(families)) is not None:
        parts.append([piece.family for piece in pieces(family, limit)])
    return parts


@pytest.mark.parametrize("limit", [1, 7, 40, 100_000])
def test_pieces_make_up_the_families(limit: int) -> None:
    """The pieces of each family, put together, are what a plain collect gives, and none exceeds the limit."""
    errors = {f"module.Error{number}": number for number in range(21)}
    registry = registry_of(*(snapshot(f"pool{number}", disconnects=errors) for number in range(20)))
    Gauge("mine", "A foreign family.", ["label"], registry=registry).labels("x").set(1)
    parts = in_pieces(registry, limit)
    whole = list(registry.collect())
    assert [[(p.name, p.documentation, p.type, p.unit) for p in part[:1]] for part in parts] == [
        [(w.name, w.documentation, w.type, w.unit)] for w in whole
    ]
    assert [[sample for p in part for sample in p.samples] for part in parts] == [w.samples for w in whole]
    assert max(len(p.samples) for part in parts for p in part) <= limit


def test_pieces_of_a_restricted_registry_hold_the_asked_names_only() -> None:
    """A `name[]` filter applies to samples that are made later as it does to others."""
    registry = registry_of(snapshot("a"), snapshot("b"))
    restricted = registry.restricted_registry(
        ["sqlalchemy_pool_wait_seconds_sum", "sqlalchemy_pool_checkouts_total"]
    )
    samples = {
        (sample.name, sample.labels["pool"], sample.value)
        for part in in_pieces(restricted, 10)
        for piece in part
        for sample in piece.samples
    }
    assert samples == {
        ("sqlalchemy_pool_wait_seconds_sum", "a", 81.5),
        ("sqlalchemy_pool_wait_seconds_sum", "b", 81.5),
        ("sqlalchemy_pool_checkouts_total", "a", 980),
        ("sqlalchemy_pool_checkouts_total", "b", 980),
    }


def test_pieces_take_snapshots_a_few_at_a_time() -> None:
    """Snapshots are taken as the first family is made, no more in a piece than its limit pays for."""
    taken = 0

    def source() -> Iterator[PoolSnapshot]:
        nonlocal taken
        for number in range(50):
            taken += 1
            yield snapshot(f"pool{number}", size=None)

    registry = CollectorRegistry()
    registry.register(PoolCollector(source))
    families = iter(registry.collect())
    limit = 4 * SNAPSHOT_COST
    first = next_family(families)
    assert first is not None
    assert taken == 0
    steps = []
    for _ in pieces(first, limit):
        steps.append(taken)
    assert max(after - before for before, after in zip([0, *steps], steps, strict=False)) <= 5
    assert steps[-1] == 50
    in_pieces(registry, limit)
    assert taken == 100


def test_taking_snapshots_is_paid_for_without_samples() -> None:
    """Also where no pool has a sample of the family asked for, snapshots are taken in steps."""
    registry = registry_of(*(snapshot(f"pool{number}", size=None) for number in range(20)))
    (parts,) = in_pieces(registry.restricted_registry(["sqlalchemy_pool_size"]), SNAPSHOT_COST)
    assert len(parts) == 20
    assert all(piece.samples == [] for piece in parts)


def test_a_plain_collect_between_pieces_is_whole() -> None:
    """While one scrape goes on piece by piece, another of the same registry, here or in a thread, is whole."""
    registry = registry_of(snapshot())
    families = iter(registry.collect())
    first = next_family(families)
    assert first is not None
    others = [series_in(registry.collect())]
    thread = threading.Thread(target=lambda: others.append(series_in(registry.collect())))
    thread.start()
    thread.join()
    assert others == [expected_series(), expected_series()]


def test_a_plain_collect_during_next_family_is_whole() -> None:
    """Another thread that collects at the very moment in which families are deferred gets whole ones."""
    others = []

    class Interfering:
        def collect(self) -> Iterator[Any]:
            thread = threading.Thread(target=lambda: others.append(series_in(registry.collect())))
            if not others:
                others.append({})
                thread.start()
                thread.join()
            yield from ()

    registry = CollectorRegistry()
    registry.register(Interfering())
    registry.register(PoolCollector(lambda: [snapshot()]))
    in_pieces(registry, 10)
    assert others[1:] == [expected_series()]
