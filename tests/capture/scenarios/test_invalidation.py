"""Connections that are invalidated in use (rows 9, 9b, 10, 10b, 25, surprise 7)."""

from __future__ import annotations

import logging
import sqlite3
from typing import Any

import pytest
from sqlalchemy import event, exc

from tests.capture.scenarios.drivers import ALL
from tests.capture.scenarios.harness import OpenRig

on_all = pytest.mark.parametrize("driver", ALL)


@on_all
async def test_09_killed_in_use(rig: OpenRig) -> None:
    """A statement on a dead connection is one disconnect, a close and a checkin; peers go later."""
    async with rig() as r:
        first, second = await r.connect(), await r.connect()
        await r.execute(first)
        await r.do(second.close)
        await r.check(checkouts=2, checkins=1, connects=2, used=1, idle=1)
        await r.database.kill()
        with pytest.raises(exc.DBAPIError) as raised:
            await r.execute(first)
        assert raised.value.connection_invalidated
        snapshot = await r.check(
            checkins=2, used=0, closes={"disconnect": 1}, disconnects={r.database.dead: 1}, backends=0
        )
        assert snapshot.stale_idle_seconds.count == snapshot.stale_age_seconds.count == 1
        await r.do(first.close)
        await r.check(backends=0)
        held = [await r.connect(), await r.connect()]
        await r.check(
            checkouts=4, connects=4, used=2, idle=0, closes={"disconnect": 1, "pool_invalidated": 1}
        )
        for connection in held:
            await r.do(connection.close)
        await r.check(checkins=4, used=0, idle=2)


@on_all
async def test_09b_the_same_connection_revalidates(rig: OpenRig) -> None:
    """A Connection that goes on after a disconnect begins a second use."""
    async with rig() as r:
        connection = await r.connect()
        await r.execute(connection)
        await r.database.kill()
        with pytest.raises(exc.DBAPIError):
            await r.execute(connection)
        await r.do(connection.rollback)
        await r.check(
            checkouts=1, checkins=1, connects=1, closes={"disconnect": 1}, disconnects={r.database.dead: 1}
        )
        await r.execute(connection)
        await r.check(checkouts=2, connects=2, used=1)
        await r.do(connection.close)
        await r.check(checkins=2, used=0, idle=1)


@on_all
async def test_10_invalidate(rig: OpenRig) -> None:
    """An explicit invalidate() ends the use and the connection at once; close() adds nothing."""
    async with rig() as r:
        connection = await r.connect()
        await r.execute(connection)
        await r.do(connection.invalidate)
        await r.check(
            checkouts=1, checkins=1, connects=1, closes={"invalidated": 1}, invalidations={"hard": 1}
        )
        assert r.pool_says()["checkedin"] == 1, "an empty slot (surprise 2)"
        await r.do(connection.close)
        await r.check()
        connection = await r.connect()
        await r.check(checkouts=2, connects=2, used=1)
        await r.do(connection.close)
        await r.check(checkins=2, used=0, idle=1)


@on_all
async def test_10_invalidate_with_an_error_of_the_callers(rig: OpenRig) -> None:
    """An invalidate() for a reason of the caller's is no disconnect."""
    async with rig() as r:
        connection = await r.connect()
        await r.do(connection.invalidate, ValueError("bad data"))
        await r.check(
            checkouts=1, checkins=1, connects=1, closes={"invalidated": 1}, invalidations={"hard": 1}
        )
        await r.do(connection.close)
        await r.check()


@on_all
async def test_10b_soft_invalidate(rig: OpenRig) -> None:
    """A soft invalidation ends nothing; the next acquire of the connection replaces it."""
    async with rig() as r:
        connection = await r.connect()
        (await r.fairy_of(connection)).invalidate(soft=True)
        await r.check(checkouts=1, connects=1, used=1, invalidations={"soft": 1})
        await r.execute(connection)
        await r.do(connection.close)
        await r.check(checkins=1, used=0, idle=1)
        connection = await r.connect()
        await r.check(checkouts=2, connects=2, used=1, idle=0, closes={"soft_invalidated": 1})
        await r.do(connection.close)
        await r.check(checkins=2, used=0, idle=1)


@on_all
async def test_25_reset_fails_on_return(
    rig: OpenRig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A return whose rollback fails is a checkin and a close; the caller notices nothing."""

    def refuse(connection: Any) -> None:
        raise sqlite3.OperationalError

    async with rig() as r:
        raw = await r.raw()
        await r.within(r.begin, raw)
        await r.check(checkouts=1, connects=1, used=1)
        await r.database.kill()
        if r.driver == "aiosqlite":  # whose rollback does nothing on a closed connection
            monkeypatch.setattr(r.dialect, "do_rollback", refuse)
        with caplog.at_level(logging.CRITICAL, logger="sqlalchemy.pool"):
            await r.within(raw.close)
        monkeypatch.undo()
        await r.check(checkins=1, used=0, reset_failures=1, closes={"reset_failed": 1})
        connection = await r.connect()
        await r.check(checkouts=2, connects=2, used=1)
        await r.do(connection.close)
        await r.check(checkins=2, used=0, idle=1)


@on_all
@pytest.mark.parametrize("moment", ["invalidate", "close", "checkin"])
async def test_surprise_07_never_idle_below_zero(rig: OpenRig, moment: str) -> None:
    """In the midst of a hard invalidation the connection is in use and open, or neither."""
    async with rig() as r:
        seen: list[tuple[int, int, int]] = []

        def look(*arguments: Any) -> None:
            snapshot = r.snapshot()
            seen.append((snapshot.used, snapshot.open, snapshot.idle))

        connection = await r.connect()
        event.listen(r.sync_engine, moment, look)
        await r.do(connection.invalidate)
        assert seen == [(1, 1, 0) if moment == "invalidate" else (0, 0, 0)]
        await r.check(
            checkouts=1, checkins=1, connects=1, closes={"invalidated": 1}, invalidations={"hard": 1}
        )
        await r.do(connection.close)
