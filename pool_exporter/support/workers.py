"""Tell whether this process is one of several workers of a server, which share a port for their scrapes.

Servers do not say so in public. What is certain is where a worker's main thread came from: the
server's own function that runs a worker stands at the bottom of its stack, with the number of workers
at hand. Nothing is imported, and no server needs to be installed.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

LABEL_VARIABLE = "POOL_EXPORTER_PROCESS_LABEL"
"""1: this is one of several workers, whatever the server; 0: it is not."""


class _Known:
    """What was found out about this process."""

    def __init__(self) -> None:
        self.pid = 0
        self.several = False
        self.forked = False


_KNOWN = _Known()


def several_workers() -> bool:
    """Tell whether other workers may answer the next scrape: looked for once in each process."""
    pid = os.getpid()
    if _KNOWN.pid != pid:
        _KNOWN.several, _KNOWN.pid = _look(), pid
    return _KNOWN.several


def has_siblings() -> bool:
    """Tell whether the same program runs in other processes, which may want the same port."""
    # Who was started by multiprocessing has imported this.
    parent = getattr(sys.modules.get("multiprocessing.process"), "parent_process", None)
    return several_workers() or _KNOWN.forked or (parent is not None and parent() is not None)


def process_label() -> str | None:
    """Return what tells this worker's series from the others', None where there are no others."""
    return str(os.getpid()) if several_workers() else None


def _look() -> bool:
    said = os.environ.get(LABEL_VARIABLE, "").strip().lower()
    if said:
        return said in ("1", "true", "yes", "on")
    unnumbered = False
    try:
        for frame in _stack():
            place = (frame.f_globals.get("__name__", ""), frame.f_code.co_name)
            if place in _NUMBERED:
                return _NUMBERED[place](frame.f_locals) > 1
            unnumbered = unnumbered or place in _UNNUMBERED
    except Exception:  # another library's objects may be anything
        return False
    return unnumbered


def _stack() -> Iterator[FrameType]:
    """Yield the frames of the main thread, the innermost first."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        yield frame
        frame = frame.f_back


_NUMBERED: dict[tuple[str, str], Callable[[dict[str, Any]], int]] = {
    ("gunicorn.arbiter", "spawn_worker"): lambda local: int(local["self"].num_workers),
    ("uvicorn._subprocess", "subprocess_started"): lambda local: int(local["config"].workers),
    ("granian.server.common", "_spawn_workers"): lambda local: int(local["self"].workers),
}
"""Functions of servers that a worker runs in, by module and name, and how many workers they know of."""

_UNNUMBERED = {("granian.server.mp", "wrapped")}
"""Those that know of no number: there are two or more, or it does no harm to say so."""


def _after_fork() -> None:
    _KNOWN.forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
