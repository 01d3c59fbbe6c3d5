"""Give each scenario a rig on the driver that it is parametrized with, asyncpg by default."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.capture.scenarios.drivers import PostgresDatabase, SqliteDatabase
from tests.capture.scenarios.harness import Database, OpenRig, open_rig


@pytest.fixture
def collected_here() -> Iterator[None]:
    """Collect what a scenario leaves behind while its marks still apply, not in the midst of the next."""
    yield
    gc.collect()


@pytest.fixture
def driver() -> str:
    """The driver of a scenario that is not parametrized with drivers."""
    return "asyncpg"


@pytest.fixture
def database(driver: str, request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """The database of a scenario."""
    if driver == "aiosqlite":
        return SqliteDatabase(tmp_path)
    return PostgresDatabase(driver, request.getfixturevalue("postgres"))


@pytest.fixture(params=[False, True], ids=["quiet", "scraped"])
def scraped(request: pytest.FixtureRequest) -> bool:
    """Whether a scrape asserts the laws in the midst of every event, which must change nothing."""
    return bool(request.param)


@pytest.fixture
def rig(driver: str, database: Database, scraped: bool) -> OpenRig:
    """Open a rig, with the options of `create_engine` that it is called with."""
    return partial(open_rig, driver, database, scraped=scraped)
