"""The library keeps nothing alive that the application drops, and leaves when it is told to."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool, QueuePool

from pool_exporter import instrument
from pool_exporter.uses import Entry, Use
from tests.laws import assert_laws
from tests.postgres import PostgresServer


def test_an_engine_that_is_dropped_goes_and_its_series_with_it(tmp_path: Path) -> None:
    """An instrumented engine is collected when dropped, though its Instrumentation is still held."""
    registry = CollectorRegistry()
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}", poolclass=QueuePool)
    pool = instrument(engine, name="dropped", registry=registry)
    with engine.connect() as connection:
        connection.execute(text("select 1"))
    engine_ref, pool_ref = weakref.ref(engine), weakref.ref(engine.pool)
    assert b'pool="dropped"' in generate_latest(registry)
    engine.dispose()
    del engine, connection
    gc.collect()
    assert engine_ref() is None
    assert pool_ref() is None
    assert b'pool="dropped"' not in generate_latest(registry)
    assert pool.snapshot().open == 0


async def test_a_dropped_async_connection_lets_its_backend_go(server: PostgresServer) -> None:
    """Record, fairy and connection are held weakly: after a collection all three are gone."""
    engine = create_async_engine(f"postgresql+asyncpg://{server.address}")
    pool = instrument(engine, registry=CollectorRegistry())
    connection: Any = await engine.raw_connection()
    connection.itself = connection  # a cycle, so that only the collector ends it
    fairy = weakref.ref(connection._connection if hasattr(connection, "_connection") else connection)
    driver = weakref.ref(connection.driver_connection)
    del connection
    with pytest.warns(Warning, match="garbage collector"):
        gc.collect()
    assert fairy() is None
    assert pool.snapshot().leaks_collected == 1
    await engine.dispose()
    gc.collect()
    assert driver() is None
    assert_laws(pool.snapshot())


@pytest.mark.parametrize("options", [{"poolclass": NullPool}, {"poolclass": QueuePool, "pool_size": 1}])
def test_memory_stays_flat_over_connections_that_come_and_go(tmp_path: Path, options: dict[str, Any]) -> None:
    """Records of unpooled and of overflow connections leave nothing behind in the ledger."""
    engine = create_engine(f"sqlite:///{tmp_path / 'flat.db'}", **options)
    pool = instrument(engine, registry=CollectorRegistry())

    def cycles(number: int) -> None:
        for _ in range(number):
            first, second = engine.connect(), engine.connect()
            first.close()
            second.close()

    def kept() -> Counter[str]:
        """Count our objects that are alive, and what the ledger refers to."""
        gc.collect()
        counts = Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, (Entry, Use)))
        ledger: Any = pool._ledger
        for name in ("_entries", "_by_connection", "_pending", "_waits", "_deferred"):
            counts[name] = len(getattr(ledger, name))
        return counts

    cycles(10)
    before = kept()
    cycles(1000)
    assert kept() == before
    assert_laws(pool.snapshot())
    assert pool.snapshot().checkouts == 2 * (10 + 1000)


def test_uninstrument_gives_everything_back_and_does_nothing_twice(tmp_path: Path) -> None:
    """The pool has its own class again, the dialect its own functions, the registry no series."""
    registry = CollectorRegistry()
    engine = create_engine(f"sqlite:///{tmp_path / 'back.db'}", poolclass=QueuePool)
    functions = ("do_ping", "do_execute", "do_executemany", "do_commit", "do_rollback")
    pool = instrument(engine, name="back", registry=registry)
    held = engine.connect()
    pool.uninstrument()
    pool.uninstrument()
    assert type(engine.pool) is QueuePool
    assert [name for name in functions if name in engine.dialect.__dict__] == []
    assert b'pool="back"' not in generate_latest(registry)
    held.close()
    with engine.connect() as connection:
        assert connection.execute(text("select 1")).scalar() == 1
    assert pool.snapshot().uses == 1  # as it was when it was told to go


def test_instrumenting_again_counts_anew_and_stacks_nothing(tmp_path: Path) -> None:
    """Over fifty rounds the numbers are right each time and no listener is added twice."""
    engine = create_engine(f"sqlite:///{tmp_path / 'again.db'}", poolclass=QueuePool)
    listeners = set()
    for _ in range(50):
        with instrument(engine, registry=CollectorRegistry()) as pool:
            with engine.connect() as connection:
                connection.invalidate()
            engine.dispose()
            snapshot = pool.snapshot()
            assert (snapshot.checkouts, snapshot.closes["invalidated"], snapshot.invalidations["hard"]) == (
                1,
                1,
                1,
            )
            assert_laws(snapshot)
            events: Any = (engine.pool.dispatch, engine.dialect.dispatch)
            listeners.add((len(list(events[0].close)), len(list(events[1].handle_error))))
    assert len(listeners) == 1


def test_the_interpreter_exits_with_connections_held(tmp_path: Path) -> None:
    """A process that ends while connections are out ends well, and we print nothing."""
    program = f"""
        from sqlalchemy import create_engine
        from pool_exporter import instrument, start_server
        engine = create_engine("sqlite:///{tmp_path / "exit.db"}")
        pool = instrument(engine)
        server = start_server(0)
        held = [engine.connect() for _ in range(3)]
        print(pool.snapshot().uses)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")
