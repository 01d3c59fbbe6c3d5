"""Engines and pools that share, replace or divide things (rows 17, 23a to 23d, 24)."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import asyncpg
import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from pool_exporter import instrument
from tests.capture.scenarios.drivers import ALL, ASYNC_POSTGRES, POSTGRES
from tests.capture.scenarios.harness import OpenRig
from tests.capture.scenarios.test_dispose import collected
from tests.capture.scenarios.waiting import LEFT_OPEN
from tests.postgres import PostgresServer

on_all = pytest.mark.parametrize("driver", ALL)
on_postgres = pytest.mark.parametrize("driver", POSTGRES)
pytestmark = LEFT_OPEN


@on_postgres
async def test_17_option_engine(rig: OpenRig) -> None:
    """An option engine is its parent's pool: instrumenting both counts everything once."""
    async with rig() as r:
        option = r.engine.execution_options(isolation_level="AUTOCOMMIT")
        assert instrument(option) is r.instrumentation
        for count, engine in ((1, r.engine), (2, option)):
            connection = await r.do(engine.connect)
            await r.check(checkouts=count, connects=1, used=1, idle=0)
            await r.execute(connection)
            await r.do(connection.close)
            snapshot = await r.check(checkins=count, used=0, idle=1)
            assert snapshot.statements == count


@on_all
async def test_23a_fresh_pool_assigned(rig: OpenRig) -> None:
    """A pool that was put in the engine's place is counted from its first connection on."""
    async with rig() as r:
        await r.warm()
        old = r.pool
        r.sync_engine.pool = type(old).__base__(old._creator, dialect=r.dialect)
        connection = await r.connect()
        await r.check(checkouts=2, adopted=1, connects=2, used=1, orphaned_connections=1)
        await r.do(connection.close)
        await r.check(checkins=2, used=0, idle=2)
        connection = await r.connect()
        await r.check(checkouts=3, used=1, idle=1)
        await r.do(connection.close)
        await r.check(checkins=3, used=0, idle=2)
        del old
        await collected(r, lost=1)
        await r.check(idle=1, closes={"lost": 1}, orphaned_connections=0)


@on_all
async def test_23a_fresh_pool_assigned_and_scraped(rig: OpenRig) -> None:
    """A scrape finds the new pool before its first use: then nothing of it is missed."""
    async with rig() as r:
        await r.warm()
        old = r.pool
        r.sync_engine.pool = type(old).__base__(old._creator, dialect=r.dialect)
        await r.check(orphaned_connections=1)
        connection = await r.connect()
        await r.check(checkouts=2, connects=2, used=1)
        await r.do(connection.close)
        await r.check(checkins=2, used=0, idle=2)


@on_all
async def test_23b_recreated_pool_assigned(rig: OpenRig) -> None:
    """A pool made by recreate() is counted like one after a dispose."""
    async with rig() as r:
        await r.warm()
        old = r.pool
        r.sync_engine.pool = old.recreate()
        await r.check(orphaned_connections=1)
        connection = await r.connect()
        await r.check(checkouts=2, connects=2, used=1)
        await r.within(old.dispose)
        await r.check(idle=0, closes={"dispose": 1}, orphaned_connections=0)
        await r.do(connection.close)
        await r.check(checkins=2, used=0, idle=1)


@on_postgres
async def test_23c_two_engines_one_pool(rig: OpenRig) -> None:
    """Two engines of one pool are one pool: everything counts once."""
    async with rig() as r:
        make: Any = create_async_engine if isinstance(r.engine, AsyncEngine) else create_engine
        other = make(r.database.url, pool=r.pool)
        assert instrument(other) is r.instrumentation
        for count, engine in ((1, r.engine), (2, other), (3, r.engine)):
            connection = await r.do(engine.connect)
            await r.check(checkouts=count, connects=1, used=1, idle=0)
            await r.execute(connection)
            await r.do(connection.close)
            snapshot = await r.check(checkins=count, used=0, idle=1)
            assert snapshot.statements == count
        await r.do(other.dispose)
        await r.check(idle=0, closes={"dispose": 1})


@on_postgres
async def test_23d_creator(rig: OpenRig, postgres: PostgresServer) -> None:
    """A creator of the application's own is counted, and so are its failures."""
    name = ""

    async def create_asyncpg(**options: Any) -> Any:
        return await asyncpg.connect(
            host="127.0.0.1", port=postgres.port, user=name, database="postgres",
            server_settings={"application_name": name},
        )  # fmt: skip

    async def create_psycopg(**options: Any) -> Any:
        return await psycopg.AsyncConnection.connect(
            host="127.0.0.1", port=postgres.port, user=name, dbname="postgres", application_name=name
        )

    def create() -> Any:
        return psycopg.connect(
            host="127.0.0.1", port=postgres.port, user=name, dbname="postgres", application_name=name
        )

    driver = rig.args[0]  # type: ignore[attr-defined]  # a partial
    creators = {"asyncpg": create_asyncpg, "psycopg_async": create_psycopg, "psycopg": create}
    key = "creator" if driver == "psycopg" else "async_creator"
    url = "postgresql+asyncpg://" if driver == "asyncpg" else "postgresql+psycopg://"
    async with rig(url=url, **{key: creators[driver]}) as r:
        name = r.database.name
        connection = await r.connect()
        snapshot = await r.check(checkouts=1, connects=1, used=1)
        assert (snapshot.info["server"], snapshot.info["database"]) == ("", "")
        await r.do(connection.invalidate)
        await r.do(connection.close)
        await r.check(checkins=1, used=0, closes={"invalidated": 1}, invalidations={"hard": 1})
        r.database.refuse()
        with pytest.raises(Exception, match="not permitted to log in"):
            await r.connect()
        await r.check(failed_acquires=1, connect_errors={r.database.rejected: 1})


@pytest.mark.parametrize("driver", ASYNC_POSTGRES)
async def test_24_two_event_loops(rig: OpenRig) -> None:
    """An engine that works in two event loops at once is counted as one."""
    async with rig(poolclass=NullPool) as r:
        held, release = threading.Event(), threading.Event()

        async def elsewhere() -> None:
            async with r.engine.connect() as connection:
                await r.execute(connection)
                held.set()
                while not release.is_set():
                    await asyncio.sleep(0.002)

        thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
        thread.start()
        while not held.is_set():
            await asyncio.sleep(0.002)
        connection = await r.connect()
        await r.execute(connection)
        await r.check(checkouts=2, connects=2, used=2)
        release.set()
        await asyncio.to_thread(thread.join)
        await r.check(checkins=1, used=1, closes={"unpooled": 1})
        await connection.close()
        await r.check(checkins=2, used=0, closes={"unpooled": 2})


@pytest.mark.parametrize("driver", ASYNC_POSTGRES)
async def test_24_one_event_loop_after_another(rig: OpenRig) -> None:
    """An engine that is disposed between two event loops is counted on through both."""
    async with rig() as r:

        async def work() -> None:
            async with r.engine.connect() as connection:
                await r.execute(connection)
            await r.engine.dispose()

        for count in (1, 2):
            await asyncio.to_thread(asyncio.run, work())
            await r.check(checkouts=count, checkins=count, connects=count, closes={"dispose": count})
