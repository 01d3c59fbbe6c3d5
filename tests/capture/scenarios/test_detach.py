"""Connections that their users take out of the pool (rows 15, 15b)."""

from __future__ import annotations

import gc

import pytest

from tests.capture.scenarios.drivers import ALL
from tests.capture.scenarios.harness import OpenRig
from tests.capture.scenarios.waiting import LEFT_OPEN

on_all = pytest.mark.parametrize("driver", ALL)
pytestmark = LEFT_OPEN


@on_all
async def test_15_detach_then_close(rig: OpenRig) -> None:
    """detach() ends the use; the connection is no more the pool's, and the slot is free."""
    async with rig(pool_size=1, max_overflow=0) as r:
        connection = await r.connect()
        await r.execute(connection)
        await r.check(checkouts=1, connects=1, used=1)
        (await r.fairy_of(connection)).detach()
        r.detached = 1
        await r.check(detaches=1, used=0)
        await r.execute(connection)
        other = await r.connect()
        await r.check(checkouts=2, connects=2, used=1)
        await r.do(connection.close)
        r.detached = 0
        await r.check()
        await r.do(other.close)
        await r.check(checkins=1, used=0, idle=1)


@on_all
async def test_15b_detach_then_dropped(rig: OpenRig) -> None:
    """A detached connection that is dropped counts nothing more."""
    async with rig(pool_size=1, max_overflow=0) as r:
        connection = await r.connect()
        fairy = await r.fairy_of(connection)
        fairy.detach()
        r.detached = 1
        await r.check(checkouts=1, connects=1, detaches=1)
        del connection, fairy
        gc.collect()
        r.detached = 0
        await r.check()
        connection = await r.connect()
        await r.check(checkouts=2, connects=2, used=1)
        await r.do(connection.close)
        await r.check(checkins=1, used=0, idle=1)
