"""Instrument engines of every make: option engines, creators, shared pools, pools of one's own class."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import asyncpg
import psycopg
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool, Pool, QueuePool, StaticPool

from pool_exporter import instrument
from pool_exporter.instrumentation.runtime import RUNTIME
from tests.capture.engines.databases import Database, PostgresDatabase, check, do, execute, watch
from tests.laws import assert_laws

MakeDatabase = Callable[[str], Database]


# --- engines -----------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_option_engines_are_their_parent(driver: str, database_on: MakeDatabase) -> None:
    """Whichever of them is instrumented, one pool is, and each statement and use counts once."""
    database = database_on(driver)
    engine = database.engine(pool_size=1, max_overflow=0)
    option = engine.execution_options(isolation_level="AUTOCOMMIT")
    option_of_option = option.execution_options(logging_token="child")
    pool = watch(option_of_option)
    assert instrument(engine) is pool
    assert instrument(option) is pool
    for number, each in enumerate((engine, option, option_of_option), 1):
        connection = await do(each.connect)
        await execute(connection)
        check(pool, database, used=1, uses=1, checkouts=number, statements=number, connects=1)
        await do(connection.close)
    await do(option.dispose)
    check(pool, database, open=0, closes={"dispose": 1}, checkins=3)
    await do((await do(engine.connect)).close)
    check(pool, database, idle=1, checkouts=4)


async def test_a_creator_is_followed(database_on: MakeDatabase) -> None:
    """An engine that connects by a function of the application is counted like any other."""
    database = database_on("psycopg")
    assert isinstance(database, PostgresDatabase)
    port = database.server.port

    def creator() -> Any:
        return psycopg.connect(
            host="127.0.0.1", port=port, user="postgres", dbname="postgres", application_name=database.name
        )

    database.url = "postgresql+psycopg://"
    engine = database.engine(creator=creator)
    pool = watch(engine)
    with engine.connect() as connection:
        connection.execute(text("select 1"))
        snapshot = check(pool, database, used=1, connects=1, statements=1)
    assert (snapshot.name, snapshot.info["server"], snapshot.info["database"]) == ("postgresql", "", "")
    assert snapshot.connect_seconds is not None
    assert snapshot.connect_seconds.count == 1


async def test_an_async_creator_is_followed(database_on: MakeDatabase) -> None:
    """The same for a coroutine function; one that raises gives connect errors."""
    database = database_on("asyncpg")
    assert isinstance(database, PostgresDatabase)
    port = database.server.port
    broken = False

    async def creator() -> Any:
        if broken:
            raise ConnectionAbortedError
        return await asyncpg.connect(
            host="127.0.0.1",
            port=port,
            user="postgres",
            database="postgres",
            server_settings={"application_name": database.name},
        )

    database.url = "postgresql+asyncpg://"
    engine = database.engine(async_creator=creator)
    pool = watch(engine)
    connection = await engine.connect()
    check(pool, database, used=1, connects=1)
    broken = True
    with pytest.raises(ConnectionAbortedError):
        await engine.connect()
    snapshot = check(pool, database, used=1, connects=1, failed_acquires=1, acquires=2)
    assert snapshot.connect_errors == {"builtins.ConnectionAbortedError": 1}
    await connection.close()


async def test_engines_of_one_process_do_not_mix(database_on: MakeDatabase) -> None:
    """Engines of several drivers count for themselves in one registry."""
    registry = CollectorRegistry()
    drivers = ("asyncpg", "psycopg", "aiosqlite", "pysqlite")
    databases = [database_on(driver) for driver in drivers]
    engines = [database.engine() for database in databases]
    pools = [
        instrument(engine, name=driver, registry=registry)
        for driver, engine in zip(drivers, engines, strict=True)
    ]
    for number, engine in enumerate(engines, 1):
        for _ in range(number):
            await do((await do(engine.connect)).close)
    for number, (pool, database) in enumerate(zip(pools[:2], databases[:2], strict=True), 1):
        check(pool, database, checkouts=number, checkins=number, connects=1, idle=1)
    scraped = generate_latest(registry).decode()
    for number, driver in enumerate(drivers, 1):
        assert f'sqlalchemy_pool_checkouts_total{{pool="{driver}"}} {number}.0' in scraped


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_engine_that_is_collected_takes_its_series_along(database_on: MakeDatabase) -> None:
    """Nothing of ours keeps an engine, its pool or its connections alive; then the series are gone."""
    database = database_on("pysqlite")
    registry = CollectorRegistry()
    engine = create_engine(database.url, poolclass=QueuePool)
    pool = instrument(engine, name="gone", registry=registry)
    engine.connect().close()
    check(pool, database, idle=1, connects=1)
    assert b'pool="gone"' in generate_latest(registry)
    del engine
    gc.collect()
    assert b'pool="gone"' not in generate_latest(registry)
    check(pool, database, open=0, connects=1, closes={"lost": 1}, checkouts=1, checkins=1)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_engine_that_is_collected_stays_while_a_connection_is_out(database_on: MakeDatabase) -> None:
    """A connection that outlives its engine is still shown, until it is given back."""
    database = database_on("pysqlite")
    registry = CollectorRegistry()
    engine = create_engine(database.url, poolclass=QueuePool)
    pool = instrument(engine, name="outlived", registry=registry)
    raw = engine.raw_connection()
    del engine
    gc.collect()
    assert b'sqlalchemy_pool_connections{pool="outlived",state="used"} 1.0' in generate_latest(registry)
    snapshot = check(pool, database, used=1, uses=1, checkouts=1)
    assert snapshot.info.get("pool_class", "QueuePool") == "QueuePool"
    raw.close()
    del raw
    gc.collect()
    assert b'pool="outlived"' not in generate_latest(registry)
    check(pool, database, open=0, checkins=1)


# --- two engines on one pool -------------------------------------------------------------


@pytest.mark.parametrize("driver", ["psycopg", "pysqlite"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_engines_on_one_pool_are_one(
    driver: str, order: tuple[int, int], database_on: MakeDatabase
) -> None:
    """Engines that share a pool share its instrumentation; nothing counts twice."""
    database = database_on(driver)
    first = database.engine(**({"poolclass": QueuePool} if driver == "pysqlite" else {}))
    second = database.engine(pool=first.pool)
    engines = (first, second)
    pool = watch(engines[order[0]])
    assert instrument(engines[order[1]]) is pool
    for number, engine in enumerate((first, second, first), 1):
        with engine.connect() as connection:
            connection.execute(text("select 1"))
            check(pool, database, used=1, uses=1, checkouts=number, statements=number, connects=1)
    check(pool, database, idle=1, checkins=3, unaccounted_slots=0)

    # One of them is disposed: it gets a pool of its own, and the other goes on with the old one.
    first.dispose()
    check(pool, database, open=0, closes={"dispose": 1})
    with first.connect(), second.connect():
        check(pool, database, used=2, uses=2, connects=3, orphaned_connections=0, unaccounted_slots=0)
    check(pool, database, idle=2, checkins=5)
    second.dispose()
    check(pool, database, idle=1, closes={"dispose": 2})
    pool.uninstrument()
    for engine in (first, second):
        assert type(engine.pool) is QueuePool
        assert [name for name in vars(engine.dialect) if name.startswith("do_")] == []


# --- pools of one's own class ------------------------------------------------------------


class Sized(QueuePool):
    """A pool that merely overrides a method of QueuePool."""

    got = 0

    def _do_get(self) -> Any:
        Sized.got += 1
        return super()._do_get()


class Hard(QueuePool):
    """A pool whose recreate() names its class instead of asking for it."""

    def recreate(self) -> Hard:
        return Hard(
            self._creator,
            pool_size=self._pool.maxsize,
            max_overflow=self._max_overflow,
            reset_on_return=self._reset_on_return,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )


class Stack(Pool):
    """A pool that keeps its connections in a list, and names its class in recreate()."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.stack: list[Any] = []

    def _do_get(self) -> Any:
        return self.stack.pop() if self.stack else self._create_connection()

    def _do_return_conn(self, record: Any) -> None:
        self.stack.append(record)

    def recreate(self) -> Stack:
        return Stack(
            self._creator,
            reset_on_return=self._reset_on_return,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )

    def dispose(self) -> None:
        while self.stack:
            self.stack.pop().close()

    def status(self) -> str:
        return f"{len(self.stack)} in the stack"


