"""Pools under pressure, and their own numbers (surprises 1, 2, 3, 8)."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import exc

from tests.capture.scenarios.drivers import ALL, ASYNC
from tests.capture.scenarios.harness import OpenRig
from tests.capture.scenarios.waiting import cancel

on_async = pytest.mark.parametrize("driver", ASYNC)


@on_async
@pytest.mark.parametrize("cause", ["cancelled", "failed"])
async def test_surprise_01_stranded_waiter(rig: OpenRig, cause: str) -> None:
    """A waiter that nobody wakes although a slot came free is stranded, and connects in the end."""
    async with rig(pool_size=1, max_overflow=0, pool_timeout=0.3) as r:
        gate = r.gate_connects()
        connecting = asyncio.create_task(r.connect())
        await gate.reached()
        waiting = asyncio.create_task(r.connect())
        await r.pending(connecting=1, queued=1)
        if cause == "cancelled":
            await cancel(connecting)
            ended = {"cancelled_acquires": 1}
            gate.open()
        else:
            r.database.refuse()
            gate.open()
            with pytest.raises(Exception) as raised:
                await connecting
            assert not isinstance(raised.value, (AssertionError, exc.TimeoutError))
            r.database.accept()
            ended = {"failed_acquires": 1, "connect_errors": {r.database.rejected: 1}}
        await r.check(**ended, waits=1, stranded_waits=1, pending_requests={"queued": 1})
        connection = await waiting
        snapshot = await r.check(checkouts=1, connects=1, used=1, pending_requests={})
        assert snapshot.queue_seconds >= 0.28, "it slept out the timeout"
        await r.do(connection.close)
        await r.check(checkins=1, used=0, idle=1)


@on_async
async def test_surprise_01_who_waits_for_a_return_is_not_stranded(rig: OpenRig) -> None:
    """A failed acquire strands no more waiters than it freed slots."""
    async with rig(pool_size=1, max_overflow=1) as r:
        held = await r.connect()
        gate = r.gate_connects()
        connecting = asyncio.create_task(r.connect())
        await gate.reached()
        waiting = [asyncio.create_task(r.connect()) for _ in range(2)]
        await r.pending(connecting=1, queued=2)
        await cancel(connecting)
        await r.check(
            checkouts=1,
            connects=1,
            used=1,
            cancelled_acquires=1,
            waits=2,
            stranded_waits=1,
            pending_requests={"queued": 2},
        )
        for task in waiting:
            await cancel(task)
        await r.check(cancelled_acquires=3, pending_requests={})
        await r.do(held.close)
        await r.check(checkins=1, used=0, idle=1)


@on_async
async def test_surprise_08_full_of_hanging_connects(rig: OpenRig) -> None:
    """Two connects that hang fill a pool of two, with no connection in sight."""
    async with rig(pool_size=2, max_overflow=0, pool_timeout=0.05) as r:
        gate = r.gate_connects()
        connecting = [asyncio.create_task(r.connect()) for _ in range(2)]
        await gate.reached(2)
        await r.check(pending_requests={"connecting": 2})
        assert r.pool_says()["checkedout"] == 2
        with pytest.raises(exc.TimeoutError):
            await r.connect()
        await r.check(timeouts=1, waits=1)
        gate.open()
        held = await asyncio.gather(*connecting)
        await r.check(checkouts=2, connects=2, used=2, pending_requests={})
        for connection in held:
            await r.do(connection.close)
        await r.check(checkins=2, used=0, idle=2)


@pytest.mark.parametrize("driver", ALL)
async def test_surprise_02_idle_pool_has_a_negative_overflow(rig: OpenRig) -> None:
    """What the pool calls its overflow is not the connections above its size."""
    async with rig(pool_size=3) as r:
        assert r.pool_says() == {"checkedin": 0, "checkedout": 0, "overflow": -3}
        snapshot = await r.check()
        assert (snapshot.overflow, snapshot.size, snapshot.max) == (0, 3, 13)


@on_async
async def test_surprise_03_uninstrument_under_load(rig: OpenRig) -> None:
    """To uninstrument a pool in use disturbs nobody, and what was known last stays known."""
    async with rig(pool_size=2, max_overflow=0) as r:
        stop = False

        async def work() -> int:
            done = 0
            while not stop:
                connection = await r.connect()
                await r.execute(connection)
                await r.do(connection.close)
                done += 1
            return done

        workers = [asyncio.create_task(work()) for _ in range(4)]
        while r.snapshot().checkouts < 20:
            await asyncio.sleep(0)
        r.instrumentation.uninstrument()
        last = r.instrumentation.snapshot()
        await asyncio.sleep(0.05)
        stop = True
        done = await asyncio.gather(*workers)
        assert sum(done) > last.checkouts
        now = r.instrumentation.snapshot()
        assert (now.acquires, now.checkouts, now.connects) == (last.acquires, last.checkouts, last.connects)
        assert r.pool_says()["checkedout"] == 0, "no slot is lost"
        assert r.database.backends() == 2
