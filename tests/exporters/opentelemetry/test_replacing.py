"""Check that no count is lost, doubled or taken back where pools are taken off, replaced and told of again."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import Counter as CounterInstrument
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter, ObservableUpDownCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import QueuePool

from pool_exporter import instrument, instrument_all
from pool_exporter.capture.attach import active_tap
from pool_exporter.capture.new_engines import existing_engines
from pool_exporter.instrumentation.instrument_all import _CURRENT
from pool_exporter.instrumentation.runtime import RUNTIME
from pool_exporter.plugins.opentelemetry_instrumentor import PoolInstrumentor
from tests.exporters.opentelemetry.collecting import POOL, Collected, collect

CHECKOUTS = "sqlalchemy.pool.checkouts"
CONNECTS = "sqlalchemy.pool.connects"
DELTA = dict.fromkeys(
    (ObservableCounter, ObservableUpDownCounter, CounterInstrument), AggregationTemporality.DELTA
)


@pytest.fixture(autouse=True)
def instrumentor(monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolInstrumentor]:
    """The one instrumentor of the process, off again at the end; nothing was said yet, and other tests' engines are left alone."""
    gc.collect()
    others = weakref.WeakSet(existing_engines())
    monkeypatch.setattr(RUNTIME, "_said", set())
    monkeypatch.setattr(
        "pool_exporter.instrumentation.instrument_all.existing_engines",
        lambda: [one for one in existing_engines() if one not in others],
    )
    found = PoolInstrumentor()
    yield found
    if found.is_instrumented_by_opentelemetry:
        found.uninstrument()
    for current in tuple(_CURRENT):
        current.uninstrument()


@pytest.fixture
def deltas() -> Iterator[tuple[MeterProvider, InMemoryMetricReader]]:
    reader = InMemoryMetricReader(preferred_temporality=DELTA)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield provider, reader
    provider.shutdown()


def made(name: str, url: str = "sqlite://") -> Engine:
    return create_engine(url, poolclass=QueuePool, pool_logging_name=name)


def use(engine: Engine, times: int = 1) -> None:
    for _ in range(times):
        engine.connect().close()


def told(collected: Collected, name: str = CHECKOUTS) -> dict[str, Any]:
    """Return the values of a metric by pool; a pool has one."""
    points = collected.points(name)
    found = {point.attributes[POOL]: point.value for point in points}
    assert len(found) == len(points)
    return found


def open_by_the_books(collected: Collected) -> int:
    """Return how many connections must be open by what was counted."""
    closed = sum(point.value for point in collected.points("sqlalchemy.pool.closes"))
    gone: int = closed + sum(told(collected, "sqlalchemy.pool.detaches").values())
    return sum(told(collected, CONNECTS).values()) - gone


def test_engines_are_found_without_a_look_at_all_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds all objects holds what other threads are about to make, which breaks them."""

    class Special(Engine):
        pass

    plain = made("plain")
    special = Special(plain.pool, plain.dialect, plain.url)
    monkeypatch.delattr(gc, "get_objects")
    assert {id(plain), id(special)} <= {id(engine) for engine in existing_engines()}


def test_a_group_is_one_stream_whoever_is_in_it(
    deltas: tuple[MeterProvider, InMemoryMetricReader], tmp_path: Path
) -> None:
    """Its attributes are the same while members come and go, so that nothing is told as if it were new."""
    provider, reader = deltas
    engines = [made("", f"sqlite:///{tmp_path}/{name}") for name in ("one", "two")]
    for engine in engines:
        instrument(engine, group="tenants", meter_provider=provider)
        use(engine, 100)
    total = told(collect(reader))["tenants"]
    engines.pop().dispose()
    del engine
    gc.collect()
    use(engines[0])
    assert total + told(collect(reader))["tenants"] == 201


def test_what_takes_the_place_of_an_unasked_instrumentation_counts_on(
    instrumentor: PoolInstrumentor, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """Open connections are counted once, and OpenTelemetry and Prometheus say the same, back and forth."""
    registry = CollectorRegistry()
    instrumentor.instrument(meter_provider=provider)
    engine = made("orders")
    held = [engine.connect(), engine.connect()]
    for _ in range(3):
        with instrument_all(registry=registry):
            for name in (CHECKOUTS, CONNECTS):
                served = registry.get_sample_value(f"{name.replace('.', '_')}_total", {"pool": "orders"})
                assert told(collect(reader), name) == {"orders": served} == {"orders": 2}
        assert told(collect(reader)) == {"orders": 2}
    with instrument(engine, registry=registry):
        assert told(collect(reader)) == {"orders": 2}
    for connection in held:
        connection.close()


def test_buckets_of_a_registry_hold_for_what_comes_into_it(
    instrumentor: PoolInstrumentor, provider: MeterProvider
) -> None:
    """Also where its other pools were asked for with buckets, and this one had been instrumented unasked."""
    registry = CollectorRegistry()
    other, engine = made("other"), made("orders")
    instrument(other, registry=registry, buckets={"wait_seconds": [0.5]})
    instrumentor.instrument(meter_provider=provider)
    instrument(engine, registry=registry)
    use(engine)
    served = generate_latest(registry).decode()
    bounds = [line for line in served.splitlines() if line.startswith("sqlalchemy_pool_wait_seconds_bucket{")]
    assert len([line for line in bounds if 'pool="orders"' in line]) == 2


def test_the_books_are_closed_where_a_pool_is_taken_off(
    provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """What is open then is counted as gone, since the next one counts it again."""
    engine = made("orders")
    with instrument(engine, meter_provider=provider):
        held = engine.connect()
        use(engine)
        assert open_by_the_books(collect(reader)) == 2
    for _ in range(2):
        with instrument(engine, meter_provider=provider):
            assert open_by_the_books(collect(reader)) == 2
    held.close()


@pytest.mark.parametrize("option", [{"buckets": {"wait_seconds": [0.1, 1]}}, {"detail": "basic"}])
def test_what_was_done_unasked_is_in_nobodys_way(
    option: dict[str, Any],
    instrumentor: PoolInstrumentor,
    provider: MeterProvider,
    reader: InMemoryMetricReader,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A program that works by itself works under `opentelemetry-instrument`, with one warning."""
    instrumentor.instrument(meter_provider=provider)
    for name in ("first", "second"):
        engine = made(name)
        instrument(engine, meter_provider=provider, **option)
        use(engine)
    assert told(collect(reader)) == {"first": 1, "second": 1}
    assert len([record for record in caplog.records if "instruments stay as they are" in record.message]) <= 1
    instrumentor.uninstrument()
    with instrument_all(meter_provider=provider, **option):
        use(made("third"))
        assert told(collect(reader))["third"] == 1


