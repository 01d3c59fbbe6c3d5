"""Numbers stay right where SQLAlchemy's pools are used at awkward moments and in awkward ways."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AssertionPool, QueuePool, StaticPool

from pool_exporter import Instrumentation, instrument
from pool_exporter.capture.attach import Attachment, active_tap
from pool_exporter.instrumentation.runtime import RUNTIME
from pool_exporter.ledger.books import Counting
from pool_exporter.ledger.uses import PoolEntry
from tests.laws import assert_laws
from tests.postgres import PostgresServer


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An engine with one pooled and one overflow connection."""
    return create_engine(
        f"sqlite:///{tmp_path / 'awkward.db'}", poolclass=QueuePool, pool_size=1, max_overflow=1
    )


def test_a_leak_collected_in_the_middle_of_a_snapshot_closes_for_its_own_reason(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the collector gives back while the ledger is busy is an overflow close, no failed connect."""
    pool = instrument(engine, registry=CollectorRegistry())
    first, second = engine.connect(), engine.connect()
    second.execute(text("select 1"))
    first.close()
    cycle: list[Any] = [second]
    cycle.append(cycle)
    ledger: Any = pool._ledger
    sweep = ledger._sweep

    def interrupted(now: float) -> None:
        gc.collect()
        sweep(now)

    gc.disable()
    try:
        del second, cycle
        monkeypatch.setattr(ledger, "_sweep", interrupted)
        pool.snapshot()
        monkeypatch.undo()
    finally:
        gc.enable()
    after = pool.snapshot()
    assert_laws(after)
    assert {reason: count for reason, count in after.closes.items() if count} == {"overflow": 1}
    assert after.connect_errors == {}
    assert (after.leaks_collected, after.idle, after.telemetry_errors) == (1, 1, 0)


async def test_a_shared_connection_found_dead_by_a_pre_ping_is_a_pre_ping_failure(
    postgres: PostgresServer,
) -> None:
    """On a StaticPool a pre-ping is one although another caller has the connection."""
    engine = create_async_engine(
        f"postgresql+asyncpg://{postgres.address}",
        poolclass=StaticPool,
        pool_pre_ping=True,
        connect_args={"server_settings": {"application_name": "shared and pinged"}},
    )
    pool = instrument(engine, registry=CollectorRegistry())
    first = await engine.connect()
    assert postgres.terminate("shared and pinged") == 1
    second = await engine.connect()
    after = pool.snapshot()
    assert (after.pre_ping_failures, after.closes["pre_ping"], dict(after.disconnects)) == (1, 1, {})
    assert after.telemetry_errors == 0
    assert_laws(after)
    await second.close()
    await first.close()
    await engine.dispose()


def test_threads_that_share_what_must_not_be_shared_break_no_law(tmp_path: Path) -> None:
    """Threads that fight over an AssertionPool get its errors, and the numbers stay lawful."""
    engine = create_engine(f"sqlite:///{tmp_path / 'shared.db'}", poolclass=AssertionPool)
    pool = instrument(engine, registry=CollectorRegistry())
    refused = []

    def fight() -> None:
        for _ in range(200):
            try:
                with engine.connect() as connection:
                    connection.execute(text("select 1"))
            except Exception as error:  # whatever the pool makes of it
                refused.append(type(error).__name__)

    threads = [threading.Thread(target=fight) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = pool.snapshot()
    assert after.telemetry_errors == 0
    assert_laws(after)
    assert after.acquires == 4 * 200


def test_names_handed_on_leave_nothing_behind(tmp_path: Path) -> None:
    """An application that makes and drops engines without being scraped does not grow."""
    registry = CollectorRegistry()
    for _ in range(50):
        engine = create_engine(f"sqlite:///{tmp_path / 'tenant.db'}")
        instrument(engine, name="tenant", registry=registry)
        engine.connect().close()
        engine.dispose()
        del engine
        gc.collect()
    export = RUNTIME.exports._by_registry[registry]
    assert len(export.names._nameless) <= 1


def test_a_refused_connect_is_told_by_the_drivers_own_error() -> None:
    """The label of a failed connect is the driver's exception, not SQLAlchemy's wrapper."""
    engine = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    pool = instrument(engine, registry=CollectorRegistry())
    with pytest.raises(OperationalError):
        engine.connect()
    assert dict(pool.snapshot().connect_errors or {}) == {"psycopg.OperationalError": 1}


def assert_nothing_leaked(engine: Engine, pool: Instrumentation) -> None:
    """Assert that nothing is out, was collected or went wrong, also after the next use of each connection."""
    with engine.connect(), engine.connect():
        pass
    gc.collect()
    after = pool.snapshot()
    assert_laws(after)
    assert (after.uses, after.leaks_collected, after.unaccounted_slots, after.telemetry_errors) == (
        0,
        0,
        0,
        0,
    )


def test_uses_of_other_threads_while_a_pool_gets_its_overrides_are_no_leaks(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its listeners are there before the overrides: what begins and ends in between is not counted by halves."""
    install = Attachment._install_seam

    def late(self: Attachment, pool: Any) -> None:
        for _ in range(3):
            engine.connect().close()
        install(self, pool)

    with engine.connect():
        monkeypatch.setattr(Attachment, "_install_seam", late)
        pool = instrument(engine, registry=None)
        assert pool.snapshot().used == 1
    assert pool.snapshot().checkouts == 1
    assert_nothing_leaked(engine, pool)


@pytest.mark.parametrize("again", [False, True])
def test_a_connection_given_back_while_it_is_taken_in_is_no_leak(
    again: bool, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its return was not for the use that is taken in then, nor does that hide the next one's."""
    held = [engine.connect()]
    adopt = Counting.adopt

    def late(self: Counting, entry: Any, connection_key: int, fairy_ref: Any = None) -> None:
        held.pop().close()
        if again:
            held.append(engine.connect())
        adopt(self, entry, connection_key, fairy_ref)

    monkeypatch.setattr(Counting, "adopt", late)
    pool = instrument(engine, registry=None)
    monkeypatch.undo()
    if again:
        assert pool.snapshot().used == 1
        held.pop().close()
    assert_nothing_leaked(engine, pool)


def test_a_record_that_two_threads_see_first_has_one_entry(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the use would begin in one and end in the other."""
    connection = engine.connect()
    record = connection.connection._connection_record
    met = []

    class Met(PoolEntry):
        __slots__ = ()

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            if not met:
                met.append(self)
                active_tap(engine).entry(record)  # type: ignore[union-attr]  # as another thread would just then

    monkeypatch.setattr("pool_exporter.capture.tap.PoolEntry", Met)
    pool = instrument(engine, registry=None)
    assert len(met) == 1
    assert pool.snapshot().used == 1
    connection.close()
    assert pool.snapshot().checkins == 1
    assert_nothing_leaked(engine, pool)


def test_a_use_that_ends_before_its_begin_is_counted_is_no_leak(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a busy ledger counts later what an event has told, the return may come first."""
    later: list[Any] = []
    now = Counting._do

    def busy(self: Counting, operation: Any, *arguments: Any) -> None:
        if operation.__name__ == "_checked_out":
            later.append((operation, *arguments))
        else:
            now(self, operation, *arguments)

    ready, go = threading.Event(), threading.Event()

    def wait(*_: Any) -> None:
        ready.set()
        assert go.wait(20)

    event.listen(engine, "connect", wait)
    thread = threading.Thread(target=lambda: engine.connect().close())
    thread.start()  # its acquire has begun before the pool is attached
    assert ready.wait(20)
    pool = instrument(engine, registry=None)
    monkeypatch.setattr(Counting, "_do", busy)
    go.set()
    thread.join()
    monkeypatch.undo()
    assert later
    for operation, *arguments in later:
        now(pool._ledger, operation, *arguments)
    assert_nothing_leaked(engine, pool)
