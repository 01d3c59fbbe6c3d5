"""Pools that are instrumented when they are in use already (surprise 12)."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.pool import NullPool, StaticPool

from tests.capture.scenarios.drivers import ALL, ASYNC
from tests.capture.scenarios.harness import OpenRig

on_all = pytest.mark.parametrize("driver", ALL)


@on_all
async def test_surprise_12_idle_and_out(rig: OpenRig) -> None:
    """What is open counts as connects, and what is out as a checkout that was adopted."""
    async with rig(instrumented=False) as r:
        idle, held = await r.connect(), await r.connect()
        await r.do(idle.close)
        r.instrument()
        snapshot = r.snapshot()
        assert (snapshot.used, snapshot.idle, snapshot.connects) == (1, 1, 2)
        assert (snapshot.checkouts, snapshot.adopted, snapshot.acquires) == (1, 1, 0)
        await r.do(held.close)
        await r.check(checkins=1, used=0, idle=2)
        connection = await r.connect()
        await r.check(checkouts=2, used=1, idle=1)
        await r.do(connection.invalidate)
        await r.do(connection.close)
        await r.check(checkins=2, used=0, closes={"invalidated": 1}, invalidations={"hard": 1})


@on_all
async def test_surprise_12_close_of_a_connection_never_seen_connecting(rig: OpenRig) -> None:
    """A dispose closes what was open before, and nothing goes below zero."""
    async with rig(instrumented=False) as r:
        first, second = await r.connect(), await r.connect()
        await r.do(first.close)
        await r.do(second.close)
        r.instrument()
        await r.check()
        assert r.snapshot().idle == 2
        await r.do(r.engine.dispose)
        await r.check(idle=0, closes={"dispose": 2})


@on_all
@pytest.mark.parametrize("poolclass", [NullPool, StaticPool])
async def test_surprise_12_other_pools(rig: OpenRig, poolclass: type) -> None:
    """A pool that does not know its connections tells of what is out nevertheless."""
    async with rig(instrumented=False, poolclass=poolclass) as r:
        held = await r.connect()
        r.instrument()
        snapshot = await r.check()
        assert (snapshot.used, snapshot.connects, snapshot.checkouts, snapshot.adopted) == (1, 1, 1, 1)
        await r.do(held.close)
        if poolclass is NullPool:
            await r.check(checkins=1, used=0, closes={"unpooled": 1})
        else:
            await r.check(checkins=1, used=0, idle=1)


@pytest.mark.parametrize("driver", ASYNC)
async def test_surprise_12_while_connecting(rig: OpenRig) -> None:
    """An acquire that had begun before is a checkout that was adopted, and no acquire."""
    async with rig(instrumented=False) as r:
        gate = r.gate_connects()
        connecting = asyncio.create_task(r.connect())
        await gate.reached()
        r.instrument()
        await r.check(unaccounted_slots=1)
        gate.open()
        connection = await connecting
        await r.check(checkouts=1, adopted=1, connects=1, used=1, unaccounted_slots=0)
        await r.do(connection.close)
        await r.check(checkins=1, used=0, idle=1)


@pytest.mark.parametrize("driver", ASYNC)
async def test_surprise_12_while_queued(rig: OpenRig) -> None:
    """A waiter that had begun before is adopted when it gets its connection."""
    async with rig(instrumented=False, pool_size=1, max_overflow=0) as r:
        held = await r.connect()
        waiting = asyncio.create_task(r.connect())
        for _ in range(20):
            await asyncio.sleep(0)
        r.instrument()
        snapshot = await r.check()
        assert (snapshot.used, snapshot.checkouts, snapshot.adopted) == (1, 1, 1)
        await r.do(held.close)
        connection = await waiting
        await r.check(checkouts=2, adopted=2, checkins=1)
        await r.do(connection.close)
        await r.check(checkins=2, used=0, idle=1)
