"""Pools that are disposed, under load and at rest (rows 14, 14b to 14f)."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from tests.capture.scenarios.drivers import ALL, ASYNC
from tests.capture.scenarios.harness import OpenRig, Rig
from tests.capture.scenarios.waiting import LEFT_OPEN, eventually

on_all = pytest.mark.parametrize("driver", ALL)
on_async = pytest.mark.parametrize("driver", ASYNC)
pytestmark = LEFT_OPEN


async def collected(r: Rig, lost: int) -> None:
    """Let the collector take the disposed pool, and wait until its connections are lost."""

    def gone() -> bool:
        gc.collect()
        return r.snapshot().closes["lost"] == lost

    await eventually(gone, f"{lost} connections are lost")


@on_all
async def test_14_dispose_with_one_idle_and_two_out(rig: OpenRig) -> None:
    """Dispose closes what is idle; what is out goes on in the old pool, and orphans there."""
    async with rig() as r:
        idle, first, second = [await r.connect() for _ in range(3)]
        await r.do(idle.close)
        await r.check(checkouts=3, checkins=1, connects=3, used=2, idle=1)
        old = r.pool
        await r.do(r.engine.dispose)
        await r.check(idle=0, closes={"dispose": 1}, orphaned_connections=2)
        assert r.pool is not old
        await r.do(first.close)
        await r.check(checkins=2, used=1, idle=1)
        await r.do(second.close)
        await r.check(checkins=3, used=0, idle=2)
        assert old.checkedout() == -2, "what the old pool itself says (surprise 2)"
        connection = await r.connect()
        await r.check(checkouts=4, connects=4, used=1)
        await r.do(connection.close)
        await r.check(checkins=4, used=0, idle=3)
        gone = weakref.ref(old)
        del idle, first, second, old
        await collected(r, lost=2)
        assert gone() is None
        await r.check(idle=1, closes={"dispose": 1, "lost": 2}, orphaned_connections=0)


@on_all
async def test_14b_the_old_pool_is_collected(rig: OpenRig) -> None:
    """The connection that came back to a disposed pool is lost when the collector takes the pool."""
    async with rig() as r:
        connection = await r.connect()
        await r.do(r.engine.dispose)
        await r.check(checkouts=1, connects=1, used=1, orphaned_connections=1)
        await r.do(connection.close)
        await r.check(checkins=1, used=0, idle=1)
        del connection
        await collected(r, lost=1)
        await r.check(idle=0, closes={"lost": 1}, orphaned_connections=0)


@on_all
async def test_14c_dispose_without_close(rig: OpenRig) -> None:
    """dispose(close=False) leaves the idle connections open, orphaned, until they are collected."""
    async with rig() as r:
        await r.warm(2)
        old = r.pool
        await r.do(r.engine.dispose, close=False)
        await r.check(orphaned_connections=2)
        connection = await r.connect()
        await r.check(checkouts=3, connects=3, used=1)
        await r.do(connection.close)
        await r.check(checkins=3, used=0, idle=3)
        del old
        await collected(r, lost=2)
        await r.check(idle=1, closes={"lost": 2}, orphaned_connections=0)


@on_async
async def test_14d_a_waiter_at_dispose_is_served_by_the_old_pool(rig: OpenRig) -> None:
    """Who waits in the queue of a pool that is disposed gets that pool's next connection."""
    async with rig(pool_size=1, max_overflow=0) as r:
        held = await r.connect()
        waiting = asyncio.create_task(r.connect())
        await r.pending(queued=1)
        await r.engine.dispose()
        await r.check(
            checkouts=1, connects=1, used=1, waits=1, pending_requests={"queued": 1}, orphaned_connections=1
        )
        await held.close()
        connection = await waiting
        await r.check(checkouts=2, checkins=1, pending_requests={})
        await connection.close()
        await r.check(checkins=2, used=0, idle=1)
        del held, connection, waiting
        await collected(r, lost=1)
        await r.check(idle=0, closes={"lost": 1}, orphaned_connections=0)


@on_async
async def test_14e_dispose_while_connecting(rig: OpenRig) -> None:
    """A connection that is being made at a dispose is the old pool's."""
    async with rig() as r:
        gate = r.gate_connects()
        connecting = asyncio.create_task(r.connect())
        await gate.reached()
        old = r.pool
        await r.engine.dispose()
        await r.check(pending_requests={"connecting": 1})
        gate.open()
        connection = await connecting
        await r.check(checkouts=1, connects=1, used=1, pending_requests={}, orphaned_connections=1)
        await connection.close()
        await r.check(checkins=1, used=0, idle=1)
        assert old.checkedout() == -1, "what the old pool itself says (surprise 2)"
        del connection, connecting, old
        await collected(r, lost=1)
        await r.check(idle=0, closes={"lost": 1}, orphaned_connections=0)


@on_all
async def test_14f_returned_to_a_dead_pool_that_another_use_keeps_alive(rig: OpenRig) -> None:
    """What came back to a disposed pool stays open for as long as one other use of that pool lasts."""
    async with rig() as r:
        returned, kept = await r.connect(), await r.connect()
        await r.do(r.engine.dispose)
        await r.do(returned.close)
        del returned
        gc.collect()
        await r.check(checkouts=2, checkins=1, connects=2, used=1, idle=1, orphaned_connections=2)
        await r.do(kept.close)
        del kept
        await collected(r, lost=2)
        await r.check(checkins=2, used=0, idle=0, closes={"lost": 2}, orphaned_connections=0)
