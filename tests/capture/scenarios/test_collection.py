"""Connections that are dropped and collected (rows 11, 11b, surprises 4 and 10)."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
from sqlalchemy import event, exc

from tests.capture.scenarios.drivers import ASYNC
from tests.capture.scenarios.harness import OpenRig
from tests.capture.scenarios.waiting import LEFT_OPEN, eventually

pytestmark = LEFT_OPEN
NOT_CHECKED_IN = "The garbage collector is trying to clean up non-checked-in connection"


def drop(held: list[Any], *, cycle: bool) -> None:
    """Let go of what a list holds, at once or by the collector's search for cycles."""
    if cycle:
        ring = [held.pop()]
        ring.append(ring)
        del ring
    held.clear()
    gc.collect()


@pytest.mark.parametrize("driver", ASYNC)
@pytest.mark.parametrize("raw", [False, True], ids=["connection", "raw"])
@pytest.mark.parametrize("cycle", [False, True], ids=["dropped", "in-a-cycle"])
async def test_11_async_connection_dropped(rig: OpenRig, raw: bool, cycle: bool) -> None:
    """An async connection that the collector takes is a collected leak, and lost."""
    async with rig() as r:
        held: list[Any] = [await (r.raw() if raw else r.connect())]
        await r.check(checkouts=1, connects=1, used=1)
        with pytest.warns(exc.SAWarning, match=NOT_CHECKED_IN):
            drop(held, cycle=cycle)
        await r.check(leaks_collected=1, used=0, closes={"lost": 1})
        connection = await r.connect()
        await r.check(checkouts=2, connects=2, used=1)
        await r.do(connection.close)
        await r.check(checkins=1, used=0, idle=1)


@pytest.mark.parametrize("driver", ["psycopg"])
@pytest.mark.parametrize("raw", [False, True], ids=["connection", "raw"])
async def test_11b_sync_connection_dropped(rig: OpenRig, raw: bool) -> None:
    """A sync connection that the collector takes is a collected leak, and stays open."""
    async with rig() as r:
        connection: Any = await (r.raw() if raw else r.connect())
        await r.check(checkouts=1, connects=1, used=1)
        del connection
        gc.collect()
        await r.check(leaks_collected=1, used=0, idle=1)
        connection = await r.connect()
        await r.check(checkouts=2, used=1, idle=0)
        await r.do(connection.close)
        await r.check(checkins=1, used=0, idle=1)


@pytest.mark.parametrize("driver", ["psycopg"])
async def test_11b_overflow_dropped(rig: OpenRig) -> None:
    """A sync connection above pool_size that the collector takes is closed as overflow."""
    async with rig(pool_size=1, max_overflow=1) as r:
        first, second = await r.connect(), await r.connect()
        await r.do(first.close)
        await r.check(checkouts=2, connects=2, checkins=1, used=1, idle=1)
        del second
        gc.collect()
        await r.check(leaks_collected=1, used=0, closes={"overflow": 1})


@pytest.mark.parametrize("driver", ["psycopg"])
async def test_surprise_04_collector_in_another_thread(rig: OpenRig) -> None:
    """The collector may end a use in any thread, in the midst of the ledger's own work."""
    async with rig() as r:
        connection = await r.connect()
        await r.check(checkouts=1, connects=1, used=1)
        ledger = r.instrumentation._ledger
        holder: list[Any] = [connection]
        holder.append(holder)
        del holder, connection

        def collect_in_the_midst() -> None:
            ledger._do(gc.collect)

        thread = threading.Thread(target=collect_in_the_midst)
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), "no deadlock"
        await r.check(leaks_collected=1, used=0, idle=1)


@pytest.mark.parametrize("driver", ASYNC)
async def test_surprise_10_the_ledger_keeps_nothing_alive(rig: OpenRig) -> None:
    """Once the application and SQLAlchemy let go of a connection, it is gone from the database."""
    async with rig() as r:

        def refuse(connection: Any, record: Any) -> None:
            raise ValueError

        connection = await r.connect()
        fairy = await r.fairy_of(connection)
        gone = [weakref.ref(fairy), weakref.ref(fairy._connection_record)]
        del fairy
        event.listen(r.sync_engine, "checkin", refuse)
        with pytest.raises(ValueError):
            await r.do(connection.close)
        event.remove(r.sync_engine, "checkin", refuse)
        del connection
        gc.collect()
        await eventually(lambda: [ref() for ref in gone] == [None, None], "everything is collected")
        assert r.snapshot().open == 0
        await eventually(lambda: r.database.backends() == 0, "no backend is left")
