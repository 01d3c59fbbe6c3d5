"""Give the demo a database in a temporary directory that is gone afterwards: PostgreSQL or SQLite."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL

from pool_exporter_lab.demo.errors import DemoError
from pool_exporter_lab.demo.postgresql import PORT, USER, Server, postgresql, suits

DATABASES = ("postgresql", "sqlite")

_PREFIX = "pool_exporter-"


@dataclass(frozen=True, slots=True)
class Database:
    """Hold a running database: the URL for an async engine, and its server, None for SQLite."""

    url: URL
    server: Server | None = None


@contextlib.asynccontextmanager
async def database(kind: str) -> AsyncIterator[URL]:
    """Run a database as `running` does; yield the URL for an async engine."""
    async with running(kind) as found:
        yield found.url


@contextlib.asynccontextmanager
async def running(kind: str) -> AsyncIterator[Database]:
    """Run a database of one of the kinds `DATABASES`; yield it.

    Raises `DemoError` if it cannot be had; for PostgreSQL the message offers SQLite. No process
    and no file is left at the end.
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            directory = stack.enter_context(temporary_directory())
            if kind == "sqlite":
                found = Database(URL.create("sqlite+aiosqlite", database=str(directory / "demo.db")))
            else:
                server = await stack.enter_async_context(postgresql(directory))
                where = {"host": str(server.socket), "port": str(PORT)}
                url = URL.create("postgresql+asyncpg", username=USER, database="postgres", query=where)
                found = Database(url, server)
        except DemoError as error:
            if kind == "sqlite":
                raise
            raise DemoError(f"{error}\nWithout it: pool-exporter demo --database sqlite") from error
        yield found


@contextlib.contextmanager
def temporary_directory() -> Iterator[Path]:
    """Make a private directory that suits either database; remove it at the end."""
    try:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
        if not suits(directory):
            directory.rmdir()
            directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))
    except OSError as error:
        raise DemoError(f"no temporary directory: {error}") from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
