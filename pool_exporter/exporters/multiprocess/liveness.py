"""Tell which processes of one machine publish to a multi-process directory, and which of them are dead.

prometheus_client leaves it to the server to call `mark_process_dead`, which some cannot do, and which
a server that was killed does not. So each process that publishes leaves a note of itself beside its
files, and whoever is about to read the files looks whether its author is still there.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import sys
import time
from typing import NamedTuple

from prometheus_client.multiprocess import mark_process_dead

BEAT_SECONDS = 10.0
"""The age below which a note of another namespace is taken for that of a process that is there."""

_PATTERN = "pool_exporter_{}.process"


class Heartbeat(NamedTuple):
    """One process, as its note says it."""

    pid: int
    namespace: str
    """The PID namespace in which `pid` is meant; empty where the system has none."""
    started: str
    """When it started, in the kernel's clock ticks: tells two processes of one number apart."""
    program: str
    """The file that it runs, to tell applications apart."""

    @classmethod
    def own(cls) -> Heartbeat:
        """Return this process's."""
        pid = os.getpid()
        return cls(pid, _namespace(), _started(pid), os.path.abspath(sys.argv[0] if sys.argv else ""))

    def alive(self) -> bool:
        """Tell whether the process is still there; True where that cannot be known from here."""
        if self.namespace != _namespace():
            return True
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except OSError:  # it is there, and another user's
            return True
        return not self.started or _started(self.pid) in ("", self.started)


def heartbeat_path(path: str, pid: int) -> str:
    """Return where the note of a process is."""
    return os.path.join(path, _PATTERN.format(pid))


def write_heartbeat(path: str) -> list[str]:
    """Write or renew this process's note; return what others' notes say that somebody should know."""
    own = Heartbeat.own()
    mine = heartbeat_path(path, own.pid)
    warnings = []
    before = _read(mine)
    if before is not None and before.namespace != own.namespace and _age(mine) < BEAT_SECONDS:
        warnings.append(
            f"another process with the number {own.pid}, in another PID namespace, writes the same files in "
            f"{path!r}: give each container a directory of its own"
        )
    if before == own:
        os.utime(mine)
    else:
        draft = f"{mine}.{own.started or 'new'}"
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(own._asdict(), file)
        os.replace(draft, mine)
    for other in present(path):
        if other.program != own.program and other.alive():
            warnings.append(
                f"{path!r} is used by {other.program!r} (process {other.pid}) too, and pools of one name are "
                "added up: give each application a directory of its own"
            )
            break
    return warnings


def present(path: str) -> list[Heartbeat]:
    """Return the processes that have left a readable note, dead ones too."""
    found = (_read(note) for note in glob.glob(os.path.join(glob.escape(path), _PATTERN.format("*"))))
    return [one for one in found if one is not None]


def remove_dead(path: str) -> list[int]:
    """Leave out the gauges of processes that died, as `mark_process_dead` does; return their numbers."""
    buried = []
    for one in present(path):
        if not one.alive():
            mark_process_dead(one.pid, path)  # type: ignore[no-untyped-call]  # untyped upstream
            with contextlib.suppress(OSError):
                os.unlink(heartbeat_path(path, one.pid))
            buried.append(one.pid)
    _remove_cut_off(path)
    return buried


def _remove_cut_off(path: str) -> None:
    """Remove files that a process has opened and not begun to write, when it was cut off: they stop every reader."""
    for file in glob.glob(os.path.join(glob.escape(path), "*.db")):
        with contextlib.suppress(OSError):
            if os.path.getsize(file) == 0 and _age(file) >= BEAT_SECONDS:
                os.unlink(file)


def _read(note: str) -> Heartbeat | None:
    """Return what a note says, None where there is none or it is torn."""
    try:
        with open(note, encoding="utf-8") as file:
            said = json.load(file)
        return Heartbeat(int(said["pid"]), *(str(said[key]) for key in Heartbeat._fields[1:]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _age(note: str) -> float:
    try:
        return time.time() - os.stat(note).st_mtime
    except OSError:
        return float("inf")


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]  # after the name, which may hold anything
    except (OSError, IndexError):
        return ""
