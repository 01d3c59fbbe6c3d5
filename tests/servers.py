"""Run a database server for tests as a process of its own, and wait until it accepts connections."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pool_exporter_lab.demo.database import temporary_directory
from pool_exporter_lab.demo.processes import Account, spawn
from tests.support import free_port

DEADLINE_SECONDS = 20.0


class DatabaseServer:
    """A server in a directory of its own, on a port of 127.0.0.1."""

    ending: signal.Signals
    """The signal that stops the server in an instant."""
    refusal: type[Exception]
    """What an observer gets while the server does not accept connections."""

    def __init__(self, log: Path, account: Account) -> None:
        self.port = free_port()
        self._log = log
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and return when it accepts connections."""
        with self._log.open("ab") as log:
            self._process = spawn(self._command(), log.fileno(), self._account)
        until(self._accepts, f"{type(self).__name__} accepts connections")

    def stop(self) -> None:
        """Stop the server in an instant: its clients find their connections dead, new ones are refused."""
        if self._process is not None:
            self._process.send_signal(self.ending)
            self._process.wait(DEADLINE_SECONDS)
            self._process = None

    def observer(self) -> Any:
        """Return an independent connection that sees what the server sees."""
        raise NotImplementedError

    def _command(self) -> Sequence[str | Path]:
        raise NotImplementedError

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text(errors="replace")
        try:
            self.observer().close()
        except self.refusal:
            return False
        return True


S = TypeVar("S", bound=DatabaseServer)


@contextlib.contextmanager
def running(kind: Callable[[Path], S]) -> Iterator[S]:
    """Run a server in a temporary directory; leave no process and no file."""
    # Not pytest's tmp_path: only its owner may pass through that, and the server has its own account.
    with temporary_directory() as directory:
        server = kind(directory)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def until(condition: object, what: str, *, seconds: float = DEADLINE_SECONDS) -> None:
    """Return when `condition()` is true; fail after some seconds."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never came to be: {what}"
        time.sleep(0.005)