def test_what_all_engines_cannot_have_is_said_once(
    instrumentor: PoolInstrumentor, provider: MeterProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """Where an engine can be neither taken over nor left, nobody tries again and again."""
    registry = CollectorRegistry()
    kept = instrument(made("basic"), registry=registry, detail="basic")
    instrumentor.instrument(meter_provider=provider)
    engine = made("first")
    with instrument_all(registry=registry):
        use(made("second"))
    assert [record.message for record in caplog.records] == [
        "an engine on sqlite is not instrumented with all others: detail='full': this registry's pools are exported "
        "with detail='basic'; give every instrument() of one registry the same"
    ]
    assert active_tap(engine) is not None
    assert kept.name == "basic"


def test_the_first_engine_may_be_made_while_somebody_collects(
    instrumentor: PoolInstrumentor, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """The SDK holds a lock then, under which no instrument can be made: they are there already."""
    instrumentor.instrument(meter_provider=provider)
    engines = []

    def rows(_: CallbackOptions) -> list[Observation]:
        engines.append(made("late"))
        use(engines[-1])
        return [Observation(1)]

    provider.get_meter("mine").create_observable_gauge("rows", [rows])
    collecting = threading.Thread(target=collect, args=(reader,), daemon=True)
    collecting.start()
    collecting.join(20)
    assert not collecting.is_alive()
    assert told(collect(reader))["late"] >= 1


def test_all_engines_are_told_of_once_where_opentelemetry_serves_the_default_registry(
    instrumentor: PoolInstrumentor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With OTEL_METRICS_EXPORTER=prometheus `instrument_all()` leaves them to that reader, and no metric is there twice."""
    registry = CollectorRegistry()
    for name in ("instrumentation.instrument", "instrumentation.options"):
        monkeypatch.setattr(import_module(f"pool_exporter.{name}"), "REGISTRY", registry)
    provider = MeterProvider([PrometheusMetricReader(registry=registry)], shutdown_on_exit=False)
    engines = [made("before")]
    instrumentor.instrument(meter_provider=provider)
    instrument_all()
    engines.append(made("after"))
    for engine in engines:
        use(engine)
    lines = generate_latest(registry).decode().splitlines()
    types = Counter(line.split()[2] for line in lines if line.startswith("# TYPE"))
    assert set(types.values()) == {1}
    served = [line for line in lines if line.startswith("sqlalchemy_pool_checkouts_total")]
    assert sum("before" in line or "after" in line for line in served) == 2
    assert caplog.records == []
    provider.shutdown()


def test_a_replaced_engine_gives_up_its_name(provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    """The new one counts on under it, as in a registry; the old one is told of again if it is used again."""
    registry = CollectorRegistry()
    old = made("orders")
    before = instrument(old, registry=registry, meter_provider=provider)
    use(old, 3)
    assert told(collect(reader)) == {"orders": 3}
    old.dispose()
    new = made("orders")
    assert instrument(new, registry=registry, meter_provider=provider).name == "orders"
    use(new, 2)
    assert told(collect(reader)) == {"orders": 5}
    use(old)
    generate_latest(registry)
    assert before.name == "orders-2"
    assert set(told(collect(reader))) == {"orders", "orders-2"}


def test_samples_are_kept_from_the_first_count_on(
    provider: MeterProvider, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of threads that use the pool before OpenTelemetry knows of it."""
    module = import_module("pool_exporter.instrumentation.instrument")
    attached = module._attached

    def in_use(engine: Engine, *arguments: Any) -> Any:
        attachment = attached(engine, *arguments)
        use(engine, 5)
        return attachment

    monkeypatch.setattr(module, "_attached", in_use)
    engine = made("orders")
    with instrument(engine, meter_provider=provider):
        collected = collect(reader)
        assert told(collected) == {"orders": 5}
        assert collected.point("db.client.connection.wait_time").count == 5


def test_pools_of_two_registries_with_one_name_are_told_apart(
    provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """Also one that goes before anybody has collected."""
    first, second = made("a"), made("b")
    kept = instrument(first, name="orders", registry=CollectorRegistry(), meter_provider=provider)
    use(first, 3)
    collect(reader)
    with instrument(second, name="orders", registry=CollectorRegistry(), meter_provider=provider):
        use(second, 100)
    assert told(collect(reader)) == {"orders": 3, "orders-2": 100}
    assert told(collect(reader)) == {"orders": 3}
    assert kept.name == "orders"


@pytest.mark.parametrize("ends", [False, True])
def test_no_counter_goes_back_where_a_pool_was_not_told_of_for_a_while(
    ends: bool, instrumentor: PoolInstrumentor, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """Whether it goes on meanwhile, or ends and another takes its place."""
    registry = CollectorRegistry()
    engine = made("orders")
    pool = instrument(engine, registry=registry, name="orders")
    use(engine, 50)
    instrumentor.instrument(meter_provider=provider)
    assert told(collect(reader)) == {"orders": 50}
    instrumentor.uninstrument()
    use(engine, 3)
    if ends:
        pool.uninstrument()
    instrumentor.instrument(meter_provider=provider)
    instrument(engine, registry=registry, name="orders")
    use(engine)
    assert told(collect(reader)) == {"orders": 51 if ends else 54}


def test_a_group_whose_first_member_went_is_untold_too(
    instrumentor: PoolInstrumentor, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """What is told of is the group, not who brought it."""
    registry = CollectorRegistry()
    engines = [made(""), made("")]
    for engine in engines:
        instrument(engine, group="tenants", registry=registry)
    instrumentor.instrument(meter_provider=provider)
    assert "tenants" in told(collect(reader))
    engines.pop(0).dispose()
    del engine
    gc.collect()
    instrumentor.uninstrument()
    collect(reader)
    assert told(collect(reader)) == {}


def test_an_engine_that_is_made_while_all_are_taken_off_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread may be in the midst of making it."""
    everything = instrument_all(registry=CollectorRegistry())
    wiring = import_module("pool_exporter.instrumentation.instrument_all")
    instrument_engine = wiring.instrument_engine

    def late(*arguments: Any, **options: Any) -> Any:
        everything.uninstrument()
        return instrument_engine(*arguments, **options)

    monkeypatch.setattr(wiring, "instrument_engine", late)
    assert active_tap(made("late")) is None


def test_what_the_application_takes_off_stays_off(
    instrumentor: PoolInstrumentor, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """Until somebody instruments that engine again; the end of something else does not."""
    instrumentor.instrument(meter_provider=provider)
    engine, other = made("orders"), made("other")
    everything = instrument_all(registry=CollectorRegistry())
    instrument(engine).uninstrument()
    everything.uninstrument()
    assert active_tap(engine) is None
    collect(reader)
    assert set(told(collect(reader))) == {"other"}
    with instrument(engine, registry=CollectorRegistry()):
        assert set(told(collect(reader))) == {"other", "orders"}
    use(other)


def test_each_who_scrapes_sees_the_last_counts_of_a_pool() -> None:
    """Two Prometheus servers may scrape what OpenTelemetry serves them."""
    registry = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(registry=registry)], shutdown_on_exit=False)
    engine = made("orders")
    with instrument(engine, meter_provider=provider):
        generate_latest(registry)
        use(engine, 7)
    for _ in range(2):
        (line,) = (
            line
            for line in generate_latest(registry).decode().splitlines()
            if line.startswith("sqlalchemy_pool_checkouts_total")
        )
        assert line.endswith(" 7.0")
    provider.shutdown()
