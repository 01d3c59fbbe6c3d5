"""Run Debian's pgbouncer in transaction mode between an application and PostgreSQL."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
from sqlalchemy import URL

from pool_exporter_lab.demo.postgresql import PORT, USER
from pool_exporter_lab.drill.postgresql import Server
from pool_exporter_lab.drill.processes import HOST, free_port, process_of, until_answering

_CONFIGURATION = """\
[databases]
* = host={socket} port={port}
[pgbouncer]
listen_addr = {host}
listen_port = {listen_port}
unix_socket_dir =
auth_type = trust
auth_file = {directory}/users.txt
admin_users = {user}
pool_mode = transaction
ignore_startup_parameters = extra_float_digits
{settings}
"""


class PgBouncer:
    """A running pgbouncer."""

    def __init__(self, port: int) -> None:
        self.port = port

    def url(self, database: str) -> URL:
        """Return the URL of a database through pgbouncer, for psycopg."""
        return URL.create(
            "postgresql+psycopg",
            username=USER,
            host=HOST,
            port=self.port,
            database=database,
            query={"sslmode": "disable"},
        )

    async def pause(self) -> None:
        """Give PAUSE to the admin console, which answers once no transaction is open."""
        async with self.client("pgbouncer") as console:
            await console.execute("PAUSE")

    @contextlib.asynccontextmanager
    async def client(self, database: str) -> AsyncIterator[psycopg.AsyncClientCursor[tuple[object, ...]]]:
        """Connect as one more client, by the simple protocol, which is all that the console knows."""
        connection = await self._connect(database)
        async with connection:
            yield psycopg.AsyncClientCursor(connection)

    async def answers(self) -> bool:
        """Tell whether clients are let in."""
        try:
            await (await self._connect("pgbouncer")).close()
        except psycopg.OperationalError:
            return False
        return True

    async def _connect(self, database: str) -> psycopg.AsyncConnection[tuple[object, ...]]:
        return await psycopg.AsyncConnection.connect(
            host=HOST, port=self.port, user=USER, dbname=database, autocommit=True, sslmode="disable"
        )


@contextlib.asynccontextmanager
async def pgbouncer(program: Path, server: Server, **settings: float) -> AsyncIterator[PgBouncer]:
    """Run pgbouncer in front of a server; `settings` are lines of its configuration."""
    # It refuses to run as root, as PostgreSQL does, and lives in the same place as the same user.
    directory = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir=server.directory.parent))
    directory.chmod(0o755)
    bouncer = PgBouncer(free_port())
    (directory / "users.txt").write_text(f'"{USER}" ""\n')
    configuration = directory / "pgbouncer.ini"
    configuration.write_text(
        _CONFIGURATION.format(
            socket=server.directory,
            port=PORT,
            host=HOST,
            listen_port=bouncer.port,
            directory=directory,
            user=USER,
            settings="\n".join(f"{name} = {value:g}" for name, value in settings.items()),
        )
    )
    log = directory / "log"
    # SIGINT waits for clients to leave; SIGTERM does not.
    async with process_of((program, configuration), log, server.account, signal.SIGTERM) as process:
        await until_answering("pgbouncer", process, log, bouncer.answers)
        yield bouncer
