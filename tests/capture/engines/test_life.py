"""Take every driver and every class of pool through one life: uses, a failing acquire, a dispose."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.dialects.mysql.asyncmy import AsyncAdapt_asyncmy_connection
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import (
    AssertionPool,
    AsyncAdaptedQueuePool,
    NullPool,
    QueuePool,
    SingletonThreadPool,
    StaticPool,
)

from tests.capture.engines.databases import ASYNC, SYNC, Database, check, do, execute, watch, within

MakeDatabase = Callable[[str], Database]
every_driver = pytest.mark.parametrize("driver", [*ASYNC, *SYNC])
SMALL: dict[str, Any] = {"pool_size": 1, "max_overflow": 1, "pool_timeout": 0.01}


def queue_pool(database: Database) -> Any:
    return AsyncAdaptedQueuePool if database.is_async else QueuePool


def _ping_is_broken() -> bool:
    """Tell whether SQLAlchemy's own wrapper refuses the call that SQLAlchemy makes of it."""
    parameters = inspect.signature(AsyncAdapt_asyncmy_connection.ping).parameters
    return parameters["reconnect"].default is inspect.Parameter.empty


@every_driver
@pytest.mark.parametrize("pre_ping", [False, True])
async def test_a_queue_pool(driver: str, pre_ping: bool, database_on: MakeDatabase) -> None:
    """Two uses at once, a third that times out, an overflow close, a reuse and a dispose are counted."""
    if driver == "asyncmy" and pre_ping and _ping_is_broken():
        pytest.skip("this SQLAlchemy cannot ping with this asyncmy")
    database = database_on(driver)
    engine = database.engine(poolclass=queue_pool(database), pool_pre_ping=pre_ping, **SMALL)
    pool = watch(engine)
    check(pool, database, open=0, size=1, max=2, mode="full")

    first = await do(engine.connect)
    check(pool, database, acquires=1, checkouts=1, uses=1, used=1, idle=0, connects=1, overflow=0)
    await execute(first)
    second = await do(engine.connect)
    await execute(second)
    check(pool, database, acquires=2, checkouts=2, uses=2, used=2, connects=2, overflow=1, statements=2)

    with pytest.raises(PoolTimeoutError):
        await do(engine.connect)
    check(pool, database, acquires=3, timeouts=1, waits=1, failed_acquires=0, pending=0, uses=2)

    await do(second.close)
    await do(first.close)
    check(pool, database, checkins=2, uses=0, used=0, idle=1, closes={"overflow": 1})

    again = await do(engine.connect)
    await execute(again)
    await do(again.close)
    snapshot = check(pool, database, checkouts=3, checkins=3, connects=2, idle=1, statements=3)
    assert snapshot.pre_ping_seconds is not None
    assert snapshot.pre_ping_seconds.count == int(pre_ping)
    assert snapshot.connect_seconds is not None
    assert snapshot.connect_seconds.count == 2

    await do(engine.dispose)
    check(pool, database, open=0, closes={"overflow": 1, "dispose": 1}, orphaned_connections=0)
    revived = await do(engine.connect)
    check(pool, database, used=1, connects=3, unaccounted_slots=0)
    await do(revived.close)
    await do(engine.dispose)
    check(pool, database, open=0, checkins=4, closes={"overflow": 1, "dispose": 2})


@every_driver
async def test_a_null_pool(driver: str, database_on: MakeDatabase) -> None:
    """Each use has a connection of its own, which ends with it."""
    database = database_on(driver)
    engine = database.engine(poolclass=NullPool)
    pool = watch(engine)
    first = await do(engine.connect)
    second = await do(engine.connect)
    await execute(first)
    check(pool, database, acquires=2, checkouts=2, uses=2, used=2, connects=2, size=None, max=None)
    await do(first.close)
    check(pool, database, uses=1, used=1, closes={"unpooled": 1}, timeout_seconds=None)
    await do(second.close)
    check(pool, database, checkins=2, open=0, closes={"unpooled": 2}, statements=1)
    await do(engine.dispose)
    check(pool, database, open=0, closes={"unpooled": 2})


