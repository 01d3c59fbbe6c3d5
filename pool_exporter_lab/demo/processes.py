"""Run the processes of the demo and of the drills: each in a group of its own, of which nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS = 5.0
"""How long a process may take to stop before it is urged, and again before it is killed."""


@dataclass(frozen=True, slots=True)
class Account:
    """The system user that a process runs as; None where that is the caller."""

    uid: int | None = None
    gid: int | None = None


CALLER = Account()


def spawn(
    command: Sequence[str | Path],
    output: int,
    account: Account = CALLER,
    *,
    environment: Mapping[str, str] | None = None,
    files: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own: a Ctrl-C on the terminal is ours to pass on.

    `environment` None is as good as none; `files` are the descriptors that it inherits.
    """
    return subprocess.Popen(  # noqa: S603 - the arguments are the demo's and the drills' own
        [os.fspath(part) for part in command],
        cwd="/",
        env={"LC_ALL": "C", "PATH": os.defpath} if environment is None else dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        user=account.uid,
        group=account.gid,
        extra_groups=None if account.uid is None else [],
        pass_fds=files,
    )


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    account: Account = CALLER,
    stop: signal.Signals = signal.SIGTERM,
    *,
    environment: Mapping[str, str] | None = None,
    files: Sequence[int] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that writes to `log`; at the end stop it, by the signal `stop` first."""
    with log.open("ab") as output:
        process = spawn(command, output.fileno(), account, environment=environment, files=files)
    try:
        yield process
    finally:
        end(process, stop)


def end(process: subprocess.Popen[bytes], stop: signal.Signals = signal.SIGTERM) -> None:
    """Ask a process to stop, then urge it, then kill what is left of its group."""
    # Blocking on purpose: with no await here, no second cancellation gets between us and the end.
    for urgency in (stop, signal.SIGQUIT):
        if process.poll() is None:
            process.send_signal(urgency)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def reason(log: Path) -> str:
    """Return the last line of a log that looks like a reason."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() or "fatal" in line.lower()]
    return (errors or lines or ["it said nothing"])[-1].strip()
