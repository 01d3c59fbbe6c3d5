"""Give each test a database of its own on the driver that it asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.capture.engines.databases import Database, MariadbDatabase, PostgresDatabase, SqliteDatabase, do


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
