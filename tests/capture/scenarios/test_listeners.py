"""Listeners of the application that raise into the pool (rows 20a to 20e)."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from sqlalchemy import event, exc

from tests.capture.scenarios.drivers import ALL, ASYNC
from tests.capture.scenarios.harness import OpenRig, Rig
from tests.capture.scenarios.test_collection import NOT_CHECKED_IN
from tests.capture.scenarios.waiting import LEFT_OPEN, eventually

on_all = pytest.mark.parametrize("driver", ALL)
pytestmark = LEFT_OPEN


class TheirError(Exception):
    """What the application's listener raises."""


@on_all
@pytest.mark.parametrize("insert", [False, True], ids=["after-ours", "before-ours"])
async def test_20a_another_checkout_listener_raises(rig: OpenRig, insert: bool) -> None:
    """A checkout that a listener refuses is a failed acquire, whatever the order of listeners."""

    def refuse(*arguments: Any) -> None:
        raise TheirError

    async with rig() as r:
        event.listen(r.sync_engine, "checkout", refuse, insert=insert)
        for count in (1, 2):
            with pytest.raises(TheirError):
                await r.connect()
            await r.check(failed_acquires=count, connects=count, closes={"invalidated": count})
        event.remove(r.sync_engine, "checkout", refuse)
        connection = await r.connect()
        await r.check(checkouts=1, connects=3, used=1)
        await r.do(connection.close)
        await r.check(checkins=1, used=0, idle=1)


class Disconnecting:
    """A checkout listener that finds the first so many connections dead."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __call__(self, *arguments: Any) -> None:
        self.times -= 1
        if self.times >= 0:
            raise exc.DisconnectionError


@on_all
async def test_20b_disconnection_error_once(rig: OpenRig) -> None:
    """A connection that a checkout listener finds dead is replaced in the same acquire."""
    async with rig() as r:
        event.listen(r.sync_engine, "checkout", Disconnecting(1).__call__)
        connection = await r.connect()
        await r.check(
            checkouts=1,
            connects=2,
            used=1,
            closes={"disconnect": 1},
            disconnects={"sqlalchemy.exc.DisconnectionError": 1},
        )
        await r.do(connection.close)
        await r.check(checkins=1, used=0, idle=1)


@on_all
async def test_20c_disconnection_error_each_time(rig: OpenRig) -> None:
    """A checkout listener that finds every connection dead makes one failed acquire."""
    async with rig() as r:
        event.listen(r.sync_engine, "checkout", Disconnecting(2).__call__)
        with pytest.raises(exc.InvalidRequestError):
            await r.connect()
        snapshot = await r.check(
            failed_acquires=1,
            connects=3,
            closes={"disconnect": 2, "invalidated": 1},
            disconnects={"sqlalchemy.exc.DisconnectionError": 2},
        )
        assert snapshot.checkouts == 0
        connection = await r.connect()
        await r.check(checkouts=1, connects=4, used=1)
        await r.do(connection.close)
        await r.check(checkins=1, used=0, idle=1)


@on_all
async def test_20d_another_checkin_listener_raises(rig: OpenRig) -> None:
    """A return that a listener breaks ends the use and loses the slot in the pool's own count."""

    def refuse(*arguments: Any) -> None:
        raise TheirError

    async with rig() as r:
        connection = await r.connect()
        fairy = await r.fairy_of(connection)  # without it the connection would be collected at once
        await r.check(checkouts=1, connects=1, used=1)
        event.listen(r.sync_engine, "checkin", refuse)
        with pytest.raises(TheirError):
            await r.do(connection.close)
        event.remove(r.sync_engine, "checkin", refuse)
        r.snapshot()  # of two in a row, since other threads may move slots of a sync pool
        await r.check(checkins=1, used=0, idle=1, unaccounted_slots=1)
        assert r.pool_says()["checkedout"] == 1
        del connection, fairy

        def gone() -> bool:
            gc.collect()
            return r.snapshot().open == 0

        await eventually(gone, "the record is collected")
        await r.check(idle=0, closes={"lost": 1})


async def refused_and_collected(r: Rig) -> None:
    """Ask for a connection in vain, and let the collector run."""
    with pytest.raises(TheirError):
        await r.connect()
    gc.collect()


@pytest.mark.parametrize("driver", ASYNC)
async def test_20e_another_engine_connect_listener_raises(rig: OpenRig) -> None:
    """A connection that engine_connect refuses is abandoned, and collected as a leak."""

    def refuse(*arguments: Any) -> None:
        raise TheirError

    async with rig() as r:
        event.listen(r.sync_engine, "engine_connect", refuse)
        with pytest.warns(exc.SAWarning, match=NOT_CHECKED_IN):
            await refused_and_collected(r)
        await r.check(checkouts=1, connects=1, leaks_collected=1, closes={"lost": 1})


@pytest.mark.parametrize("driver", ["psycopg"])
async def test_20e_another_engine_connect_listener_raises_sync(rig: OpenRig) -> None:
    """A sync connection that engine_connect refuses is collected as a leak, and stays open."""

    def refuse(*arguments: Any) -> None:
        raise TheirError

    async with rig() as r:
        event.listen(r.sync_engine, "engine_connect", refuse)
        await refused_and_collected(r)
        await r.check(checkouts=1, connects=1, leaks_collected=1, idle=1)
