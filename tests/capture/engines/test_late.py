"""Instrument engines that are in use: what is idle, out, waiting or connecting at that moment."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import AssertionPool, NullPool, QueuePool, SingletonThreadPool, StaticPool
from sqlalchemy.util import await_only

from tests.capture.engines.databases import Database, check, do, eventually, execute, watch
from tests.servers import until

MakeDatabase = Callable[[str], Database]
drivers = pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async", "aiosqlite", "psycopg", "pysqlite"])


def sync_pool(engine: Any) -> Any:
    return getattr(engine, "sync_engine", engine).pool


@drivers
async def test_idle_connections_and_those_out_are_adopted(driver: str, database_on: MakeDatabase) -> None:
    """What is open counts as connected, what is out as checked out, and both go on as if always seen."""
    database = database_on(driver)
    options = {} if database.is_async else {"poolclass": QueuePool}
    engine = database.engine(pool_size=2, max_overflow=1, pool_timeout=0.01, **options)
    first, second, third = [await do(engine.connect) for _ in range(3)]
    for connection in (first, second, third):
        await execute(connection)
    await do(first.close)

    pool = watch(engine)
    check(pool, database, connects=3, idle=1, used=2, uses=2, checkouts=2, adopted=2, acquires=0, overflow=1)
    await do(second.close)
    check(pool, database, checkins=1, idle=2, used=1, closes={})
    await do(third.close)
    check(pool, database, checkins=2, idle=2, used=0, closes={"overflow": 1}, unaccounted_slots=0)
    again = await do(engine.connect)
    check(pool, database, checkouts=3, adopted=2, acquires=1, connects=3, used=1, idle=1)
    await do(again.close)
    await do(engine.dispose)
    check(pool, database, open=0, closes={"overflow": 1, "dispose": 2}, checkins=3)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async", "aiosqlite"])
async def test_an_acquire_that_waits_in_the_queue_is_adopted(driver: str, database_on: MakeDatabase) -> None:
    """A task that queued before is no acquire of ours, but its use is seen when it begins."""
    database = database_on(driver)
    engine = database.engine(pool_size=1, max_overflow=0)
    holder = await engine.connect()
    await execute(holder)
    waiting = asyncio.create_task(engine.connect().__aenter__())
    await eventually(lambda: bool(sync_pool(engine)._pool._queue._getters), "a task waits in the queue")

    pool = watch(engine)
    check(pool, database, used=1, uses=1, adopted=1, acquires=0, pending=0)
    await holder.close()
    late = await waiting
    check(pool, database, used=1, uses=1, checkouts=2, checkins=1, adopted=2, acquires=0, connects=1)
    sync_pool(engine)._timeout = 0.01
    with pytest.raises(PoolTimeoutError):
        await engine.connect()
    check(pool, database, used=1, timeouts=1, waits=1, acquires=1, unaccounted_slots=0)
    await late.close()
    check(pool, database, idle=1, checkins=2)


@pytest.mark.parametrize("driver", ["psycopg", "pysqlite"])
def test_a_thread_that_waits_in_the_queue_is_adopted(driver: str, database_on: MakeDatabase) -> None:
    """The same with threads: the waiter's use begins when the connection comes back."""
    database = database_on(driver)
    engine = database.engine(poolclass=QueuePool, pool_size=1, max_overflow=0)
    # SQLite's connections belong to the thread that made them, unless told otherwise.
    if driver == "pysqlite":
        database.connect_args["check_same_thread"] = False
    holder = engine.connect()
    taken: list[Any] = []
    waiting = threading.Thread(target=lambda: taken.append(engine.connect()))
    waiting.start()
    until(lambda: bool(engine.pool._pool.not_empty._waiters), "a thread waits in the queue")

    pool = watch(engine)
    check(pool, database, used=1, uses=1, adopted=1, acquires=0, pending=0)
    holder.close()
    waiting.join()
    check(pool, database, used=1, uses=1, checkouts=2, checkins=1, adopted=2, acquires=0, connects=1)
    taken.pop().close()
    check(pool, database, idle=1, checkins=2, unaccounted_slots=0)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async", "aiosqlite"])
