"""Check what OpenTelemetry is told: every metric of the catalogue, from the snapshot, sample by sample."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.sdk.metrics import (
    AlwaysOnExemplarFilter,
    Histogram,
    MeterProvider,
    ObservableCounter,
    ObservableUpDownCounter,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    InMemoryMetricReader,
)
from opentelemetry.sdk.metrics.view import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from prometheus_client import REGISTRY, CollectorRegistry
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool, QueuePool

from pool_exporter import PoolSnapshot, instrument
from pool_exporter.catalogue import CATALOGUE, Metric
from pool_exporter.catalogue.vocabularies import attribute_of
from pool_exporter.exporters.opentelemetry.attributes import pool_attributes, split_server
from pool_exporter.exporters.opentelemetry.instruments import PoolInstruments, Reading
from pool_exporter.exporters.opentelemetry.provider import MAX_SAMPLES, MAX_SAMPLES_UNASKED, WAITING_SAMPLES
from pool_exporter.exporters.opentelemetry.retired_pools import FAREWELL_SECONDS, RetiredPools
from pool_exporter.instrumentation.runtime import RUNTIME
from tests.exporters.opentelemetry.collecting import POOL, STATE, Collected, collect
from tests.exporters.snapshots import snapshot

DELTA = dict.fromkeys((ObservableCounter, ObservableUpDownCounter, Histogram), AggregationTemporality.DELTA)
DEADLINE_SECONDS = 20.0
HISTOGRAMS = [metric for metric in CATALOGUE if metric.kind == "histogram"]
OBSERVED = [metric for metric in CATALOGUE if metric.kind != "histogram"]
by_name = pytest.mark.parametrize("metric", OBSERVED, ids=lambda metric: metric.name)


def use(engine: Engine, times: int = 1) -> None:
    for _ in range(times):
        with engine.connect():
            pass


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


def test_own_buckets_are_advice_to_the_sdk(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """The bounds that were asked for are those of the exported histogram."""
    with instrument(engine, meter_provider=provider, buckets={"wait_seconds": [0.25, 0.5]}):
        use(engine)
        assert collect(reader).point("db.client.connection.wait_time").explicit_bounds == (0.25, 0.5)


def test_other_buckets_of_one_provider_are_refused(engine: Engine, provider: MeterProvider) -> None:
    """One provider has one set of instruments, hence one set of bounds and one level of detail."""
    other = create_engine("sqlite://", poolclass=QueuePool)
    with instrument(engine, meter_provider=provider):
        with pytest.raises(ValueError, match="meter provider's pools have other buckets already"):
            instrument(other, meter_provider=provider, buckets={"wait_seconds": [1]})
        with pytest.raises(ValueError, match="detail='basic': this meter provider's pools"):
            instrument(other, meter_provider=provider, detail="basic")


@pytest.mark.parametrize(
    "view",
    [
        View(instrument_name="db.client.connection.*", aggregation=ExponentialBucketHistogramAggregation()),
        View(
            instrument_name="db.client.connection.*_time",
            aggregation=ExplicitBucketHistogramAggregation(boundaries=[10.0]),
        ),
    ],
    ids=["exponential", "explicit"],
)
def test_views_have_every_sample(view: View, engine: Engine, reader: InMemoryMetricReader) -> None:
    """Whatever a view makes of a histogram, it gets each sample once and with its exact value."""
    provider = MeterProvider([reader], views=[view], shutdown_on_exit=False)
    with instrument(engine, meter_provider=provider) as pool:
        use(engine, 10)
        point = collect(reader).point("db.client.connection.wait_time")
        waits = pool.snapshot().wait_seconds
    assert waits is not None
    assert point.count == 10
    assert point.sum == pytest.approx(waits.sum)
    if isinstance(point, ExponentialHistogramDataPoint):
        assert sum(point.positive.bucket_counts) == 10
        assert point.scale > 0
    else:
        assert point.bucket_counts == (10, 0)
    provider.shutdown()


def test_delta_and_cumulative_readers_each_have_every_sample_once(engine: Engine) -> None:
    """Several readers of different temporality, collecting in any order, lose and repeat nothing."""
    cumulative, delta = InMemoryMetricReader(), InMemoryMetricReader(preferred_temporality=DELTA)
    provider = MeterProvider([cumulative, delta], shutdown_on_exit=False)
    wait, checkouts = "db.client.connection.wait_time", "sqlalchemy.pool.checkouts"
    with instrument(engine, meter_provider=provider):
        seen = []
        for reader in (delta, cumulative, cumulative, delta, delta):
            use(engine, 3)
            collected = collect(reader)
            seen.append((collected.point(wait).count, collected.value(checkouts)))
    assert seen == [(3, 3), (6, 6), (9, 9), (9, 9), (3, 3)]
    provider.shutdown()


def test_a_delta_reader_has_gauges_as_they_are(engine: Engine) -> None:
    """With the temporality that exporters ask for, used and idle stay what they are now."""
    delta = {ObservableCounter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
    reader = InMemoryMetricReader(preferred_temporality=delta)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with instrument(engine, meter_provider=provider), engine.connect():
        values = [
            collect(reader).value("db.client.connection.count", db__client__connection__state="used")
            for _ in range(3)
        ]
    assert values == [1, 1, 1]
    provider.shutdown()


def test_samples_from_before_the_first_collection_are_not_lost(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """They wait for it, as many as are kept before it is known that there will be one."""
    with instrument(engine, meter_provider=provider):
        use(engine, 600)
        assert RUNTIME.check() is not None  # nothing is recorded before its time
        assert collect(reader).point("db.client.connection.use_time").count == 600


def test_many_samples_before_the_first_collection_are_all_there(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """However long the first collection takes to come: they are recorded in the background until then."""
    with instrument(engine, meter_provider=provider):
        for _ in range(3):
            use(engine, 2 * MAX_SAMPLES_UNASKED)
            RUNTIME.check()
        assert collect(reader).point("db.client.connection.wait_time").count == 6 * MAX_SAMPLES_UNASKED


@pytest.mark.parametrize("temporality", [None, DELTA], ids=["cumulative", "delta"])
@pytest.mark.parametrize("dropped", [True, False])
def test_a_successor_by_the_same_name_counts_on(temporality: Any, dropped: bool) -> None:
    """The counters of one series never go back, whichever engine they are of; nor do they disagree with histograms."""
    reader = InMemoryMetricReader(preferred_temporality=temporality)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    seen = []
    for times in (20, 5, 7):
        engine = create_engine("sqlite://", poolclass=QueuePool)
        pool = instrument(engine, name="n", meter_provider=provider)
        use(engine, times)
        collected = collect(reader)
        seen.append(
            (
                collected.value("sqlalchemy.pool.checkouts"),
                collected.point("db.client.connection.use_time").count,
                collected.value("sqlalchemy.pool.closes", sqlalchemy__pool__reason="dispose"),
            )
        )
        use(engine, 1)  # after the last collection of its life
        engine.dispose()
        if not dropped:
            pool.uninstrument()
        del engine, pool
        gc.collect()
    each, total = [(20, 20, 0), (6, 6, 1), (8, 8, 1)], [(20, 20, 0), (26, 26, 1), (34, 34, 2)]
    assert seen == (total if temporality is None else each)
    provider.shutdown()


def test_what_nobody_ever_collects_does_not_pile_up(engine: Engine) -> None:
    """Where no provider is set the last samples are kept and no more."""
    with instrument(engine, meter_provider=_ProxyMeterProvider()) as pool:
        use(engine, MAX_SAMPLES_UNASKED + 200)
        pool.snapshot()
        kept = pool._ledger.samples()
    assert {len(samples) for samples in kept.values()} == {MAX_SAMPLES_UNASKED, 1}


def test_waiting_samples_are_recorded_in_the_background(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """Between two collections many samples are recorded already; no sample is missing in the next."""
    with instrument(engine, meter_provider=provider) as pool:
        collect(reader)
        RUNTIME.watcher.stop()  # whose part is played here
        use(engine, WAITING_SAMPLES + 50)
        RUNTIME.check()
        assert not pool._ledger.counts.wait_seconds.samples
        use(engine, 5)
        assert collect(reader).point("db.client.connection.wait_time").count == WAITING_SAMPLES + 55


def test_samples_that_come_too_fast_are_a_reported_fault(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where samples had to be dropped, the pool's own errors say so."""
    monkeypatch.setattr("pool_exporter.exporters.opentelemetry.provider.MAX_SAMPLES", 10)
    with instrument(engine, meter_provider=provider) as pool:
        collect(reader)
        use(engine, 30)
        pool.snapshot()
        collect(reader)
        assert pool.snapshot().telemetry_errors == 2  # of waits, and of uses
    assert MAX_SAMPLES > 10_000


