"""Give each test an application on the driver that it asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pool_exporter import Attribution
from tests.capture.callers.applications import Application
from tests.capture.callers.requests import owners
from tests.capture.callers.tasks import engine, gate
from tests.capture.engines.databases import Database, PostgresDatabase, SqliteDatabase, do, watch
from tests.laws import assert_laws

__all__ = ["engine", "gate", "owners"]

MakeApplication = Callable[..., Application]


@pytest.fixture
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeApplication]:
    """Return a function that makes an application on a driver, with options of `create_engine`.

    At the end nothing may be out, and no more may have failed within the library than is said.
    """
    made: list[tuple[Application, int]] = []

    def make(
        driver: str, *, attribution: bool | Attribution = True, faults: int = 0, **options: Any
    ) -> Application:
        database: Database
        if driver in ("aiosqlite", "pysqlite"):
            database = SqliteDatabase(driver, tmp_path)
        else:
            database = PostgresDatabase(driver, request.getfixturevalue("postgres"))
        engine = database.engine(**options)
        application = Application(engine, watch(engine, attribution=attribution))
        made.append((application, faults))
        return application

    yield make
    for application, faults in made:
        snapshot = application.pool.snapshot()
        await do(application.engine.dispose)
        application.pool.uninstrument()
        assert (snapshot.uses, snapshot.telemetry_errors) == (0, faults)
        assert_laws(replace(snapshot, telemetry_errors=0))


@pytest.fixture
def app(make: MakeApplication) -> Application:
    """An application on asyncpg."""
    return make("asyncpg")


@pytest.fixture
def sync_app(make: MakeApplication) -> Application:
    """An application on psycopg, without asyncio."""
    return make("psycopg")