@pytest.mark.parametrize("queue", [False, True], ids=["null", "queue"])
async def test_an_acquire_that_connects_is_adopted(
    driver: str, queue: bool, database_on: MakeDatabase
) -> None:
    """A connection that is on its way counts once it is there, with the use that it was made for."""
    database = database_on(driver)
    engine = database.engine(**({} if queue else {"poolclass": NullPool}))
    gate, waiting = asyncio.Event(), []

    def hold(*arguments: Any) -> None:
        waiting.append(arguments)
        await_only(gate.wait())

    event.listen(engine.sync_engine, "do_connect", hold)
    connecting = asyncio.create_task(engine.connect().__aenter__())
    await eventually(lambda: bool(waiting), "a task connects")

    pool = watch(engine)
    check(pool, database, used=0, open=0, acquires=0, pending=0, adopted=0)
    gate.set()
    connection = await connecting
    check(pool, database, used=1, uses=1, connects=1, checkouts=1, adopted=1, acquires=0)
    await connection.close()
    check(pool, database, checkins=1, uses=0, closes={} if queue else {"unpooled": 1})
    await (await engine.connect()).close()
    check(pool, database, checkouts=2, checkins=2, adopted=1, acquires=1, connects=1 if queue else 2)


@drivers
async def test_a_null_pool_in_use_is_adopted(driver: str, database_on: MakeDatabase) -> None:
    """A pool that keeps nothing has its uses all the same."""
    database = database_on(driver)
    engine = database.engine(poolclass=NullPool)
    first, second = await do(engine.connect), await do(engine.connect)
    pool = watch(engine)
    check(pool, database, connects=2, used=2, uses=2, checkouts=2, adopted=2, acquires=0)
    await do(first.close)
    await do(second.close)
    check(pool, database, checkins=2, open=0, closes={"unpooled": 2})


@drivers
async def test_a_static_pool_in_use_is_adopted(driver: str, database_on: MakeDatabase) -> None:
    """Each user of the one connection is adopted, and each return is that of its own."""
    database = database_on(driver)
    engine = database.engine(poolclass=StaticPool)
    first, second = await do(engine.connect), await do(engine.connect)
    await execute(first)
    pool = watch(engine)
    check(pool, database, connects=1, used=1, uses=2, checkouts=2, adopted=2)
    await do(second.close)
    check(pool, database, used=1, uses=1, checkins=1)
    third = await do(engine.connect)
    check(pool, database, used=1, uses=2, checkouts=3, acquires=1)
    await do(first.close)
    check(pool, database, used=1, uses=1, checkins=2)
    await do(third.close)
    check(pool, database, used=0, idle=1, uses=0, checkins=3)


@drivers
@pytest.mark.parametrize("out", [False, True], ids=["idle", "out"])
async def test_an_assertion_pool_is_adopted(driver: str, out: bool, database_on: MakeDatabase) -> None:
    """The pool's only connection is seen, whether it is out or not."""
    database = database_on(driver)
    engine = database.engine(poolclass=AssertionPool)
    connection = await do(engine.connect)
    await execute(connection)
    if not out:
        await do(connection.close)
    pool = watch(engine)
    check(pool, database, connects=1, used=int(out), idle=int(not out), adopted=int(out))
    await do(connection.close)
    check(pool, database, used=0, idle=1, checkins=int(out))
    await do((await do(engine.connect)).close)
    check(pool, database, idle=1, connects=1, acquires=1, checkouts=1 + int(out))


@pytest.mark.parametrize("driver", ["psycopg", "pysqlite"])
@pytest.mark.parametrize("out", [False, True], ids=["idle", "out"])
def test_a_singleton_thread_pool_is_adopted(driver: str, out: bool, database_on: MakeDatabase) -> None:
    """The thread's connection is seen; its second connect stays part of the use that was adopted."""
    database = database_on(driver)
    engine = database.engine(poolclass=SingletonThreadPool)
    connection = engine.connect()
    if not out:
        connection.close()
    pool = watch(engine)
    check(pool, database, connects=1, used=int(out), idle=int(not out), adopted=int(out), acquires=0)
    inner = engine.connect()
    check(pool, database, used=1, uses=1, checkouts=1, acquires=int(not out))
    inner.close()
    connection.close()
    check(pool, database, used=0, idle=1, checkins=1)


@drivers
async def test_a_pool_watched_again_adopts_what_went_on_meanwhile(
    driver: str, database_on: MakeDatabase
) -> None:
    """Between uninstrument() and the next instrument() connections came and went; the truth is new."""
    database = database_on(driver)
    options = {} if database.is_async else {"poolclass": QueuePool}
    engine = database.engine(pool_size=2, **options)
    first = watch(engine)
    one, two = await do(engine.connect), await do(engine.connect)
    first.uninstrument()
    await do(one.close)
    three = await do(engine.connect)
    second = watch(engine)
    check(second, database, connects=2, used=2, uses=2, adopted=2, idle=0)
    await do(two.close)
    await do(three.close)
    check(second, database, checkins=2, idle=2, unaccounted_slots=0)
    assert first.snapshot().checkins == 0
