"""Give all drivers one face: make an engine, and see from outside how many connections it has."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from pool_exporter import Instrumentation, PoolSnapshot, instrument
from tests.laws import assert_laws
from tests.mariadb import MariadbServer
from tests.postgres import PostgresServer
from tests.servers import DEADLINE_SECONDS, until

ASYNC = ("asyncpg", "psycopg_async", "aiosqlite", "asyncmy")
SYNC = ("psycopg", "pysqlite", "pymysql")


class Database:
    """What one test's application sees of a database, and what the database sees of it."""

    url: str
    connect_args: dict[str, Any]

    def __init__(self, driver: str) -> None:
        self.driver = driver
        self.is_async = driver in ASYNC
        self.name = f"app_{uuid.uuid4().hex[:12]}"
        self.connect_args = {}
        self.engines: list[Any] = []

    def engine(self, **options: Any) -> Any:
        """Make an engine with these options of `create_engine`."""
        make: Callable[..., Any] = create_async_engine if self.is_async else create_engine
        if not {"creator", "async_creator", "pool"} & options.keys():
            options.setdefault("connect_args", self.connect_args)
        engine = make(self.url, **options)
        self.engines.append(engine)
        return engine

    def connections(self) -> int:
        """Return the number of connections that the database sees."""
        raise NotImplementedError


class PostgresDatabase(Database):
    """A PostgreSQL server, which tells applications apart by name."""

    def __init__(self, driver: str, server: PostgresServer) -> None:
        super().__init__(driver)
        self.server = server
        self.url = f"postgresql+{driver}://{server.address}"
        named = {"application_name": self.name}
        self.connect_args = {"server_settings": named} if driver == "asyncpg" else named

    def connections(self) -> int:
        """Count in pg_stat_activity."""
        return len(self.server.backends(self.name))


class MariadbDatabase(Database):
    """A MariaDB server, which tells applications apart by user."""

    def __init__(self, driver: str, server: MariadbServer) -> None:
        super().__init__(driver)
        self.server = server
        self.url = server.url(driver, self.name)

    def connections(self) -> int:
        """Count in the list of the server's connections."""
        return self.server.connections(self.name)


class SqliteDatabase(Database):
    """A file: its connections are the descriptors that this process has of it."""

    def __init__(self, driver: str, directory: Path) -> None:
        super().__init__(driver)
        self.file = directory / "app.db"
        self.file.touch()
        self.url = f"sqlite+{driver}:///{self.file}"

    def connections(self) -> int:
        """Count the open files."""
        count = 0
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                count += os.path.samefile(f"/proc/self/fd/{descriptor}", self.file)
        return count


async def do(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Call a method of an engine or a connection, and await it where it is async."""
    result = function(*arguments, **keywords)
    return await result if inspect.isawaitable(result) else result


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """Return when the condition holds, while the event loop runs; fail after the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never came to be: {what}"
        await asyncio.sleep(0.002)


async def within(database: Database, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call something synchronous of a pool as its driver needs it: under asyncio in a greenlet."""
    return await greenlet_spawn(function, *arguments) if database.is_async else function(*arguments)


async def execute(connection: Any, statement: str = "select 1") -> None:
    """Execute a statement and read its result."""
    (await do(connection.execute, text(statement))).all()


def watch(engine: Any, **options: Any) -> Instrumentation:
    """Instrument an engine, with a registry of its own."""
    return instrument(engine, registry=CollectorRegistry(), **options)


def check(instrumentation: Instrumentation, database: Database, **expected: Any) -> PoolSnapshot:
    """Assert the laws, these values of a snapshot, and that the database sees as many connections.

    `closes` are the reasons that are not 0; `outside` are connections that the database sees
    beyond the open ones.
    """
    outside = expected.pop("outside", 0)
    snapshot = instrumentation.snapshot()
    assert_laws(snapshot)
    closes = {reason: count for reason, count in snapshot.closes.items() if count}
    seen = {name: closes if name == "closes" else getattr(snapshot, name) for name in expected}
    assert seen == expected
    # A server needs a moment to notice that its client is gone.
    wanted = snapshot.open + outside
    until(lambda: database.connections() == wanted, f"{wanted} connections in the database")
    return snapshot
