"""Run a real MariaDB server for tests, and see its connections from outside of the tested pool."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
from collections.abc import Sequence
from pathlib import Path

import pymysql

from pool_exporter_lab.demo.processes import CALLER, Account
from tests.servers import DatabaseServer
from tests.support import need_tool

DATABASE = "app"


class MariadbServer(DatabaseServer):
    """A server that checks no password.

    MariaDB refuses to run as root; there it runs as `mysql`, the account that Debian makes for it.
    """

    ending = signal.SIGKILL
    refusal = pymysql.OperationalError

    def __init__(self, directory: Path) -> None:
        self._program = need_tool("mariadbd", "mariadb-server")
        super().__init__(directory / "log", _account())
        self._directory = directory
        self._data = directory / "data"
        # Without privilege tables there is nothing to install: a directory is a database.
        for path in (self._data, self._data / DATABASE):
            path.mkdir()
        if self._account.uid is not None and self._account.gid is not None:
            for path in (directory, self._data, self._data / DATABASE):
                os.chown(path, self._account.uid, self._account.gid)

    def url(self, driver: str, user: str) -> str:
        """Return a URL for SQLAlchemy; `user` tells the connections of one test from others."""
        return f"mysql+{driver}://{user}@127.0.0.1:{self.port}/{DATABASE}"

    def connections(self, user: str) -> int:
        """Return the number of connections that the server has of a user."""
        with contextlib.closing(self.observer()) as observer, observer.cursor() as cursor:
            cursor.execute("select count(*) from information_schema.processlist where user = %s", [user])
            ((count,),) = cursor.fetchall()
            return int(count)

    def observer(self) -> pymysql.Connection:
        """Return an independent connection that sees what the server sees."""
        return pymysql.connect(host="127.0.0.1", port=self.port, user="observer", connect_timeout=5)

    def _command(self) -> Sequence[str | Path]:
        return (
            self._program,
            "--no-defaults",
            f"--datadir={self._data}",
            f"--pid-file={self._directory}/pid",
            f"--tmpdir={self._directory}",
            f"--socket={self._directory}/socket",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-grant-tables",
            "--innodb-buffer-pool-size=8M",
            "--innodb-log-file-size=4M",
            "--innodb-flush-log-at-trx-commit=0",
        )


def _account() -> Account:
    if os.geteuid() != 0:
        return CALLER
    account = pwd.getpwnam("mysql")
    return Account(account.pw_uid, account.pw_gid)
