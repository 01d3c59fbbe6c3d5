"""Run a real PostgreSQL server for tests, and see its backends from outside of the tested pool."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import psycopg

from pool_exporter_lab.demo import processes
from pool_exporter_lab.demo.postgresql import prepare
from tests.servers import DEADLINE_SECONDS, DatabaseServer

ROLE = "postgres"
DATABASE = "postgres"
_SETTINGS = (
    "synchronous_commit=on",  # what is committed outlives a server that is stopped in an instant
    "autovacuum=off",
    "listen_addresses=127.0.0.1",
    "max_connections=100",
)
"""What differs from the demo's own settings."""


class PostgresServer(DatabaseServer):
    """A server on a cluster as the demo makes them, reached by TCP and by a Unix socket.

    PostgreSQL refuses to run as root; there it runs as `nobody`.
    """

    ending = signal.SIGQUIT
    refusal = psycopg.OperationalError

    def __init__(self, directory: Path) -> None:
        self._cluster = prepare(directory)
        super().__init__(self._cluster.log, self._cluster.account)
        with processes.running(self._cluster.initdb(ROLE), self._log, self._account) as initdb:
            assert initdb.wait(DEADLINE_SECONDS) == 0, self._log.read_text(errors="replace")

    @property
    def address(self) -> str:
        """Return `user@host:port/database`, the part of a URL that all drivers share."""
        return f"{ROLE}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def socket(self) -> Path:
        """Return the directory of the server's Unix socket, which is named after the port."""
        return self._cluster.data

    def observer(self) -> psycopg.Connection:
        """Return an independent connection that sees what the server sees."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=ROLE, dbname=DATABASE, autocommit=True, connect_timeout=5
        )

    def backends(self, application_name: str) -> list[int]:
        """Return the process ids of an application's backends."""
        with self.observer() as observer:
            rows = observer.execute(
                "select pid from pg_stat_activity where application_name = %s order by backend_start",
                [application_name],
            )
            return [pid for (pid,) in rows]

    def terminate(self, application_name: str) -> int:
        """Terminate an application's backends; return their number, once they are gone."""
        pids = self.backends(application_name)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        with self.observer() as observer:
            for pid in pids:
                observer.execute("select pg_terminate_backend(%s, %s)", [pid, int(DEADLINE_SECONDS * 1000)])
        return len(pids)

    def _command(self) -> Sequence[str | Path]:
        return self._cluster.command((*_SETTINGS, f"port={self.port}"))
