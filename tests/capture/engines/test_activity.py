"""Check what counts as activity of a use: a stream, a COPY, a LISTEN or a driver's own call is no silence."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.pool import StaticPool

from pool_exporter import Instrumentation
from pool_exporter.ledger.ledger import Ledger
from tests.capture.engines.databases import Database, PostgresDatabase, do, eventually, execute, watch
from tests.servers import until

MakeDatabase = Callable[[str], Database]
wiring = sys.modules["pool_exporter.instrumentation.instrument"]  # the attribute of that name is the function
LATER = 1000.0
"""Seconds that pass at once on the clock of these tests."""
ROWS = {
    "postgresql": "select generate_series(1, 100000)",
    "sqlite": "with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000) select i from n",
    "mysql": "select seq from seq_1_to_100000",
}


class Clock:
    """The monotonic clock, which can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class Watched:
    """An instrumented engine whose clock can be put forward."""

    def __init__(self, engine: Any, **options: Any) -> None:
        self.engine = engine
        self.clock = Clock()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wiring, "Ledger", partial(Ledger, clock=self.clock))
            self.pool: Instrumentation = watch(engine, **options)

    def is_quiet(self) -> bool:
        """Let time pass and tell whether the use looks idle for all of it."""
        self.clock.ahead += LATER
        quiet = self.pool.snapshot().oldest_quiet_seconds
        assert quiet == 0.0 or quiet >= LATER
        return quiet > 0.0


@pytest.fixture
def make_watched(database_on: MakeDatabase) -> Callable[..., Watched]:
    """Return a function that instruments an engine on a driver."""
    return lambda driver, **options: Watched(database_on(driver).engine(**options))


@pytest.mark.parametrize(
    "driver", ["asyncpg", "psycopg_async", "aiosqlite", "asyncmy", "psycopg", "pysqlite"]
)
async def test_silence_is_measured_from_the_last_activity(
    driver: str, make_watched: Callable[..., Watched]
) -> None:
    """A use that does nothing is quiet; a statement, a commit or a rollback begins its silence anew."""
    watched = make_watched(driver)
    connection = await do(watched.engine.connect)
    assert watched.is_quiet()
    await execute(connection)
    assert watched.pool.snapshot().oldest_quiet_seconds < LATER
    assert watched.is_quiet()
    await do(connection.commit)
    assert watched.pool.snapshot().oldest_quiet_seconds < LATER
    await execute(connection)
    assert watched.is_quiet()
    await do(connection.rollback)
    assert watched.pool.snapshot().oldest_quiet_seconds < LATER
    assert watched.pool.snapshot().oldest_use_seconds >= 3 * LATER
    await do(connection.close)
    assert not watched.is_quiet()
    assert watched.pool.snapshot().oldest_use_seconds == 0.0


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async", "aiosqlite", "asyncmy"])
async def test_a_long_stream_is_not_quiet(driver: str, make_watched: Callable[..., Watched]) -> None:
    """While a server-side cursor is open its use is at work, however long no chunk is fetched."""
    watched = make_watched(driver)
    connection = await watched.engine.connect()
    result = await connection.stream(text(ROWS[watched.engine.dialect.name]))
    assert [row[0] async for row in _first(result, 10)] == list(range(1, 11))
    assert not watched.is_quiet()
    assert [row[0] async for row in _first(result, 2000)] == list(range(11, 2011))
    assert not watched.is_quiet()
    await result.close()
    assert watched.is_quiet()
    await connection.close()


async def _first(result: Any, count: int) -> AsyncIterator[Any]:
    for _ in range(count):
        yield await result.fetchone()


@pytest.mark.parametrize("driver", ["psycopg"])
def test_a_long_synchronous_stream_is_not_quiet(driver: str, make_watched: Callable[..., Watched]) -> None:
    """The same with `stream_results` on a synchronous engine, for partitions too."""
    watched = make_watched(driver)
    with watched.engine.connect() as connection:
        result = connection.execution_options(stream_results=True).execute(
            text(ROWS[watched.engine.dialect.name])
        )
        partitions: Iterator[Any] = result.partitions(100)
        assert len(next(partitions)) == 100
        assert not watched.is_quiet()
        assert len(next(partitions)) == 100
        assert not watched.is_quiet()
        result.close()
        assert watched.is_quiet()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async", "aiosqlite", "asyncmy"])