@pytest.mark.parametrize("driver", ["asyncpg", "aiosqlite", "psycopg", "pysqlite"])
async def test_a_static_pool(driver: str, database_on: MakeDatabase) -> None:
    """Two uses share one connection, which stays when they end."""
    database = database_on(driver)
    engine = database.engine(poolclass=StaticPool)
    pool = watch(engine)
    first = await do(engine.connect)
    await execute(first)
    second = await do(engine.connect)
    check(pool, database, checkouts=2, uses=2, used=1, idle=0, connects=1)
    await do(first.close)
    check(pool, database, checkins=1, uses=1, used=1, idle=0)
    await do(second.close)
    check(pool, database, checkins=2, uses=0, used=0, idle=1, closes={})
    await do(engine.dispose)
    check(pool, database, open=0, closes={"dispose": 1})


@pytest.mark.parametrize("driver", ["asyncpg", "aiosqlite", "psycopg", "pysqlite"])
async def test_an_assertion_pool(driver: str, database_on: MakeDatabase) -> None:
    """A second use at once fails, and counts as a failed acquire."""
    database = database_on(driver)
    engine = database.engine(poolclass=AssertionPool)
    pool = watch(engine)
    first = await do(engine.connect)
    await execute(first)
    with pytest.raises(AssertionError, match="already checked out"):
        await do(engine.connect)
    check(pool, database, acquires=2, checkouts=1, failed_acquires=1, uses=1, used=1, connects=1)
    await do(first.close)
    check(pool, database, checkins=1, idle=1)
    await do((await do(engine.connect)).close)
    check(pool, database, checkouts=2, checkins=2, connects=1, idle=1)
    await do(engine.dispose)
    check(pool, database, open=0, closes={"dispose": 1})


@pytest.mark.parametrize("driver", ["psycopg", "pysqlite"])
def test_a_singleton_thread_pool(driver: str, database_on: MakeDatabase) -> None:
    """A thread that connects twice has one use, and each thread a connection."""
    database = database_on(driver)
    engine = database.engine(poolclass=SingletonThreadPool, pool_size=3)
    pool = watch(engine)
    outer = engine.connect()
    inner = engine.connect()
    check(pool, database, acquires=1, checkouts=1, uses=1, used=1, connects=1, size=3, max=None)
    inner.close()
    check(pool, database, checkins=0, uses=1)
    outer.close()
    check(pool, database, checkins=1, uses=0, idle=1)
    engine.dispose()
    check(pool, database, open=0, closes={"dispose": 1})


@every_driver
async def test_the_ends_of_uses(driver: str, database_on: MakeDatabase) -> None:
    """invalidate(), soft invalidation and detach() are told apart and agree with the database."""
    database = database_on(driver)
    engine = database.engine(poolclass=queue_pool(database))
    pool = watch(engine)
    connection = await do(engine.connect)
    await do(connection.invalidate)
    check(pool, database, uses=0, open=0, checkins=1, closes={"invalidated": 1})
    await do(connection.close)

    raw = await do(engine.raw_connection)
    await within(database, raw.invalidate, None, True)
    check(pool, database, uses=1, used=1, invalidations={"hard": 1, "soft": 1})
    await within(database, raw.close)
    raw = await do(engine.raw_connection)
    check(pool, database, checkouts=3, connects=3, closes={"invalidated": 1, "soft_invalidated": 1})
    driver_connection = raw.driver_connection
    await within(database, raw.detach)
    check(pool, database, detaches=1, uses=0, open=0, outside=1)
    await within(database, raw.close)
    if driver in ("psycopg_async", "aiosqlite"):  # SQLAlchemy, or some versions of it, leave it open
        await driver_connection.close()
    check(pool, database, detaches=1, checkins=2, open=0)


@every_driver
async def test_a_connect_that_fails(driver: str, database_on: MakeDatabase) -> None:
    """A database that cannot be reached gives failed acquires and connect errors, never checkouts."""
    database = database_on(driver)
    url = database.engine().url
    if "sqlite" in driver:
        database.url = "sqlite+" + driver + ":////nonexistent/directory/app.db"
    else:
        database.url = url.set(port=1).render_as_string(hide_password=False)
    engine = database.engine()
    pool = watch(engine)
    for _ in range(2):
        with pytest.raises(Exception):  # noqa: B017 - each driver has its own
            await do(engine.connect)
    snapshot = check(
        pool, database, acquires=2, failed_acquires=2, checkouts=0, connects=0, open=0, pending=0
    )
    assert snapshot.connect_errors is not None
    assert list(snapshot.connect_errors.values()) == [2]
    assert not any(name.startswith("sqlalchemy.") for name in snapshot.connect_errors)
    await do(engine.dispose)
