"""Attempts to connect that fail (rows 7, 7b, 7c)."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event

from tests.capture.scenarios.drivers import ALL, POSTGRES, PostgresDatabase
from tests.capture.scenarios.harness import OpenRig, Rig, open_rig
from tests.postgres import PostgresServer

on_all = pytest.mark.parametrize("driver", ALL)


async def fail_to_connect(r: Rig) -> None:
    """Ask for a connection and get an exception, whose class differs with driver and version."""
    with pytest.raises(Exception) as raised:
        await r.connect()
    assert not isinstance(raised.value, AssertionError)


@on_all
async def test_07_connect_fails_in_a_new_slot(rig: OpenRig) -> None:
    """Each failed attempt is a failed acquire and a connect error by the driver's own name."""
    async with rig() as r:
        r.database.refuse()
        for count in (1, 2):
            await fail_to_connect(r)
            await r.check(failed_acquires=count, connect_errors={r.database.rejected: count})
        r.database.accept()
        connection = await r.connect()
        await r.check(checkouts=1, connects=1, used=1)
        await r.do(connection.close)
        await r.check(checkins=1, used=0, idle=1)


@pytest.mark.parametrize("driver", POSTGRES)
async def test_07_server_refuses(driver: str, own_postgres: PostgresServer) -> None:
    """A server that is down is a connect error by the name of what the driver raises."""
    database = PostgresDatabase(driver, own_postgres)
    async with open_rig(driver, database) as r:
        own_postgres.stop()
        await fail_to_connect(r)
        own_postgres.start()
        await r.check(failed_acquires=1, connect_errors={database.refused: 1})


@on_all
async def test_07b_connect_fails_in_an_existing_slot(rig: OpenRig) -> None:
    """A slot that has lost its connection and cannot get another is no checkin."""
    async with rig() as r:
        connection = await r.connect()
        await r.do(connection.invalidate)
        await r.do(connection.close)
        await r.check(
            checkouts=1, checkins=1, connects=1, closes={"invalidated": 1}, invalidations={"hard": 1}
        )
        r.database.refuse()
        for count in (1, 2):
            await fail_to_connect(r)
            await r.check(failed_acquires=count, connect_errors={r.database.rejected: count})
        r.database.accept()
        connection = await r.connect()
        await r.check(checkouts=2, connects=2, used=1)
        await r.do(connection.close)
        await r.check(checkins=2, used=0, idle=1)


@on_all
@pytest.mark.parametrize("existing_slot", [False, True])
async def test_07c_another_connect_listener_raises(rig: OpenRig, existing_slot: bool) -> None:
    """A connection that a listener of the application refuses is a connect and a close."""

    class RefusedError(Exception):
        pass

    def refuse(connection: Any, record: Any) -> None:
        raise RefusedError

    async with rig() as r:
        before = 1 if existing_slot else 0
        invalidated: dict[str, int] = {}
        if existing_slot:
            connection = await r.connect()
            await r.do(connection.invalidate)
            await r.do(connection.close)
            invalidated = {"invalidated": 1}
            await r.check(checkouts=1, checkins=1, connects=1, closes=invalidated, invalidations={"hard": 1})
        event.listen(r.sync_engine, "connect", refuse)
        for count in (1, 2):
            with pytest.raises(RefusedError):
                await r.connect()
            await r.check(
                failed_acquires=count,
                connects=before + count,
                closes={**invalidated, "init_failed": count},
                connect_errors={f"{__name__}.{RefusedError.__qualname__}": count},
            )
        event.remove(r.sync_engine, "connect", refuse)
        connection = await r.connect()
        await r.check(checkouts=before + 1, connects=before + 3, used=1)
        await r.do(connection.close)
        await r.check(checkins=before + 1, used=0, idle=1)