async def test_a_result_read_to_its_end_is_over(driver: str, make_watched: Callable[..., Watched]) -> None:
    """A stream that was read to its end is no work any more."""
    watched = make_watched(driver)
    connection = await watched.engine.connect()
    result = await connection.stream(text("select 1"))
    assert len([row async for row in result]) == 1
    assert watched.is_quiet()
    await connection.close()


class Blocked:
    """A lock in the database that another session holds, for statements to wait for."""

    def __init__(self, database: Database) -> None:
        assert isinstance(database, PostgresDatabase)
        self._database = database
        number = int(database.name.removeprefix("app_"), 16)  # nobody else's
        self.query = f"select pg_advisory_lock({number})"
        self._holder = database.server.observer()

    def __enter__(self) -> Blocked:
        self._holder.execute(self.query)
        return self

    def waiting(self) -> bool:
        """Tell whether the application waits for the lock."""
        rows = self._holder.execute(
            "select 1 from pg_stat_activity where application_name = %s and wait_event_type = 'Lock'",
            [self._database.name],
        )
        return bool(rows.fetchall())

    def release(self) -> None:
        """Let the application go on."""
        self._holder.close()

    def __exit__(self, *raised: object) -> None:
        self.release()


async def _fetch(driver_connection: Any, query: str) -> Any:
    """Ask the database by the driver's own interface."""
    if hasattr(driver_connection, "fetch"):
        return await driver_connection.fetch(query)
    cursor = await driver_connection.execute(query)
    return await cursor.fetchall()


@pytest.mark.parametrize("statements", [True, False])
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async"])
async def test_a_call_of_the_driver_is_not_quiet(
    driver: str, statements: bool, database_on: MakeDatabase
) -> None:
    """A query that bypasses SQLAlchemy is seen by the driver's own state, statements counted or not."""
    database = database_on(driver)
    watched = Watched(database.engine(), statements=statements)
    connection = await watched.engine.connect()
    raw = await connection.get_raw_connection()
    with Blocked(database) as blocked:
        task = asyncio.create_task(_fetch(raw.driver_connection, blocked.query))
        await eventually(blocked.waiting, "the driver waits for the database")
        assert not watched.is_quiet()
        blocked.release()
        await task
    assert watched.is_quiet()
    await connection.close()


@pytest.mark.parametrize("statements", [True, False])
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async"])
async def test_a_statement_under_way_is_not_quiet(
    driver: str, statements: bool, database_on: MakeDatabase
) -> None:
    """A statement that takes its time is work until it is through."""
    database = database_on(driver)
    watched = Watched(database.engine(), statements=statements)
    connection = await watched.engine.connect()
    with Blocked(database) as blocked:
        task = asyncio.create_task(execute(connection, blocked.query))
        await eventually(blocked.waiting, "the statement waits for the database")
        assert not watched.is_quiet()
        blocked.release()
        await task
    assert watched.is_quiet()
    await connection.close()


def test_a_statement_under_way_in_a_thread_is_not_quiet(database_on: MakeDatabase) -> None:
    """The same on a synchronous engine, seen from another thread."""
    database = database_on("psycopg")
    watched = Watched(database.engine())
    with watched.engine.connect() as connection, Blocked(database) as blocked:
        thread = threading.Thread(target=connection.execute, args=(text(blocked.query),), daemon=True)
        thread.start()
        until(blocked.waiting, "the statement waits for the database")
        assert not watched.is_quiet()
        blocked.release()
        thread.join()
        assert watched.is_quiet()


