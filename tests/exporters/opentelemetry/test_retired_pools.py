"""Check what is exported of pools that are removed, dropped or renamed."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from opentelemetry.sdk.metrics import (
    AlwaysOnExemplarFilter,
    MeterProvider,
)
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import QueuePool

from pool_exporter import instrument
from pool_exporter.exporters.opentelemetry.attributes import pool_attributes
from pool_exporter.exporters.opentelemetry.retired_pools import FAREWELL_SECONDS, RetiredPools
from tests.exporters.opentelemetry.collecting import POOL, collect
from tests.exporters.opentelemetry.pools import DELTA, use
from tests.exporters.snapshots import snapshot


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
