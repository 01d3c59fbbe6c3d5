"""Test that what the application drops goes, and that what is taken off leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, QueuePool

import pool_exporter
from pool_exporter import instrument
from tests.laws import assert_laws
from tests.postgres import PostgresServer
from tests.servers import until

EVENTS = ("connect", "close", "invalidate", "soft_invalidate", "detach", "checkout", "checkin")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A synchronous engine on a SQLite file."""
    engine = create_engine(f"sqlite:///{tmp_path}/database", poolclass=QueuePool, pool_size=4)
    yield engine
    engine.dispose()


def async_engine(postgres: PostgresServer, application: str) -> AsyncEngine:
    """Return an engine on asyncpg whose backends are told apart by their application's name."""
    return create_async_engine(
        f"postgresql+asyncpg://{postgres.address}",
        pool_size=2,
        connect_args={"server_settings": {"application_name": application}},
    )


def test_a_dropped_engine_goes_and_its_series_with_it(tmp_path: Path) -> None:
    """Nothing of ours keeps engine, pool or record alive, and the pool is exported no more."""
    registry = CollectorRegistry()
    engine = create_engine(f"sqlite:///{tmp_path}/database", poolclass=QueuePool)
    instrument(engine, registry=registry, name="dropped")
    with engine.connect() as connection:
        record = weakref.ref(connection.connection._connection_record)
        fairy = weakref.ref(connection.connection)
    assert b'pool="dropped"' in generate_latest(registry)
    gone = [weakref.ref(engine), weakref.ref(engine.pool), weakref.ref(engine.dialect), record, fairy]
    engine.pool.dispose()
    del engine, connection
    gc.collect()
    assert [reference() for reference in gone] == [None] * 5
    assert b'pool="dropped"' not in generate_latest(registry)


def test_a_dropped_engine_goes_though_its_instrumentation_is_kept(tmp_path: Path) -> None:
    """Who keeps the `Instrumentation` keeps no engine, and may still ask for what was known last."""
    engine = create_engine(f"sqlite:///{tmp_path}/database", poolclass=QueuePool)
    instrumentation = instrument(engine, registry=None)
    with engine.connect():
        pass
    gone = [weakref.ref(engine), weakref.ref(engine.pool)]
    engine.pool.dispose()
    del engine
    gc.collect()
    assert [reference() for reference in gone] == [None, None]
    now = instrumentation.snapshot()
    assert_laws(now)
    assert (now.checkouts, now.checkins, now.open) == (1, 1, 0)


@pytest.mark.filterwarnings("ignore:.*garbage collector is trying:sqlalchemy.exc.SAWarning")
async def test_the_backend_of_a_dropped_connection_goes(postgres: PostgresServer) -> None:
    """A connection that is dropped without being closed leaves the database, as it does without us."""
    engine = async_engine(postgres, "dropped")
    instrumentation = instrument(engine, registry=None)
    fairy: Any = await engine.raw_connection()
    assert len(postgres.backends("dropped")) == 1
    del fairy
    gc.collect()
    async with engine.connect():  # the loop turns, and says goodbye
        until(lambda: len(postgres.backends("dropped")) == 1, "the dropped connection's backend is gone")
        now = instrumentation.snapshot()
        assert_laws(now)
        assert (now.leaks_collected, now.closes["lost"], now.open) == (1, 1, 1)
    await engine.dispose()


@pytest.mark.parametrize("kind", [NullPool, QueuePool])
def test_memory_does_not_grow_with_checkouts(kind: type, tmp_path: Path) -> None:
    """Ten thousand records that come and go leave nothing in the ledger."""
    options: dict[str, Any] = {} if kind is NullPool else {"pool_size": 1, "max_overflow": 1}
    engine = create_engine(f"sqlite:///{tmp_path}/database", poolclass=kind, **options)
    instrumentation = instrument(engine, registry=None)

    def cycles(count: int) -> None:
        for _ in range(count):
            first, second = engine.raw_connection(), engine.raw_connection()
            second.close()
            first.close()

    def objects() -> int:
        gc.collect()
        return len(gc.get_objects())

    cycles(100)
    before = objects()
    cycles(5_000)
    grown = objects() - before
    now = instrumentation.snapshot()
    assert now.checkouts == 10_200
    assert now.open == (0 if kind is NullPool else 1)
    assert len(instrumentation._ledger._entries) <= 2
    assert grown < 100
    engine.dispose()


PROGRAM = """
    import asyncio, sys
    from sqlalchemy import create_engine, text
    from sqlalchemy.ext.asyncio import create_async_engine
    from pool_exporter import instrument, start_server

    if sys.argv[1] == "sync":
        engine = create_engine(sys.argv[2])
        instrument(engine)
        held = [engine.connect(), engine.connect()]
        held[0].execute(text("select 1"))
        start_server(0)
    else:
        async def main():
            engine = create_async_engine(sys.argv[2])
            instrument(engine)
            held.append(await engine.connect())
            await held[0].execute(text("select 1"))
        held = []
        asyncio.run(main())
"""


