"""What happens to the whole process: a fork, and an exit while connections are held (rows 22, 26)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.capture.scenarios.drivers import PostgresDatabase
from tests.capture.scenarios.harness import OpenRig, Rig, observed
from tests.capture.scenarios.waiting import eventually
from tests.postgres import PostgresServer


def in_forked_child(look: Any) -> Any:
    """Return what a function returns in a forked child, which ends without any clean-up."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(look()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    assert answer, "the child failed"
    return json.loads(answer)


@pytest.mark.parametrize("driver", ["psycopg"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_22_fork(rig: OpenRig) -> None:
    """A forked child starts again from the connections it inherited; its parent notices nothing."""
    async with rig() as r:
        held, idle = await r.connect(), await r.connect()
        await r.do(idle.close)
        await r.check(checkouts=2, checkins=1, connects=2, used=1, idle=1)
        seen = in_forked_child(lambda: _child(r))
        inherited = {
            "used": 1, "idle": 1, "uses": 1, "connects": 2, "checkouts": 1, "adopted": 1, "checkins": 0,
        }  # fmt: skip
        assert {name: seen[0][name] for name in inherited} == inherited
        assert seen[0]["acquires"] == 0
        own = {"used": 2, "idle": 1, "connects": 3, "checkouts": 2, "adopted": 1}
        assert {name: seen[1][name] for name in own} == own
        assert seen[1]["acquires"] == 1
        await r.check()
        await r.do(held.close)
        await r.check(checkins=2, used=0, idle=2)


def _child(r: Rig) -> list[dict[str, Any]]:
    first = r.instrumentation.snapshot()
    r.sync_engine.dispose(close=False)  # what SQLAlchemy tells a child to do
    connection = r.engine.connect()
    second = r.instrumentation.snapshot()
    connection.close()
    return [{**observed(one), "acquires": one.acquires} for one in (first, second)]


_EXITS_WHILE_HELD = """
import asyncio, sys
from prometheus_client import CollectorRegistry
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from pool_exporter import instrument

driver, url, name = sys.argv[1:]
arguments = {"server_settings": {"application_name": name}} if driver == "asyncpg" else {"application_name": name}
if driver == "psycopg":
    engine = create_engine(url, connect_args=arguments)
    instrumentation = instrument(engine, registry=CollectorRegistry())
    held = engine.connect()
    held.execute(text("select 1"))
else:
    engine = create_async_engine(url, connect_args=arguments)
    instrumentation = instrument(engine, registry=CollectorRegistry())

    async def main():
        global held
        held = await engine.connect()
        await held.execute(text("select 1"))

    asyncio.run(main())
snapshot = instrumentation.snapshot()
print(snapshot.used, snapshot.telemetry_errors)
"""


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async", "asyncpg"])
async def test_26_interpreter_exits_while_held(driver: str, postgres: PostgresServer) -> None:
    """An exit with a connection in use ends well, and this library says nothing about it."""
    database = PostgresDatabase(driver, postgres)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", _EXITS_WHILE_HELD, driver, database.url, database.name],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ended.returncode, ended.stdout) == (0, "1 0\n"), ended.stderr
        assert "pool_exporter" not in ended.stderr
        await eventually(lambda: database.backends() == 0, "no backend is left")
    finally:
        database.close()