async def test_an_asyncpg_copy_is_not_quiet(database_on: MakeDatabase) -> None:
    """A COPY whose source is slow is work, though nothing reaches SQLAlchemy."""
    database = database_on("asyncpg")
    watched = Watched(database.engine())
    more, asked = asyncio.Event(), asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        yield b"1\n"
        asked.set()
        await more.wait()
        yield b"2\n"

    connection = await watched.engine.connect()
    await execute_ddl(connection, "create temporary table numbers (n integer)")
    driver_connection = (await connection.get_raw_connection()).driver_connection
    task = asyncio.create_task(driver_connection.copy_to_table("numbers", source=source()))
    await asked.wait()
    assert not watched.is_quiet()
    more.set()
    assert await task == "COPY 2"
    assert watched.is_quiet()
    await connection.close()


async def test_a_psycopg_copy_is_not_quiet(database_on: MakeDatabase) -> None:
    """A COPY in or out of psycopg is work from its beginning to its end."""
    database = database_on("psycopg_async")
    watched = Watched(database.engine())
    connection = await watched.engine.connect()
    await execute_ddl(connection, "create temporary table numbers (n integer)")
    driver_connection = (await connection.get_raw_connection()).driver_connection
    async with driver_connection.cursor() as cursor:
        async with cursor.copy("copy numbers from stdin") as copy:
            await copy.write_row((1,))
            assert not watched.is_quiet()
        assert watched.is_quiet()
        async with cursor.copy("copy (select generate_series(1, 10000)) to stdout") as copy:
            assert await copy.read_row() == ("1",)
            assert not watched.is_quiet()
            async for _ in copy:
                pass
        assert watched.is_quiet()
    await connection.close()


async def test_an_asyncpg_listener_is_not_quiet(database_on: MakeDatabase) -> None:
    """A connection that listens for notifications does its work by waiting."""
    database = database_on("asyncpg")
    watched = Watched(database.engine())
    connection = await watched.engine.connect()
    driver_connection = (await connection.get_raw_connection()).driver_connection

    def heard(*arguments: Any) -> None:
        """Nobody notifies."""

    await driver_connection.add_listener("channel", heard)
    assert not watched.is_quiet()
    await driver_connection.remove_listener("channel", heard)
    assert watched.is_quiet()
    await connection.close()


async def test_a_psycopg_listener_is_not_quiet(database_on: MakeDatabase) -> None:
    """The same for psycopg, while it waits for notifications."""
    database = database_on("psycopg_async")
    watched = Watched(database.engine(isolation_level="AUTOCOMMIT"))
    connection = await watched.engine.connect()
    await execute_ddl(connection, "listen channel")
    driver_connection = (await connection.get_raw_connection()).driver_connection
    assert watched.is_quiet()

    async def listen() -> str:
        async with aclosing(driver_connection.notifies()) as notifications:
            return str((await anext(notifications)).payload)

    task = asyncio.create_task(listen())
    await eventually(driver_connection.lock.locked, "psycopg waits for a notification")
    assert not watched.is_quiet()
    assert isinstance(database, PostgresDatabase)
    with database.server.observer() as observer:
        observer.execute("notify channel, 'hello'")
    assert await task == "hello"
    assert watched.is_quiet()
    await connection.close()


async def test_the_quietest_use_decides(database_on: MakeDatabase) -> None:
    """Of several uses those at work are passed over, and the longest silence of the others counts."""
    watched = Watched(database_on("asyncpg").engine())
    streaming = await watched.engine.connect()
    result = await streaming.stream(text(ROWS["postgresql"]))
    assert not watched.is_quiet()
    idle = await watched.engine.connect()
    await execute(idle)
    assert watched.is_quiet()
    assert watched.pool.snapshot().oldest_quiet_seconds < 2 * LATER
    await idle.close()
    assert not watched.is_quiet()
    await result.close()
    await streaming.close()


async def test_statements_of_a_shared_connection_are_counted(database_on: MakeDatabase) -> None:
    """Where several share a connection, each statement counts once all the same."""
    watched = Watched(database_on("asyncpg").engine(poolclass=StaticPool))
    first, second = await watched.engine.connect(), await watched.engine.connect()
    await execute(first)
    await execute(second)
    await first.close()
    await execute(second)
    assert watched.pool.snapshot().statements == 3
    await second.close()
    assert watched.pool.snapshot().statements == 3


async def execute_ddl(connection: Any, statement: str) -> None:
    """Execute a statement without a result."""
    await connection.execute(text(statement))
