"""Run PostgreSQL for the drills: a server that can stop, start again, and lose all backends of a database."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.abc import Query
from sqlalchemy import URL

from pool_exporter_lab.demo.database import temporary_directory
from pool_exporter_lab.demo.postgresql import FAST, PORT, USER, Cluster, initialise
from pool_exporter_lab.demo.processes import Account, spawn
from pool_exporter_lab.drill.processes import ended

MAX_CONNECTIONS = 200
GUARDED = "guarded"
"""The role whose members need their password; all others are trusted, as the socket's directory is ours alone."""


class Server:
    """A server on a cluster of its own, reached through the socket in `socket`'s directory."""

    def __init__(self, cluster: Cluster, settings: Sequence[str]) -> None:
        self._cluster = cluster
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> Path:
        """Return the directory of the server's socket."""
        return self._cluster.data

    @property
    def socket(self) -> Path:
        """Return the server's socket."""
        return self._cluster.data / f".s.PGSQL.{PORT}"

    @property
    def account(self) -> Account:
        """Return the system user that the server runs as."""
        return self._cluster.account

    async def start(self) -> None:
        """Start the server; return when it accepts connections."""
        with self._cluster.log.open("ab") as output:
            command = self._cluster.command(self._settings)
            self._process = spawn(command, output.fileno(), self._cluster.account)
        await self._cluster.ready(self._process)

    async def stop(self) -> None:
        """Stop the server: its clients find their connections dead, new ones are refused."""
        if self._process is not None:
            process, self._process = self._process, None
            await ended(process, FAST)

    def url(self, database: str = "postgres", driver: str = "asyncpg", user: str = USER) -> URL:
        """Return the URL of a database through the server's socket."""
        where = {"host": str(self.directory), "port": str(PORT)}
        return URL.create(f"postgresql+{driver}", username=user, database=database, query=where)

    @contextlib.asynccontextmanager
    async def observer(
        self, database: str = "postgres", user: str = USER
    ) -> AsyncIterator[psycopg.AsyncConnection[tuple[Any, ...]]]:
        """Connect beside all pools, by default as the superuser."""
        connection = await psycopg.AsyncConnection.connect(
            host=str(self.directory), port=PORT, user=user, dbname=database, autocommit=True
        )
        async with connection:
            yield connection

    async def execute(self, statement: Query, database: str = "postgres") -> None:
        """Execute one statement as the superuser."""
        async with self.observer(database) as connection:
            await connection.execute(statement)

    async def set_password(self, role: str, password: str) -> None:
        """Give a role a password, which it needs from now on; make the role if there is none."""
        name, secret = sql.Identifier(role), sql.Literal(password)
        async with self.observer() as connection:
            known = await connection.execute("select 1 from pg_roles where rolname = %s", [role])
            if await known.fetchone() is None:
                await connection.execute(
                    sql.SQL("create role {} login in role {}").format(name, sql.Identifier(GUARDED))
                )
            await connection.execute(sql.SQL("alter role {} password {}").format(name, secret))

    async def kill_backends(self, database: str) -> None:
        """Terminate every backend of a database, as a failover does."""
        async with self.observer() as connection:
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [database]
            )


@contextlib.asynccontextmanager
async def server(*settings: str) -> AsyncIterator[Server]:
    """Run a server in a temporary directory; leave no process and no file.

    Raises `DemoError` if it cannot be had.
    """
    with temporary_directory() as directory:
        cluster = await initialise(directory)
        _guard(cluster)
        running = Server(cluster, (f"max_connections={MAX_CONNECTIONS}", *settings))
        try:
            await running.start()
            await running.execute(sql.SQL("create role {}").format(sql.Identifier(GUARDED)))
            yield running
        finally:
            await running.stop()


def _guard(cluster: Cluster) -> None:
    rules = cluster.data / "pg_hba.conf"
    rules.write_text(f"local all +{GUARDED} scram-sha-256\nlocal all all trust\n")