class Shared(Stack):
    """A pool that hands out one record to everybody, and is no StaticPool."""

    def _do_get(self) -> Any:
        if not self.stack:
            self.stack.append(self._create_connection())
        return self.stack[0]

    def _do_return_conn(self, record: Any) -> None:
        """Keep it."""


class Static(StaticPool):
    """A pool derived from StaticPool."""


@pytest.mark.parametrize("driver", ["psycopg", "pysqlite"])
@pytest.mark.parametrize("late", [False, True], ids=["new", "in use"])
@pytest.mark.parametrize("pool_class", [Sized, Hard, Stack])
def test_a_pool_of_ones_own_class(
    pool_class: type[Pool], late: bool, driver: str, database_on: MakeDatabase
) -> None:
    """Uses and connections of a custom pool are counted, before and after a dispose."""
    database = database_on(driver)
    engine = database.engine(poolclass=pool_class)
    if late:
        engine.connect().close()
    pool = watch(engine)
    assert isinstance(engine.pool, pool_class)
    for generation in (0, 1, 2):
        disposed = {"dispose": 2 * generation} if generation else {}
        with engine.connect() as first, engine.connect():
            first.execute(text("select 1"))
            check(pool, database, used=2, uses=2, connects=2 * (generation + 1), closes=disposed)
        check(pool, database, idle=2, checkins=2 * (generation + 1), acquires=2 * (generation + 1))
        engine.dispose()
        check(pool, database, open=0, closes={"dispose": 2 * (generation + 1)}, adopted=0)
        assert isinstance(engine.pool, pool_class)
    assert pool.snapshot().info["pool_class"] == pool_class.__name__
    assert pool.snapshot().mode == "full"
    assert pool.snapshot().statements == 3
    pool.uninstrument()
    assert type(engine.pool) is pool_class