@pytest.mark.parametrize(("kind", "driver"), [("sync", "psycopg"), ("async", "asyncpg")])
def test_an_interpreter_may_exit_with_connections_held(
    kind: str, driver: str, postgres: PostgresServer
) -> None:
    """A process that ends with connections out ends well, and says nothing of us."""
    url = f"postgresql+{driver}://{postgres.address}"
    path = os.pathsep.join([str(Path(pool_exporter.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), kind, url],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "pool_exporter" not in done.stderr


def test_uninstrument_leaves_nothing_on_the_engine(engine: Engine) -> None:
    """Pool, queue, creator and dialect are what they were, the series are gone, and twice is once."""
    registry = CollectorRegistry()
    pool: Any = engine.pool
    dialect: Any = engine.dialect
    creator = pool._invoke_creator
    instrumentation = instrument(engine, registry=registry, name="brief")
    assert type(pool) is not QueuePool
    assert b'pool="brief"' in generate_latest(registry)
    instrumentation.uninstrument()
    assert type(pool) is QueuePool
    assert type(pool._pool).__dict__.get("get") is type(pool._pool).get
    assert pool._invoke_creator is creator
    assert not {"do_ping", "do_execute", "do_rollback", "do_commit"} & dialect.__dict__.keys()
    assert b'pool="brief"' not in generate_latest(registry)
    instrumentation.uninstrument()
    with engine.connect():
        pass
    assert instrumentation.snapshot().checkouts == 0


def test_a_context_manager_uninstruments(engine: Engine) -> None:
    """At the end of its block the instrumentation is off, also where the block raised."""
    with instrument(engine, registry=None) as instrumentation:
        assert type(engine.pool) is not QueuePool
    assert type(engine.pool) is QueuePool
    with pytest.raises(ZeroDivisionError), instrument(engine, registry=None):
        raise ZeroDivisionError
    assert type(engine.pool) is QueuePool
    assert instrumentation.snapshot().checkouts == 0


def test_instrumenting_again_counts_right_and_piles_nothing_up(engine: Engine) -> None:
    """Fifty times on and off adds no listener, no wrapper and no slot, and each time counts alike."""
    pool: Any = engine.pool
    dialect: Any = engine.dialect
    held = engine.connect()

    def listeners() -> dict[str, int]:
        counts = {name: len(tuple(getattr(pool.dispatch, name))) for name in EVENTS}
        return {
            **counts,
            **{name: len(tuple(getattr(dialect.dispatch, name))) for name in ("handle_error", "do_connect")},
        }

    seen = []
    for _ in range(50):
        with instrument(engine, registry=None) as instrumentation, engine.connect() as connection:
            connection.execute(text("select 1"))
            now = instrumentation.snapshot()
            assert_laws(now)
            assert (now.uses, now.checkouts, now.adopted, now.statements) == (2, 2, 1, 1)
        seen.append(listeners())
    assert seen == seen[:1] * 50
    held.close()
    assert pool.checkedout() == 0


async def test_instrumenting_an_async_engine_again(postgres: PostgresServer) -> None:
    """An async engine too goes on and off again, with a connection out and one idle."""
    engine = async_engine(postgres, "again")
    async with engine.connect(), engine.connect() as second:
        for _ in range(3):
            with instrument(engine, registry=None) as instrumentation:
                await second.execute(text("select 1"))
                now = instrumentation.snapshot()
                assert_laws(now)
                assert (now.uses, now.adopted, now.statements) == (2, 2, 1)
        assert type(engine.pool) is AsyncAdaptedQueuePool
        instrumentation = instrument(engine, registry=None)
    now = instrumentation.snapshot()
    assert_laws(now)
    assert (now.checkins, now.uses, now.idle) == (2, 0, 2)
    await engine.dispose()
    assert instrumentation.snapshot().open == 0


async def test_instrumenting_again_while_acquires_connect(postgres: PostgresServer) -> None:
    """An acquire that connects while its pool is taken off and put on again is adopted, and counted once."""
    engine = async_engine(postgres, "meanwhile")
    first = instrument(engine, registry=None)
    connecting = [asyncio.ensure_future(engine.connect()) for _ in range(2)]  # type: ignore[arg-type]
    for _ in range(3):
        await asyncio.sleep(0)
    assert first.snapshot().pending == 2
    first.uninstrument()
    instrumentation = instrument(engine, registry=None)
    connections = await asyncio.gather(*connecting)
    now = instrumentation.snapshot()
    assert_laws(now)
    assert (now.connects, now.used, now.uses, now.adopted) == (2, 2, 2, 2)
    for connection in connections:
        await connection.close()
    now = instrumentation.snapshot()
    assert_laws(now)
    assert (now.connects, now.idle, now.uses, now.checkins) == (2, 2, 0, 2)
    await engine.dispose()
