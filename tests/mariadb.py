"""Run a real MariaDB server for tests, and see its connections from outside of the tested pool."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pymysql

from tests.postgres import DEADLINE_SECONDS, until
from tests.support import free_port, need_tool

DATABASE = "app"


class MariadbServer:
    """A server in a directory of its own, on 127.0.0.1; it checks no password.

    MariaDB refuses to run as root; there it runs as `mysql`, the account that Debian makes for it.
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._program = need_tool("mariadbd", "mariadb-server")
        self._directory = directory
        self._data = directory / "data"
        self._log = directory / "log"
        self._uid, self._gid = _account()
        self._process: subprocess.Popen[bytes] | None = None
        # Without privilege tables there is nothing to install: a directory is a database.
        for path in (self._data, self._data / DATABASE):
            path.mkdir()
        if self._uid is not None and self._gid is not None:
            for path in (directory, self._data, self._data / DATABASE):
                os.chown(path, self._uid, self._gid)

    def url(self, driver: str, user: str) -> str:
        """Return a URL for SQLAlchemy; `user` tells the connections of one test from others."""
        return f"mysql+{driver}://{user}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self) -> None:
        """Start the server and return when it accepts connections."""
        self._process = self._spawn(
            f"--port={self.port}", "--bind-address=127.0.0.1", f"--socket={self._directory}/socket"
        )
        until(self._accepts, "MariaDB accepts connections")

    def stop(self) -> None:
        """Stop the server at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE_SECONDS)
            self._process = None

    def connections(self, user: str) -> int:
        """Return the number of connections that the server has of a user."""
        with contextlib.closing(self._observer()) as observer, observer.cursor() as cursor:
            cursor.execute("select count(*) from information_schema.processlist where user = %s", [user])
            ((count,),) = cursor.fetchall()
            return int(count)

    def _observer(self) -> pymysql.Connection:
        return pymysql.connect(host="127.0.0.1", port=self.port, user="observer", connect_timeout=5)

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text(errors="replace")
        try:
            self._observer().close()
        except pymysql.OperationalError:
            return False
        return True

    def _spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [
                    self._program,
                    "--no-defaults",
                    f"--datadir={self._data}",
                    f"--pid-file={self._directory}/pid",
                    f"--tmpdir={self._directory}",
                    "--skip-grant-tables",
                    "--innodb-buffer-pool-size=8M",
                    "--innodb-log-file-size=4M",
                    "--innodb-flush-log-at-trx-commit=0",
                    *arguments,
                ],
                cwd="/",
                env={"LC_ALL": "C", "PATH": os.defpath},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C on the terminal is for the tests
                user=self._uid,
                group=self._gid,
                extra_groups=None if self._uid is None else [],
            )


@contextlib.contextmanager
def running_mariadb() -> Iterator[MariadbServer]:
    """Run a server in a temporary directory; leave no process and no file."""
    # Not pytest's tmp_path: only its owner may pass through that, and the server is somebody else.
    directory = Path(tempfile.mkdtemp(prefix="pool-exporter-"))
    try:
        server = MariadbServer(directory)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _account() -> tuple[int | None, int | None]:
    if os.geteuid() != 0:
        return None, None
    account = pwd.getpwnam("mysql")
    return account.pw_uid, account.pw_gid
