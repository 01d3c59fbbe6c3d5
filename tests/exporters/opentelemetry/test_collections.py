"""Check collections of groups, of several pools, and at awkward moments."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.metrics import (
    MeterProvider,
)
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
)
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool, QueuePool

from pool_exporter import PoolSnapshot, instrument
from pool_exporter.catalogue import CATALOGUE
from pool_exporter.exporters.opentelemetry.instruments import PoolInstruments
from pool_exporter.exporters.opentelemetry.provider import WAITING_SAMPLES
from pool_exporter.instrumentation.runtime import RUNTIME
from tests.exporters.opentelemetry.collecting import Collected, collect
from tests.exporters.opentelemetry.pools import HISTOGRAMS, use
from tests.exporters.snapshots import snapshot

DEADLINE_SECONDS = 20.0


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