def test_an_uninstrumented_pool_is_told_of_no_more(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """What it had counted is told once more, with its last samples; what it is, no more."""
    with instrument(engine, name="orders", meter_provider=provider):
        use(engine, 2)
        assert collect(reader).value("sqlalchemy.pool.checkouts") == 2
        use(engine, 3)
    use(engine, 7)
    collected = collect(reader)
    assert collected.value("sqlalchemy.pool.checkouts") == 5
    assert collected.point("db.client.connection.wait_time").count == 5
    assert collected.points("db.client.connection.max") == []
    assert collected.points("sqlalchemy.pool.info") == []
    assert collect(reader).points("sqlalchemy.pool.checkouts") == []


def test_a_pool_that_has_counted_nothing_since_is_gone_at_once(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """There is nothing to tell once more."""
    with instrument(engine, meter_provider=provider):
        use(engine)
        collect(reader)
    assert collect(reader).points("sqlalchemy.pool.checkouts") == []


def test_an_engine_that_lives_between_two_collections_is_counted(reader: InMemoryMetricReader) -> None:
    """A job that makes an engine, uses it and lets it go has its counts told, also as differences."""
    deltas = InMemoryMetricReader(preferred_temporality=DELTA)
    provider = MeterProvider([deltas], shutdown_on_exit=False)
    for name in ("first", "first", "second"):
        engine = create_engine("sqlite://", poolclass=QueuePool)
        instrument(engine, name=name, meter_provider=provider)
        use(engine, 3)
        engine.dispose()
        del engine
        gc.collect()
    collected = collect(deltas)
    pool = POOL.replace(".", "__")
    for name, count in (("first", 6), ("second", 3)):
        assert collected.value("sqlalchemy.pool.checkouts", **{pool: name}) == count
        assert collected.point("db.client.connection.wait_time", **{pool: name}).count == count
    assert collect(deltas).points("sqlalchemy.pool.checkouts") == []
    provider.shutdown()


def test_each_of_several_readers_is_told_of_a_pool_that_went(engine: Engine) -> None:
    """Nobody says who collects, so that one that is gone is told of to all."""
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    provider = MeterProvider(readers, shutdown_on_exit=False)
    with instrument(engine, meter_provider=provider):
        use(engine, 3)
    for reader in (*readers, *readers):
        assert collect(reader).value("sqlalchemy.pool.checkouts") == 3
    provider.shutdown()


def test_several_readers_have_some_time_and_at_least_one_collection() -> None:
    """A pool that went is told of for two minutes, and once to who comes later than that."""
    now = [100.0]
    departed = RetiredPools(lambda: False, lambda: now[0])
    gone = snapshot()
    departed.add(1, gone, pool_attributes(gone), gone, final=True)
    for seconds in (0.0, FAREWELL_SECONDS - 1, FAREWELL_SECONDS + 500):
        now[0] = 100 + seconds
        assert [reading.snapshot for reading in departed.farewells(set())] == [gone]
    assert list(departed.farewells(set())) == []


def test_a_namesake_that_is_there_is_told_of_once(
    provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """Where a pool has taken the place of the one that went, it alone is told of, and counts on."""
    for again in (False, True):
        engine = create_engine("sqlite://", poolclass=QueuePool)
        made = instrument(engine, name="same", meter_provider=provider)
        use(engine, 2)
        if not again:
            made.uninstrument()
    assert collect(reader).value("sqlalchemy.pool.checkouts") == 4
    made.uninstrument()
    assert collect(reader).points("sqlalchemy.pool.checkouts") == []


def test_counts_are_of_no_span(engine: Engine, reader: InMemoryMetricReader) -> None:
    """Not even of the one in which somebody collects, as a traced request for metrics does."""
    provider = MeterProvider([reader], exemplar_filter=AlwaysOnExemplarFilter(), shutdown_on_exit=False)
    with instrument(engine, meter_provider=provider):
        use(engine)
        span = NonRecordingSpan(
            SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        )
        with use_span(span):
            point = collect(reader).point("sqlalchemy.pool.checkouts")
    assert [exemplar.trace_id for exemplar in point.exemplars] == [None]
    provider.shutdown()


def test_an_engine_that_is_dropped_is_told_of_no_more(
    provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """A provider keeps no engine, no pool and no ledger alive, and its samples are not lost."""
    engine = create_engine("sqlite://", poolclass=QueuePool)
    instrument(engine, name="short", meter_provider=provider)
    use(engine, 4)
    assert collect(reader).pools() == {"short"}
    use(engine, 4)
    engine.dispose()
    del engine
    gc.collect()
    collected = collect(reader)
    assert collected.value("sqlalchemy.pool.checkouts") == 8
    assert collected.point("db.client.connection.wait_time").count == 8
    assert collected.points("db.client.connection.count") == []
    assert collect(reader).points("sqlalchemy.pool.checkouts") == []


def test_a_provider_that_is_dropped_goes() -> None:
    """Nothing of ours keeps a provider that the application has let go, once its engines are gone."""
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    engine = create_engine("sqlite://", poolclass=QueuePool)
    instrument(engine, meter_provider=provider).uninstrument()
    gone = weakref.ref(provider)
    provider.shutdown()
    del provider, engine
    gc.collect()
    assert gone() is None


def test_pools_of_one_provider_have_names_of_their_own(
    provider: MeterProvider, reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    """Two pools of one name are two series: of one registry by its rule, of two by a suffix here."""
    engines = [create_engine("sqlite://", poolclass=QueuePool) for _ in range(3)]
    options: list[dict[str, Any]] = [{}, {}, {"registry": CollectorRegistry()}]
    made = [
        instrument(engine, name="p", meter_provider=provider, **more)
        for engine, more in zip(engines, options, strict=True)
    ]
    use(engines[2])
    assert [pool.name for pool in made] == ["p", "p-2", "p"]
    collected = collect(reader)
    assert collected.pools() == {"p", "p-2", "p-3"}
    assert collected.value("sqlalchemy.pool.checkouts", **{POOL.replace(".", "__"): "p-3"}) == 1
    for pool in made:
        pool.uninstrument()


def test_a_pool_keeps_the_name_that_it_was_told_of_by(
    provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """When the other one of its name goes, its series go on, and a third one takes the free name and its counts."""
    engines = [create_engine("sqlite://", poolclass=QueuePool) for _ in range(3)]
    one, other = (
        instrument(engine, name="n", meter_provider=provider, registry=CollectorRegistry())
        for engine in engines[:2]
    )
    use(engines[0], 2)
    use(engines[1], 5)
    assert collect(reader).pools() == {"n", "n-2"}
    one.uninstrument()
    third = instrument(engines[2], name="n", meter_provider=provider, registry=CollectorRegistry())
    use(engines[2], 1)
    collected = collect(reader)
    values = {point.attributes[POOL]: point.value for point in collected.points("sqlalchemy.pool.checkouts")}
    uses = {
        point.attributes[POOL]: point.count for point in collected.points("db.client.connection.use_time")
    }
    assert values == uses == {"n": 3, "n-2": 5}
    for pool in (other, third):
        pool.uninstrument()


def test_a_collection_waits_for_samples_that_are_being_recorded(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the background thread has taken and not recorded yet is in the collection that comes just then."""
    with instrument(engine, meter_provider=provider) as pool:
        telemetry: Any = pool._telemetry
        collect(reader)
        RUNTIME.watcher.stop()
        use(engine, WAITING_SAMPLES + 1)
        taken, waiting, go = threading.Event(), threading.Event(), threading.Event()
        record, lock = telemetry._instruments.record, telemetry._recorded
        seen: list[Collected] = []

        def slowly(attributes: Any, samples: Any) -> None:
            taken.set()
            assert go.wait(DEADLINE_SECONDS)
            record(attributes, samples)

        def acquire(timeout: float) -> bool:
            if not lock.acquire(False):
                waiting.set()
                return bool(lock.acquire(timeout=timeout))
            return True

        monkeypatch.setattr(telemetry._instruments, "record", slowly)
        monkeypatch.setattr(telemetry, "_recorded", SimpleNamespace(acquire=acquire, release=lock.release))
        recording = threading.Thread(target=telemetry.relieve)
        recording.start()
        assert taken.wait(DEADLINE_SECONDS)
        collecting = threading.Thread(target=lambda: seen.append(collect(reader)))
        collecting.start()
        assert waiting.wait(DEADLINE_SECONDS)
        go.set()
        recording.join(DEADLINE_SECONDS)
        collecting.join(DEADLINE_SECONDS)
        (collected,) = seen
        uses = collected.point("db.client.connection.use_time").count
        assert uses == collected.value("sqlalchemy.pool.checkins") == WAITING_SAMPLES + 1


def test_a_group_is_told_of_as_one_pool(provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    """The engines of a group are one pool to OpenTelemetry too, and stay counted when one goes."""
    engines = [create_engine("sqlite://", poolclass=QueuePool) for _ in range(3)]
    made = [instrument(engine, group="tenants", meter_provider=provider) for engine in engines]
    for engine in engines:
        use(engine, 2)
    made[0].uninstrument()
    collected = collect(reader)
    assert collected.pools() == {"tenants"}
    assert collected.value("sqlalchemy.pool.checkouts") == 6
    assert collected.point("db.client.connection.wait_time").count == 6
    collect(reader)
    for pool in made:
        pool.uninstrument()
    collect(reader)
    assert collect(reader).points("sqlalchemy.pool.checkouts") == []


def test_a_group_tells_one_provider(provider: MeterProvider) -> None:
    """A group of one registry cannot be told to two providers."""
    registry, other = CollectorRegistry(), MeterProvider(shutdown_on_exit=False)
    first, second = (create_engine("sqlite://", poolclass=QueuePool) for _ in range(2))
    with (
        instrument(first, group="g", registry=registry, meter_provider=provider),
        pytest.raises(ValueError, match="the group 'g' tells another one already"),
    ):
        instrument(second, group="g", registry=registry, meter_provider=other)


def test_less_detail_is_fewer_instruments(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """`detail="basic"` leaves out of OpenTelemetry what it leaves out of Prometheus."""
    with instrument(engine, meter_provider=provider, detail="basic"):
        use(engine)
        names = set(collect(reader).metrics)
    assert "db.client.connection.wait_time" in names
    assert "db.client.connection.create_time" not in names
    assert names <= {metric.opentelemetry_name for metric in CATALOGUE if metric.basic}


def test_a_pool_without_a_queue_says_less(provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    """A NullPool has no size and no limit, and its uses are counted."""
    engine = create_engine("sqlite://", poolclass=NullPool)
    with instrument(engine, meter_provider=provider):
        use(engine, 2)
        collected = collect(reader)
    assert collected.points("db.client.connection.max") == []
    assert collected.points("db.client.connection.idle.max") == []
    assert collected.value("sqlalchemy.pool.checkouts") == 2


def test_instrumenting_again_names_what_differs(engine: Engine, provider: MeterProvider) -> None:
    """The same call twice is one; another provider for the same engine is an error that says so."""
    with instrument(engine, meter_provider=provider) as pool:
        assert instrument(engine, meter_provider=provider) is pool
        assert instrument(engine) is pool
        with pytest.raises(ValueError, match=r"meter_provider=.* is instrumented already"):
            instrument(engine, meter_provider=MeterProvider(shutdown_on_exit=False))


def test_one_pool_that_fails_costs_the_others_nothing(
    engine: Engine,
    provider: MeterProvider,
    reader: InMemoryMetricReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failure of ours while a pool is read leaves the other pools of the collection."""
    bad = create_engine("sqlite://", poolclass=QueuePool)
    with (
        instrument(engine, name="good", meter_provider=provider),
        instrument(bad, name="bad", meter_provider=provider) as failing,
    ):

        def fail(state: object) -> None:
            raise RuntimeError("on purpose")

        monkeypatch.setattr(failing._ledger, "sampled", fail)
        assert collect(reader).pools() == {"good"}
        monkeypatch.undo()
        assert failing.snapshot().telemetry_errors == 1


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_each_collection_reads_each_pool_once(order: tuple[int, ...]) -> None:
    """Whichever callback an SDK calls first, all values of one collection are of one snapshot."""
    instruments: list[Any] = []
    meter = SimpleNamespace(
        create_histogram=lambda *args, **kwargs: None,
        **{
            "create_observable_" + kind: lambda name, callbacks, unit, description: instruments.append(
                callbacks[0]
            )
            for kind in ("counter", "gauge", "up_down_counter")
        },
    )
    reads = []

    def read() -> list[PoolSnapshot]:
        reads.append(1)
        return [snapshot(checkouts=len(reads))]

    provider: Any = SimpleNamespace(get_meter=lambda *args: meter)
    PoolInstruments(provider, read, {metric.name: metric.buckets for metric in HISTOGRAMS})
    for collection in (1, 2):
        callbacks: list[Callable[[object], Any]] = [instruments[number] for number in order]
        callbacks += [one for one in instruments if one not in callbacks]
        for callback in callbacks:
            list(callback(None))
        assert len(reads) == collection


def test_a_collection_in_the_middle_of_one_of_our_operations_waits_for_nothing(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """Where a collector is run inside the ledger (by the garbage collector, say), it gets the last truth."""
    with instrument(engine, meter_provider=provider) as pool:
        use(engine, 2)
        collect(reader)
        seen: list[Collected] = []

        def in_the_middle() -> None:
            seen.append(collect(reader))

        pool._ledger._do(in_the_middle)
        assert seen[0].value("sqlalchemy.pool.checkouts") == 2
