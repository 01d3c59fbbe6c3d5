"""Connections found dead or too old when they are acquired (rows 5, 5b, 6, 8, 8b)."""

from __future__ import annotations

import pytest

from tests.capture.scenarios.drivers import ALL, POSTGRES, PostgresDatabase
from tests.capture.scenarios.harness import OpenRig, open_rig
from tests.capture.scenarios.test_connect_failure import fail_to_connect
from tests.postgres import PostgresServer

on_all = pytest.mark.parametrize("driver", ALL)


@on_all
async def test_05_pre_ping_finds_a_dead_connection(rig: OpenRig) -> None:
    """A ping that fails closes the connection and connects anew, in one acquire and no disconnect."""
    async with rig(pool_pre_ping=True) as r:
        await r.warm()
        await r.database.kill()
        await r.check(backends=0)
        connection = await r.connect()
        snapshot = await r.check(
            checkouts=2, connects=2, used=1, idle=0, pings=1, pre_ping_failures=1, closes={"pre_ping": 1}
        )
        assert snapshot.stale_idle_seconds.count == snapshot.stale_age_seconds.count == 1
        await r.do(connection.close)
        await r.check(checkins=2, used=0, idle=1)
        connection = await r.connect()
        await r.check(checkouts=3, used=1, idle=0, pings=2)
        await r.do(connection.close)
        await r.check(checkins=3, used=0, idle=1)


@on_all
async def test_05b_its_idle_peers_are_closed_without_a_ping(rig: OpenRig) -> None:
    """The next idle connection, as old as the dead one, is closed by the pool-wide invalidation."""
    async with rig(pool_pre_ping=True) as r:
        await r.warm(2)
        await r.database.kill()
        first = await r.connect()
        await r.check(
            checkouts=3,
            connects=3,
            used=1,
            idle=1,
            pings=1,
            pre_ping_failures=1,
            closes={"pre_ping": 1},
            backends=1,
        )
        second = await r.connect()
        await r.check(checkouts=4, connects=4, used=2, idle=0, closes={"pre_ping": 1, "pool_invalidated": 1})
        for count, connection in ((3, first), (4, second)):
            await r.do(connection.close)
            await r.check(checkins=count, used=4 - count, idle=count - 2)


@on_all
async def test_06_failed_pre_ping_and_reconnect_fails(rig: OpenRig) -> None:
    """Each acquire that cannot reconnect is one failure; nothing goes below zero."""
    async with rig(pool_pre_ping=True) as r:
        await r.warm(2)
        r.database.refuse()
        await r.database.kill()
        closes = {"pre_ping": 1}
        await fail_to_connect(r)
        await r.check(
            idle=1,
            pings=1,
            pre_ping_failures=1,
            failed_acquires=1,
            connect_errors={r.database.rejected: 1},
            closes=closes,
            backends=0,
        )
        await fail_to_connect(r)  # the peer
        closes = {"pre_ping": 1, "pool_invalidated": 1}
        await r.check(idle=0, failed_acquires=2, connect_errors={r.database.rejected: 2}, closes=closes)
        for count in (3, 4):
            await fail_to_connect(r)
            await r.check(failed_acquires=count, connect_errors={r.database.rejected: count})
        assert r.pool_says()["checkedin"] == 2, "what the pool itself calls checked in (surprise 2)"
        r.database.accept()
        connection = await r.connect()
        await r.check(checkouts=3, connects=3, used=1)
        await r.do(connection.close)
        await r.check(checkins=3, used=0, idle=1)


@pytest.mark.parametrize("driver", POSTGRES)
async def test_06_server_stops_and_starts_again(driver: str, own_postgres: PostgresServer) -> None:
    """A restart of the server under an idle pool is a failed ping, failed acquires, then as new."""
    database = PostgresDatabase(driver, own_postgres)
    async with open_rig(driver, database, pool_pre_ping=True) as r:
        await r.warm()
        own_postgres.stop()
        await fail_to_connect(r)
        await fail_to_connect(r)
        own_postgres.start()
        await r.check(
            idle=0,
            pings=1,
            pre_ping_failures=1,
            failed_acquires=2,
            connect_errors={database.refused: 2},
            closes={"pre_ping": 1},
        )
        connection = await r.connect()
        await r.check(checkouts=2, connects=2, used=1)
        await r.do(connection.close)
        await r.check(checkins=2, used=0, idle=1)


@on_all
async def test_08_recycled_by_age(rig: OpenRig) -> None:
    """A connection older than pool_recycle is replaced in the acquire; the fresh one is not pinged."""
    async with rig(pool_recycle=60, pool_pre_ping=True) as r:
        connection = await r.connect()
        r.age(await r.fairy_of(connection))
        await r.do(connection.close)
        await r.check(checkouts=1, checkins=1, connects=1, idle=1)
        connection = await r.connect()
        await r.check(checkouts=2, connects=2, used=1, idle=0, closes={"recycle": 1})
        await r.do(connection.close)
        await r.check(checkins=2, used=0, idle=1)


@on_all
async def test_08b_recycled_and_reconnect_fails(rig: OpenRig) -> None:
    """A connection that is recycled and cannot be replaced is closed, and the acquires fail."""
    async with rig(pool_recycle=60) as r:
        connection = await r.connect()
        r.age(await r.fairy_of(connection))
        await r.do(connection.close)
        await r.check(checkouts=1, checkins=1, connects=1, idle=1)
        r.database.refuse()
        for count in (1, 2):
            await fail_to_connect(r)
            await r.check(
                idle=0,
                failed_acquires=count,
                connect_errors={r.database.rejected: count},
                closes={"recycle": 1},
            )
        r.database.accept()
        connection = await r.connect()
        await r.check(checkouts=2, connects=2, used=1)
        await r.do(connection.close)
        await r.check(checkins=2, used=0, idle=1)


@on_all
async def test_surprise_06_recycle_of_zero_reconnects_every_time(rig: OpenRig) -> None:
    """With pool_recycle=0 each acquire replaces its connection, the first one a brand-new one."""
    async with rig(pool_recycle=0) as r:
        for count in (1, 2, 3):
            connection = await r.connect()
            await r.check(checkouts=count, connects=count + 1, used=1, idle=0, closes={"recycle": count})
            await r.do(connection.close)
            await r.check(checkins=count, used=0, idle=1)
