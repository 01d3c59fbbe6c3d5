"""Pools that share their connection (rows 16b, 16c, surprise 7)."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest
from sqlalchemy.pool import AssertionPool, SingletonThreadPool, StaticPool

from tests.capture.scenarios.drivers import ALL
from tests.capture.scenarios.harness import OpenRig
from tests.capture.scenarios.waiting import LEFT_OPEN

on_all = pytest.mark.parametrize("driver", ALL)
on_sync = pytest.mark.parametrize("driver", ["psycopg"])
pytestmark = LEFT_OPEN


@on_all
async def test_16b_static_pool_with_two_users(rig: OpenRig) -> None:
    """Two users of one shared connection are two uses of one connection."""
    async with rig(poolclass=StaticPool) as r:
        first = await r.connect()
        await r.check(checkouts=1, connects=1, used=1)
        second = await r.connect()
        await r.check(checkouts=2, used=1, uses=2)
        await r.do(first.close)
        await r.check(checkins=1, used=1, uses=1)
        await r.do(second.close)
        await r.check(checkins=2, used=0, idle=1)
        await r.do(r.engine.dispose)
        await r.check(idle=0, closes={"dispose": 1})


@on_all
async def test_16b_static_pool_returned_in_order(rig: OpenRig) -> None:
    """The order in which two users of one connection return it makes no difference."""
    async with rig(poolclass=StaticPool) as r:
        first, second = await r.connect(), await r.connect()
        await r.check(checkouts=2, connects=1, used=1, uses=2)
        await r.do(second.close)
        await r.check(checkins=1, used=1, uses=1)
        await r.do(first.close)
        await r.check(checkins=2, used=0, idle=1)


@on_all
async def test_16b_static_pool_with_a_user_who_drops_it(rig: OpenRig) -> None:
    """A user who drops the shared connection is a collected leak; another goes on with it."""
    async with rig(poolclass=StaticPool) as r:
        first, second = await r.connect(), await r.connect()
        await r.check(checkouts=2, connects=1, used=1, uses=2)
        del first
        gc.collect()
        await r.check(leaks_collected=1, used=1, uses=1)
        await r.execute(second)
        await r.do(second.close)
        await r.check(checkins=1, used=0, idle=1)


@on_all
async def test_surprise_07_static_pool_disposed_in_use(rig: OpenRig) -> None:
    """A shared connection that is disposed under its users ends all their uses at once."""
    async with rig(poolclass=StaticPool) as r:
        first, second = await r.connect(), await r.connect()
        await r.do(r.engine.dispose)
        await r.check(checkouts=2, checkins=2, connects=1, closes={"dispose": 1})
        del first, second
        gc.collect()
        await r.check()


@on_sync
async def test_16c_singleton_thread_pool_nested(rig: OpenRig) -> None:
    """A connection that its thread asks for again is one use, until the last is closed."""
    async with rig(poolclass=SingletonThreadPool) as r:
        outer = await r.connect()
        await r.check(checkouts=1, connects=1, used=1)
        inner = await r.connect()
        await r.check()
        await r.do(inner.close)
        await r.check()
        await r.do(outer.close)
        await r.check(checkins=1, used=0, idle=1)


@on_sync
async def test_surprise_07_singleton_thread_pool_cleans_up_in_use(rig: OpenRig) -> None:
    """A connection that makes room for another thread's ends its use when it is closed."""
    async with rig(poolclass=SingletonThreadPool, pool_size=1) as r:
        held = await r.connect()
        await r.check(checkouts=1, connects=1, used=1)
        opened, go = threading.Event(), threading.Event()
        broken: list[BaseException] = []

        def elsewhere() -> None:
            try:
                with r.engine.connect():
                    opened.set()
                    go.wait(10)
            except BaseException as error:
                broken.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        assert opened.wait(10)
        await r.check(checkouts=2, connects=2, checkins=1, used=1, closes={"overflow": 1})
        go.set()
        thread.join(10)
        assert not broken
        await r.check(checkins=2, used=0, idle=1)
        del held


@on_all
async def test_assertion_pool(rig: OpenRig) -> None:
    """A pool that allows one user fails the second one's acquire."""
    async with rig(poolclass=AssertionPool) as r:
        connection: Any = await r.connect()
        await r.check(checkouts=1, connects=1, used=1)
        with pytest.raises(AssertionError, match="already checked out"):
            await r.connect()
        await r.check(failed_acquires=1)
        await r.do(connection.close)
        await r.check(checkins=1, used=0, idle=1)
