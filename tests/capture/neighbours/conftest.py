"""Give each test a PostgreSQL, and engines on it that are disposed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.capture.engines.databases import PostgresDatabase, do
from tests.postgres import PostgresServer, running_server


@pytest.fixture(scope="session")
def neighbours_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests of this folder."""
    with running_server() as server:
        yield server


@pytest.fixture(params=["asyncpg", "psycopg"])
async def database(
    request: pytest.FixtureRequest, neighbours_server: PostgresServer
) -> AsyncIterator[PostgresDatabase]:
    """A database on an async and on a sync driver."""
    database = PostgresDatabase(request.param, neighbours_server)
    yield database
    for engine in database.engines:
        await do(engine.dispose)
