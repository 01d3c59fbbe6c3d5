"""Callers cancelled at each point where they can wait (rows 13a to 13i)."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from sqlalchemy import event

from tests.capture.scenarios.drivers import ASYNC
from tests.capture.scenarios.harness import OpenRig, Rig
from tests.capture.scenarios.waiting import cancel, eventually

pytestmark = pytest.mark.parametrize("driver", ASYNC)

CLOSES_WITH_IO = ("asyncpg", "aiosqlite")
"""Drivers whose close waits for the database; psycopg's only closes the socket."""


async def works_again(r: Rig, *, checkouts: int, connects: int) -> None:
    """Acquire and give back once more: no slot is lost."""
    connection = await r.connect()
    await r.check(checkouts=checkouts, connects=connects, used=1, idle=0)
    await r.execute(connection)
    await r.do(connection.close)
    await r.check(checkins=checkouts, used=0, idle=1)


async def test_13a_cancelled_in_the_queue(rig: OpenRig) -> None:
    """A waiter that is cancelled is one cancelled acquire, and its slot is not lost."""
    async with rig(pool_size=1, max_overflow=0) as r:
        held = await r.connect()
        await r.check(checkouts=1, connects=1, used=1)
        waiting = asyncio.create_task(r.connect())
        await r.pending(queued=1)
        await cancel(waiting)
        await r.check(cancelled_acquires=1, waits=1)
        await r.do(held.close)
        await r.check(checkins=1, used=0, idle=1)
        await works_again(r, checkouts=2, connects=1)


async def test_13b_cancelled_while_connecting(rig: OpenRig) -> None:
    """An attempt to connect that is cancelled is no connect and no connect error."""
    async with rig(pool_size=1, max_overflow=0) as r:
        gate = r.gate_connects()
        connecting = asyncio.create_task(r.connect())
        await gate.reached()
        await r.check(pending_requests={"connecting": 1})
        await cancel(connecting)
        await r.check(cancelled_acquires=1, pending_requests={})
        gate.open()
        await works_again(r, checkouts=1, connects=1)


async def test_13c_cancelled_in_dialect_initialisation(rig: OpenRig) -> None:
    """A connection whose initialisation is cancelled was established, and is closed for it."""
    async with rig(pool_size=1, max_overflow=0) as r:
        established, initialising = asyncio.Event(), asyncio.Event()
        original = r.dialect.initialize

        def initialize(connection: Any) -> None:
            from sqlalchemy.util import await_only

            established.set()
            await_only(initialising.wait())
            original(connection)

        r.dialect.initialize = initialize
        connecting = asyncio.create_task(r.connect())
        await established.wait()
        await r.check(connects=1, idle=1, pending_requests={"connecting": 1})
        await cancel(connecting)
        snapshot = await r.check(cancelled_acquires=1, idle=0, closes={"init_failed": 1}, pending_requests={})
        assert snapshot.connect_seconds.count == 0
        initialising.set()
        await works_again(r, checkouts=1, connects=2)


async def test_13d_cancelled_in_pre_ping(rig: OpenRig) -> None:
    """A ping that is cancelled closes the connection for the cancellation; it has not failed."""
    async with rig(pool_size=1, max_overflow=0, pool_pre_ping=True) as r:
        await r.warm()
        r.database.freeze()
        with r.entered("do_ping") as pinging:
            connecting = asyncio.create_task(r.connect())
            await pinging.wait()
        await r.check(pending_requests={"pinging": 1})
        await cancel(connecting, meanwhile=r.database.thaw)
        await r.check(cancelled_acquires=1, idle=0, closes={"cancelled": 1}, pending_requests={})
        await works_again(r, checkouts=2, connects=2)


async def test_13e_cancelled_while_executing(rig: OpenRig) -> None:
    """A statement that is cancelled costs the connection, and is no disconnect."""
    async with rig(pool_size=1, max_overflow=0) as r:
        connection = await r.connect()
        await r.execute(connection)
        await r.check(checkouts=1, connects=1, used=1)
        event.listen(
            r.sync_engine, "before_cursor_execute", lambda *arguments: r.database.freeze(), once=True
        )
        with r.entered("do_execute") as executing:
            statement = asyncio.create_task(r.execute(connection))
            await executing.wait()
        await cancel(statement, meanwhile=r.database.thaw)
        del statement  # its traceback has the cursor, without which SQLite does not let go of its file
        await eventually(lambda: gc.collect() >= 0 == r.database.backends(), "the backend is gone")
        await r.check(checkins=1, used=0, closes={"cancelled": 1})
        await r.do(connection.close)
        await r.check()
        await works_again(r, checkouts=2, connects=2)


