"""Run the demo as a process of its own, and see what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil

DEADLINE_SECONDS = 60.0
POLL_SECONDS = 0.02

T = TypeVar("T")


def until(what: Callable[[], T | None], why: str, *, seconds: float = DEADLINE_SECONDS) -> T:
    """Return the first true value of `what()`, asked again and again; fail with `why` at the deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = what()
        if value:
            return value
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"not within {seconds} s: {why}")


class Demo:
    """A directory for one demo's temporary files, and the processes that work in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start `python -m pool_exporter demo` with its temporary files in the directory."""
        return subprocess.Popen(
            [sys.executable, "-m", "pool_exporter", "demo", *arguments],
            env={**os.environ, "TMPDIR": str(self.directory), "PYTHONUNBUFFERED": "1"},
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
        )

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the demo to its end."""
        process = self.start(*arguments, **options)
        with ending(process):
            stdout, stderr = process.communicate(timeout=DEADLINE_SECONDS)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def files(self) -> list[str]:
        """Return what is in the directory, by name."""
        return sorted(os.listdir(self.directory))

    def processes(self) -> list[str]:
        """Return the command lines of all processes that name the directory."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if str(self.directory) in line or str(self.directory) in process.cwd():
                    found.append(line)
        return found

    def find(self, pattern: str) -> bool:
        """Return whether a file in the directory, at any depth, matches a pattern."""
        with contextlib.suppress(OSError):  # files come and go while we look
            return any(self.directory.glob(pattern))
        return False


@contextlib.contextmanager
def a_demo(name: str = "t") -> Iterator[Demo]:
    """Make a directory with a short name that everybody may pass, as sockets and servers need it."""
    directory = Path(tempfile.mkdtemp(prefix=name, dir="/tmp"))
    directory.chmod(0o711)
    try:
        yield Demo(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """End a process that a failed test left running, and close its pipes."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def assert_nothing_left(demo: Demo) -> None:
    """Check that neither a file nor a process is left of a demo."""
    assert demo.files() == []
    assert demo.processes() == []


def assert_laws(snapshot: dict[str, Any]) -> None:
    """Check the laws of counting in one snapshot."""
    assert snapshot["checkouts"] == (
        snapshot["checkins"] + snapshot["detaches"] + snapshot["leaks_collected"] + snapshot["uses"]
    )
    assert snapshot["connects"] == sum(snapshot["closes"].values()) + snapshot["detaches"] + snapshot["open"]
    assert snapshot["acquires"] == (
        snapshot["checkouts"]
        + snapshot["timeouts"]
        + snapshot["cancelled_acquires"]
        + snapshot["failed_acquires"]
        + snapshot["pending"]
    )
    assert snapshot["wait_seconds"]["count"] == snapshot["checkouts"]
    assert snapshot["use_seconds"]["count"] == snapshot["checkins"] + snapshot["detaches"]
