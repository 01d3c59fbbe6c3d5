"""Give each test a PostgreSQL, and engines on it that are disposed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.capture.engines.databases import PostgresDatabase, do
from tests.postgres import PostgresServer


@pytest.fixture(params=["asyncpg", "psycopg"])
async def database(
    request: pytest.FixtureRequest, postgres: PostgresServer
) -> AsyncIterator[PostgresDatabase]:
    """A database on an async and on a sync driver."""
    database = PostgresDatabase(request.param, postgres)
    yield database
    for engine in database.engines:
        await do(engine.dispose)