async def test_13f_cancelled_in_reset(rig: OpenRig) -> None:
    """A return that is cancelled in its rollback is a checkin, and costs the connection."""
    async with rig(pool_size=1, max_overflow=0) as r:
        raw = await r.raw()
        await r.within(r.begin, raw)
        await r.check(checkouts=1, connects=1, used=1)
        r.database.freeze()
        with r.entered("do_rollback") as resetting:
            returning = asyncio.create_task(r.within(raw.close))
            await resetting.wait()
        await r.check()
        await cancel(returning, meanwhile=r.database.thaw)
        await r.check(checkins=1, used=0, closes={"cancelled": 1})
        del raw
        await works_again(r, checkouts=2, connects=2)


async def test_13g_cancelled_at_the_end_of_its_block(rig: OpenRig) -> None:
    """`async with` returns its connection in peace although its caller is cancelled."""
    async with rig(pool_size=1, max_overflow=0) as r:
        await r.warm()

        async def use() -> None:
            async with r.engine.connect() as connection:
                await r.execute(connection)
                r.database.freeze()

        with r.entered("do_rollback") as returning:
            using = asyncio.create_task(use())
            await returning.wait()
            await r.check(checkouts=2, used=1, idle=0)
            await cancel(using, meanwhile=r.database.thaw)
        await eventually(lambda: r.snapshot().checkins == 2, "the connection is returned")
        await r.check(checkins=2, used=0, idle=1)
        await works_again(r, checkouts=3, connects=1)


async def test_13h_cancelled_while_an_old_connection_is_closed(rig: OpenRig, driver: str) -> None:
    """A recycle that is cancelled in its close is one cancelled acquire and one close."""
    if driver not in CLOSES_WITH_IO:
        pytest.skip("this driver's close cannot be cancelled: it waits for nothing")
    async with rig(pool_size=1, max_overflow=0, pool_recycle=60) as r:
        connection = await r.connect()
        r.age(await r.fairy_of(connection))
        await r.do(connection.close)
        await r.check(checkouts=1, checkins=1, connects=1, idle=1)
        r.database.freeze()
        with r.entered("do_terminate") as closing:
            connecting = asyncio.create_task(r.connect())
            await closing.wait()
        await cancel(connecting, meanwhile=r.database.thaw)
        await r.check(cancelled_acquires=1, idle=0, closes={"recycle": 1})
        await works_again(r, checkouts=2, connects=2)


async def test_13i_cancelled_dispose(rig: OpenRig, driver: str) -> None:
    """A dispose that hangs and is cancelled closes one connection and loses its slot."""
    if driver not in CLOSES_WITH_IO:
        pytest.skip("this driver's close cannot be cancelled: it waits for nothing")
    async with rig(pool_size=2, max_overflow=0) as r:
        await r.warm(2)
        pool = r.pool
        r.database.freeze()
        with r.entered("do_close") as closing:
            disposing = asyncio.create_task(r.engine.dispose())
            await closing.wait()
        await cancel(disposing, meanwhile=r.database.thaw)
        await r.check(idle=1, closes={"dispose": 1}, unaccounted_slots=1)
        assert r.pool is pool, "it is not replaced"
        assert r.pool_says()["checkedout"] == 1


@pytest.mark.parametrize("with_listener", [False, True])
async def test_13c_cancelled_in_another_connect_listener(rig: OpenRig, with_listener: bool) -> None:
    """A listener of the application that is cancelled while it waits is like initialisation."""
    async with rig(pool_size=1, max_overflow=0) as r:
        reached, go = asyncio.Event(), asyncio.Event()

        def wait(connection: Any, record: Any) -> None:
            from sqlalchemy.util import await_only

            reached.set()
            await_only(go.wait())

        event.listen(r.sync_engine, "connect", wait, insert=with_listener)
        connecting = asyncio.create_task(r.connect())
        await reached.wait()
        await cancel(connecting)
        await r.check(cancelled_acquires=1, connects=1, closes={"init_failed": 1})
        go.set()
        await works_again(r, checkouts=1, connects=2)
