"""Give the scenarios one face for four drivers: connect, kill, hang and refuse, seen from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import uuid
import weakref
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from tests.postgres import PostgresServer

ASYNC_POSTGRES = ("asyncpg", "psycopg_async")
ASYNC = (*ASYNC_POSTGRES, "aiosqlite")
POSTGRES = (*ASYNC_POSTGRES, "psycopg")
ALL = (*ASYNC, "psycopg")
HANG_SECONDS = 20.0
"""The longest that a frozen SQLite connection hangs, should a scenario fail."""


class PostgresDatabase:
    """One application's view of a PostgreSQL server: a role of its own, and its backends."""

    def __init__(self, driver: str, server: PostgresServer) -> None:
        self.server = server
        self.name = f"app_{uuid.uuid4().hex[:12]}"
        dialect = "postgresql+asyncpg" if driver == "asyncpg" else "postgresql+psycopg"
        self.url = f"{dialect}://{server.address}".replace("//postgres@", f"//{self.name}@")
        named = {"application_name": self.name}
        self.connect_args: dict[str, Any] = {"server_settings": named} if driver == "asyncpg" else named
        self.rejected = (
            "asyncpg.exceptions.InvalidAuthorizationSpecificationError"
            if driver == "asyncpg"
            else "psycopg.OperationalError"
        )
        self.refused = (
            "builtins.ConnectionRefusedError" if driver == "asyncpg" else "psycopg.OperationalError"
        )
        self.dead = (
            "asyncpg.exceptions.ConnectionDoesNotExistError"
            if driver == "asyncpg"
            else "psycopg.errors.AdminShutdown"
        )
        self._run(f"create role {self.name} superuser login")

    def follow(self, engine: Engine) -> None:
        """Nothing to do: the server knows who is connected."""

    def backends(self) -> int:
        """Return the number of connections that the database sees."""
        return len(self.server.backends(self.name))

    async def kill(self) -> None:
        """Terminate all connections."""
        self.server.terminate(self.name)

    def refuse(self) -> None:
        """Let every further attempt to connect fail."""
        self._run(f"alter role {self.name} nologin")

    def accept(self) -> None:
        """Let attempts to connect succeed again."""
        self._run(f"alter role {self.name} login")

    def freeze(self) -> None:
        """Let the connections there are answer nothing until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let all connections answer again."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Leave nothing behind."""
        self.server.terminate(self.name)
        self._run(f"drop role {self.name}")

    def _run(self, statement: str) -> None:
        with self.server.observer() as observer:
            observer.execute(statement)

    def _signal(self, number: int) -> None:
        for pid in self.server.backends(self.name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


class SqliteDatabase:
    """An SQLite file: its connections are the descriptors that this process has of it."""

    rejected = "sqlite3.OperationalError"
    dead = "sqlite3.OperationalError"

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "database"
        self._directory.mkdir()
        self._elsewhere = directory / "elsewhere"
        self._file = self._directory / "file.db"
        self._file.touch()
        self._inode = self._file.stat().st_ino
        self.name = f"app_{uuid.uuid4().hex[:12]}"
        self.url = f"sqlite+aiosqlite:///{self._file}"
        self.connect_args: dict[str, Any] = {}
        self._drivers: list[weakref.ref[Any]] = []
        self._hanging: list[threading.Event] = []

    def follow(self, engine: Engine) -> None:
        """Remember the driver's connections, to kill and to hang them."""
        event.listen(engine, "connect", self._connected)

    def _connected(self, connection: Any, record: Any) -> None:
        self._drivers.append(weakref.ref(record.driver_connection))

    def backends(self) -> int:
        """Return the number of connections that the database sees."""
        count = 0
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                count += os.stat(f"/proc/self/fd/{descriptor}").st_ino == self._inode
        return count

    def _alive(self) -> list[Any]:
        found = [driver for ref in self._drivers if (driver := ref()) is not None]
        return [driver for driver in found if driver._connection is not None]

    async def kill(self) -> None:
        """Close all connections behind SQLAlchemy's back."""
        for driver in self._alive():
            await driver.close()

    def refuse(self) -> None:
        """Let every further attempt to connect fail."""
        self._directory.rename(self._elsewhere)

    def accept(self) -> None:
        """Let attempts to connect succeed again."""
        self._elsewhere.rename(self._directory)

    def freeze(self) -> None:
        """Keep each connection's thread busy until `thaw`."""
        for driver in self._alive():
            hanging = threading.Event()
            self._hanging.append(hanging)
            driver._tx.put_nowait((None, partial(hanging.wait, HANG_SECONDS)))

    def thaw(self) -> None:
        """Let all connections answer again."""
        for hanging in self._hanging:
            hanging.set()
        self._hanging.clear()

    def close(self) -> None:
        """Leave nothing hanging."""
        self.thaw()
