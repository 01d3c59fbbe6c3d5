"""Acquires and their ends, where nothing goes wrong (rows 1, 2, 3, 4, 12, 16a, 18, 21)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from tests.capture.scenarios.drivers import ALL, ASYNC, POSTGRES
from tests.capture.scenarios.harness import OpenRig
from tests.capture.scenarios.waiting import eventually

on_all = pytest.mark.parametrize("driver", ALL)


@on_all
async def test_01_first_use_and_later_uses(rig: OpenRig) -> None:
    """The first use connects, later ones take the same connection."""
    async with rig() as r:
        connection = await r.connect()
        await r.check(checkouts=1, connects=1, used=1)
        await r.execute(connection)
        await r.do(connection.close)
        await r.check(checkins=1, used=0, idle=1)
        for count in (2, 3):
            connection = await r.connect()
            await r.check(checkouts=count, used=1, idle=0)
            await r.do(connection.close)
            await r.check(checkins=count, used=0, idle=1)


@on_all
async def test_02_session_holds_a_connection_per_transaction(rig: OpenRig) -> None:
    """A session is a use from its first statement to the end of its transaction; unused it is none."""
    async with rig() as r:
        make: Any = Session if r.driver == "psycopg" else AsyncSession
        unused = make(r.engine)
        await r.do(unused.close)
        await r.check()
        session = make(r.engine)
        for count in (1, 2):
            await r.do(session.execute, text("select 1"))
            await r.check(checkouts=count, connects=1, used=1, idle=0)
            await r.do(session.commit)
            await r.check(checkins=count, used=0, idle=1)
        await r.do(session.close)
        await r.check()


@on_all
async def test_03_overflow_is_closed_at_its_return(rig: OpenRig) -> None:
    """A connection that the pool has no room for is closed when it comes back."""
    async with rig(pool_size=1, max_overflow=1) as r:
        first, second = await r.connect(), await r.connect()
        snapshot = await r.check(checkouts=2, connects=2, used=2)
        assert snapshot.overflow == 1
        await r.do(first.close)
        await r.check(checkins=1, used=1, idle=1)
        await r.do(second.close)
        snapshot = await r.check(checkins=2, used=0, closes={"overflow": 1})
        assert snapshot.overflow == 0


@on_all
@pytest.mark.parametrize("method", ["connect", "raw"])
async def test_04_pool_timeout(rig: OpenRig, method: str) -> None:
    """An acquire that waits out the pool's timeout is one timeout and no checkout."""
    async with rig(pool_size=1, max_overflow=0, pool_timeout=0.05) as r:
        held = await r.connect()
        await r.check(checkouts=1, connects=1, used=1)
        with pytest.raises(exc.TimeoutError) as raised:
            await getattr(r, method)()
        assert raised.value.code == "3o7r"
        snapshot = await r.check(timeouts=1, waits=1)
        assert snapshot.queue_seconds >= 0.04
        await r.do(held.close)
        await r.check(checkins=1, used=0, idle=1)


@pytest.mark.parametrize("driver", ASYNC)
async def test_04_wait_that_ends_well(rig: OpenRig) -> None:
    """An acquire that waits for another's return is pending, then one checkout that waited."""
    async with rig(pool_size=1, max_overflow=0) as r:
        held = await r.connect()
        waiting = asyncio.create_task(r.connect())
        await r.pending(queued=1)
        await r.check(checkouts=1, connects=1, used=1, waits=1, pending_requests={"queued": 1})
        await r.do(held.close)
        connection = await waiting
        snapshot = await r.check(checkouts=2, checkins=1, pending_requests={})
        assert snapshot.wait_seconds.sum >= snapshot.queue_seconds > 0
        await r.do(connection.close)
        await r.check(checkins=2, used=0, idle=1)


@on_all
async def test_12_held_for_ever(rig: OpenRig) -> None:
    """A connection that nobody returns stays one use, older with each look, while others time out."""
    async with rig(pool_size=1, max_overflow=0, pool_timeout=0.01) as r:
        held = await r.connect()
        await r.check(checkouts=1, connects=1, used=1)
        ages = [r.snapshot().oldest_use_seconds]
        for count in (1, 2):
            with pytest.raises(exc.TimeoutError):
                await r.connect()
            ages.append((await r.check(timeouts=count, waits=count)).oldest_use_seconds)
        assert ages == sorted(ages)
        assert ages[-1] > ages[0] + 0.015
        await r.do(held.close)
        await r.check(checkins=1, used=0, idle=1)


@on_all
async def test_16a_null_pool(rig: OpenRig) -> None:
    """A pool that keeps nothing connects for each use and closes after it."""
    async with rig(poolclass=NullPool) as r:
        for count in (1, 2):
            connection = await r.connect()
            await r.check(checkouts=count, connects=count, used=1)
            await r.execute(connection)
            await r.do(connection.close)
            snapshot = await r.check(checkins=count, used=0, closes={"unpooled": count})
        assert (snapshot.size, snapshot.max, snapshot.overflow, snapshot.unaccounted_slots) == (None,) * 4


@on_all
async def test_18_raw_connection(rig: OpenRig) -> None:
    """A raw connection is a use like any other; its second close() is nothing."""
    async with rig() as r:
        raw = await r.raw()
        await r.check(checkouts=1, connects=1, used=1)
        for _ in range(2):
            await r.within(raw.close)
            await r.check(checkins=1, used=0, idle=1)


@on_all
async def test_18_pool_connect(rig: OpenRig) -> None:
    """What a caller takes from the pool itself counts too."""
    async with rig() as r:
        fairy = await r.within(r.pool.connect)
        await r.check(checkouts=1, connects=1, used=1)
        await r.within(fairy.close)
        await r.check(checkins=1, used=0, idle=1)


@pytest.mark.parametrize("driver", POSTGRES)
async def test_21_autocommit(rig: OpenRig) -> None:
    """Isolation level AUTOCOMMIT changes nothing."""
    async with rig(isolation_level="AUTOCOMMIT") as r:
        connection = await r.connect()
        await r.execute(connection)
        assert (await r.check(checkouts=1, connects=1, used=1)).statements == 1
        await r.do(connection.close)
        await r.check(checkins=1, used=0, idle=1)


@pytest.mark.parametrize("driver", ASYNC)
@pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")  # psycopg's cursor
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_21_stream_left_unread(rig: OpenRig) -> None:
    """A result that is streamed and not read to its end goes with its connection's return."""
    async with rig() as r:
        connection = await r.connect()
        many = (
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000) select i from n"
        )
        result = await connection.stream(text(many))
        assert (await result.fetchone()) == (1,)
        await r.check(checkouts=1, connects=1, used=1)
        assert r.snapshot().statements == 1
        assert r.snapshot().oldest_quiet_seconds == 0.0, "an open cursor is not quiet (surprise 11)"
        await r.do(connection.close)
        await r.check(checkins=1, used=0, idle=1)
        del result
        await eventually(lambda: r.snapshot().open == 1, "the connection stays")
