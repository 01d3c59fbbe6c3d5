"""Give each test a database of its own on the driver that it asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.capture.engines.databases import Database, MariadbDatabase, PostgresDatabase, SqliteDatabase, do
from tests.mariadb import MariadbServer, running_mariadb
from tests.postgres import PostgresServer, running_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all engines."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariadbServer]:
    """A MariaDB server for all engines."""
    with running_mariadb() as server:
        yield server


@pytest.fixture
async def database_on(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Callable[[str], Database]]:
    """Return a function that gives a database for a driver; its engines are disposed at the end."""
    made: list[Database] = []

    def make(driver: str) -> Database:
        database: Database
        if driver in ("aiosqlite", "pysqlite"):
            database = SqliteDatabase(driver, tmp_path)
        elif driver in ("asyncmy", "pymysql"):
            database = MariadbDatabase(driver, request.getfixturevalue("mariadb"))
        else:
            database = PostgresDatabase(driver, request.getfixturevalue("postgres"))
        made.append(database)
        return database

    yield make
    for database in made:
        for engine in database.engines:
            await do(engine.dispose)
