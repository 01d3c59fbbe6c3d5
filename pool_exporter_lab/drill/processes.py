"""Run the servers of the drills beside a running event loop: start, wait until one answers, end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from pool_exporter_lab.demo.processes import CALLER, Account, end, reason, spawn
from pool_exporter_lab.drill.errors import DrillError

HOST = "127.0.0.1"
START_SECONDS = 60.0

_POLL_SECONDS = 0.05


@contextlib.asynccontextmanager
async def process_of(
    command: Sequence[str | Path],
    log: Path,
    account: Account = CALLER,
    stop: signal.Signals = signal.SIGTERM,
    *,
    environment: Mapping[str, str] | None = None,
    files: Sequence[int] = (),
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run a process that writes to `log`; leave none of its group at the end, and never stop the loop."""
    with log.open("ab") as output:
        process = spawn(command, output.fileno(), account, environment=environment, files=files)
    try:
        yield process
    finally:
        await ended(process, stop)


async def ended(process: subprocess.Popen[bytes], stop: signal.Signals = signal.SIGTERM) -> None:
    """End a process and its group, in a thread, so that the drills beside this one go on."""
    ending = asyncio.ensure_future(asyncio.to_thread(end, process, stop))
    try:
        await asyncio.shield(ending)
    except asyncio.CancelledError:
        end(process, signal.SIGKILL)
        raise


async def until_answering(
    name: str, process: subprocess.Popen[bytes], log: Path, answers: Callable[[], Awaitable[bool]]
) -> None:
    """Return when `answers()` is true; raise `DrillError` with what the process said if it ends first."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DrillError(f"{name} cannot start: {reason(log)}")
        if await answers():
            return
        await asyncio.sleep(_POLL_SECONDS)
    raise DrillError(f"{name} did not answer within {START_SECONDS:g} s: {reason(log)}")


def listen(port: int = 0, *, argument: str = "port") -> socket.socket:
    """Return a socket that listens on a loopback port, 0 for any free one; `DrillError` if it is taken."""
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        why = (
            "is in use"
            if error.errno == errno.EADDRINUSE
            else f"cannot be opened ({os.strerror(error.errno or 0)})"
        )
        raise DrillError(
            f"argument --{argument}: {port} {why} on {HOST}; name another port, or 0 for any free one",
            exit_code=2,
        ) from error


def free_port(port: int = 0, *, argument: str = "port") -> int:
    """Return a port that a server may take now: `port`, or any free one for 0; `DrillError` if it is taken."""
    with listen(port, argument=argument) as listener:
        return int(listener.getsockname()[1])