@pytest.mark.parametrize("driver", ["psycopg", "pysqlite"])
def test_a_pool_that_shares_its_record(driver: str, database_on: MakeDatabase) -> None:
    """A pool that gives one connection to several never breaks the laws, and ends with nothing in use."""
    database = database_on(driver)
    engine = database.engine(poolclass=Shared, pool_reset_on_return=None)
    pool = watch(engine)
    first = engine.raw_connection()
    check(pool, database, used=1, uses=1, checkouts=1)
    second = engine.raw_connection()
    check(pool, database, used=1, checkouts=2, connects=1)
    second.close()
    assert_laws(pool.snapshot())
    first.close()
    check(pool, database, idle=1, uses=0, checkins=2)
    engine.dispose()
    check(pool, database, open=0)


@pytest.mark.parametrize("driver", ["psycopg", "pysqlite"])
def test_a_pool_derived_from_static_pool(driver: str, database_on: MakeDatabase) -> None:
    """A subclass of StaticPool has the exact uses that StaticPool has."""
    database = database_on(driver)
    engine = database.engine(poolclass=Static)
    pool = watch(engine)
    first, second = engine.connect(), engine.connect()
    check(pool, database, used=1, uses=2, checkouts=2)
    first.close()
    check(pool, database, used=1, uses=1, checkins=1)
    second.close()
    check(pool, database, idle=1, uses=0, checkins=2)


@pytest.mark.filterwarnings("ignore:The garbage collector")
@pytest.mark.parametrize("driver", ["psycopg", "pysqlite"])
def test_shared_uses_that_are_dropped_are_leaks(driver: str, database_on: MakeDatabase) -> None:
    """Of several users of one connection those that are collected count as leaks, each once."""
    database = database_on(driver)
    engine = database.engine(poolclass=StaticPool)
    pool = watch(engine)
    first, second, third = (engine.raw_connection() for _ in range(3))
    check(pool, database, used=1, uses=3)
    del first
    gc.collect()
    check(pool, database, used=1, uses=2, leaks_collected=1, checkins=0)
    second.close()
    check(pool, database, used=1, uses=1, leaks_collected=1, checkins=1)
    del third
    gc.collect()
    check(pool, database, used=0, idle=1, uses=0, leaks_collected=2, checkins=1)


@pytest.mark.parametrize("driver", ["psycopg", "pysqlite"])
def test_a_pool_that_replaces_its_own_methods_is_reduced(
    driver: str,
    database_on: MakeDatabase,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the pool itself had its connect() replaced, events alone are used, and that is said."""
    monkeypatch.setattr(RUNTIME, "_said", set())
    database = database_on(driver)
    engine = database.engine(poolclass=QueuePool)
    engine.pool.connect = engine.pool.connect
    pool = watch(engine)
    with engine.connect():
        check(pool, database, mode="reduced", used=1, uses=1, checkouts=1, acquires=None, pending=None)
    check(pool, database, idle=1, checkins=1, timeouts=None, connects=1)
    assert any("something has replaced connect() on the pool itself" in line for line in caplog.messages)


def test_null_pools_of_two_engines_are_two(database_on: MakeDatabase) -> None:
    """Pools of one class on one database count apart."""
    database = database_on("pysqlite")
    one, two = database.engine(poolclass=NullPool), database.engine(poolclass=NullPool)
    registry = CollectorRegistry()
    pools = [instrument(one, name="one", registry=registry), instrument(two, name="two", registry=registry)]
    with one.connect():
        assert [pool.snapshot().used for pool in pools] == [1, 0]
    assert [pool.snapshot().checkins for pool in pools] == [1, 0]
