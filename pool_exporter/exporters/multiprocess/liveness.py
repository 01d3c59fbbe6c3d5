"""Heartbeat files of the processes that share a multi-process directory, and removal of what dead ones left.

prometheus_client expects the server to call `mark_process_dead`. Some servers cannot, and a killed one
does not. So each process that publishes writes a heartbeat file beside its value files. Readers and
publishers check whether the processes named there still exist.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import sys
import threading
import time
from typing import NamedTuple

from prometheus_client.multiprocess import mark_process_dead

CUT_OFF_SECONDS = 10.0
"""The age from which an empty value file is taken for one whose process was killed before its first write."""

_PATTERN = "pool_exporter_{}.process"


class Heartbeat(NamedTuple):
    """One process, as its heartbeat file describes it."""

    pid: int
    namespace: str
    """The PID namespace of `pid`: from another one the process cannot be looked up. Empty if the system has none."""
    started: str
    """Its start in the kernel's clock ticks, which a later process with the same pid does not share. Empty if unknown."""
    program: str
    """The file that it runs, by which applications differ."""

    @classmethod
    def own(cls) -> Heartbeat:
        """Return this process's heartbeat."""
        pid = os.getpid()
        return cls(pid, _namespace(), _started(pid), os.path.abspath(sys.argv[0] if sys.argv else ""))

    def alive(self) -> bool:
        """Return True if the process exists, or if that cannot be known from here."""
        if self.namespace != _namespace():
            return True
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except OSError:  # it exists, and belongs to another user
            return True
        return not self.started or _started(self.pid) in ("", self.started)


def heartbeat_path(path: str, pid: int) -> str:
    """Return the path of a process's heartbeat file."""
    return os.path.join(path, _PATTERN.format(pid))


def write_heartbeat(path: str) -> str | None:
    """Write this process's heartbeat file unless it is there; return a warning or None.

    The warning says that another application uses the directory too.
    """
    own = Heartbeat.own()
    mine = heartbeat_path(path, own.pid)
    if _read(mine) != own:
        draft = f"{mine}.{threading.get_ident()}"  # two threads may publish at the same time
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(own._asdict(), file)
        os.replace(draft, mine)
    for other in heartbeats(path):
        if other.program != own.program and other.alive():
            return (
                f"{path!r} is used by {other.program!r} (process {other.pid}) too, and pools of one name are "
                "added up: give each application a directory of its own"
            )
    return None


def heartbeats(path: str) -> list[Heartbeat]:
    """Return the readable heartbeats of a directory, also those of dead processes."""
    found = (_read(file) for file in glob.glob(os.path.join(glob.escape(path), _PATTERN.format("*"))))
    return [one for one in found if one is not None]


def remove_dead(path: str) -> list[int]:
    """Remove the gauges and heartbeats of dead processes, as `mark_process_dead` does; return their pids."""
    removed = []
    for one in heartbeats(path):
        if not one.alive():
            mark_process_dead(one.pid, path)  # type: ignore[no-untyped-call]  # untyped upstream
            with contextlib.suppress(OSError):
                os.unlink(heartbeat_path(path, one.pid))
            removed.append(one.pid)
    _remove_cut_off(path)
    return removed


def _remove_cut_off(path: str) -> None:
    """Remove value files that stayed empty because their process was killed: prometheus_client cannot read them."""
    for file in glob.glob(os.path.join(glob.escape(path), "*.db")):
        with contextlib.suppress(OSError):
            found = os.stat(file)
            if found.st_size == 0 and time.time() - found.st_mtime >= CUT_OFF_SECONDS:
                os.unlink(file)


def _read(file: str) -> Heartbeat | None:
    """Return the heartbeat that a file holds, None if there is none or it is damaged."""
    try:
        with open(file, encoding="utf-8") as opened:
            said = json.load(opened)
        return Heartbeat(int(said["pid"]), *(str(said[key]) for key in Heartbeat._fields[1:]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


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
