"""Say where an asyncio task is now, as text: no frame is kept.

A task that waits is followed along what it awaits, through generators of both kinds and through the
greenlets in which SQLAlchemy works under asyncio. A task that runs is found on the stack of its
thread. The tasks of a task group that it has opened come after it, for there the work is often done:
a web framework streams a response in one. Other tasks that it awaits are not looked into.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import threading
from collections import deque
from types import FrameType
from typing import Any

from pool_exporter.capture.callers.frames import function_name, module_of
from pool_exporter.capture.callers.greenlets import current_greenlet

MAX_ENTRIES = 30
"""Entries of a stack at most: the innermost."""
MAX_STEPS = 10_000
"""Frames looked at on the way there; what is deeper than this is not followed to its end."""

_FRAME_AND_AWAITED = (("cr_frame", "cr_await"), ("ag_frame", "ag_await"), ("gi_frame", "gi_yieldfrom"))
_OPAQUE = {
    "async_generator_asend",
    "async_generator_athrow",  # aclose() too
    "anext_awaitable",  # of anext() with a default
    "coroutine_wrapper",  # of a coroutine's __await__()
}
"""Types of awaitables that tell only the collector which coroutine or generator they drive."""
MAX_NESTED_GROUPS = 3
"""Task groups within the tasks of task groups that are looked into."""
_GROUPS = {"anyio._backends._asyncio", "asyncio.taskgroups"}
"""Modules whose `TaskGroup` has its unfinished tasks in `_tasks`."""
_AWAITS = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE | inspect.CO_ASYNC_GENERATOR


def task_stack(task: asyncio.Task[Any] | None) -> tuple[str, ...]:
    """Return where a task is, outermost first, each entry as `module:function (directory/file.py:line)`.

    At most the innermost `MAX_ENTRIES`; of a file's path the last two parts. Synchronous frames of
    SQLAlchemy and of this package are left out. Empty for None and for a task that is done. Of a task
    that runs in another thread, in a greenlet of SQLAlchemy, only the outermost frame is known.
    """
    if task is None or task.done():
        return ()
    coroutine = task.get_coro()
    bottom = _read(coroutine, "cr_frame") or _read(coroutine, "gi_frame")
    if not isinstance(bottom, FrameType):
        return ()
    if _read(coroutine, "cr_running") or _read(coroutine, "gi_running"):
        return _running(bottom)
    return _waiting(coroutine)


def _waiting(awaitable: Any, depth: int = 0) -> tuple[str, ...]:
    """Return the entries along what is awaited, then those of the tasks in its task groups."""
    entries: deque[str] = deque(maxlen=MAX_ENTRIES)
    children: list[Any] = []
    for _ in range(MAX_STEPS):
        frame, awaited = _frame_and_awaited(awaitable)
        if frame is not None:
            entries.append(_entry(frame))
            children += _grouped(awaitable, frame)
            if frame.f_code.co_name == "greenlet_spawn":
                entries.extend(_in_greenlet(awaitable, frame))
        elif type(awaitable).__name__ in _OPAQUE:
            awaited = _driven(awaitable)
        if awaited is None:
            break
        awaitable = awaited
    if depth < MAX_NESTED_GROUPS:
        for child in children:
            entries.extend(_waiting(child, depth + 1))
    return tuple(entries)


def _grouped(coroutine: Any, frame: FrameType) -> list[Any]:
    """Return the coroutines of the tasks in the task groups that a coroutine has as local variables.

    The collector's view of them, as in `_in_greenlet`.
    """
    found = []
    for one in (*gc.get_referents(coroutine), *gc.get_referents(frame)):
        if type(one).__name__ == "TaskGroup" and type(one).__module__ in _GROUPS:
            tasks = _read(one, "_tasks")
            found += [task.get_coro() for task in tuple(tasks or ()) if not task.done()]
    return found


def _frame_and_awaited(awaitable: Any) -> tuple[FrameType | None, Any]:
    """Return the frame of a coroutine or generator and what it awaits; None where there is none."""
    for frame_name, awaited_name in _FRAME_AND_AWAITED:
        frame = _read(awaitable, frame_name)
        if isinstance(frame, FrameType):
            return frame, _read(awaitable, awaited_name)
    return None, None


def _driven(opaque: Any) -> Any:
    """Return the coroutine or generator behind an opaque awaitable: it comes first in each type."""
    for one in gc.get_referents(opaque):
        if type(one).__name__ in _OPAQUE or _frame_and_awaited(one)[0] is not None:
            return one
    return None


def _in_greenlet(coroutine: Any, frame: FrameType) -> tuple[str, ...]:
    """Return the entries of what waits in the greenlet that a `greenlet_spawn` has made.

    The greenlet is a local variable there. The collector's view of it, unlike `f_locals`, makes
    no copy that would keep the others alive. Until Python 3.10 it sees them through the frame only.
    """
    for one in (*gc.get_referents(coroutine), *gc.get_referents(frame)):
        if _read(one, "__sqlalchemy_greenlet_provider__"):
            return _above(None, [_read(one, "gr_frame")])
    return ()


def _running(bottom: FrameType) -> tuple[str, ...]:
    """Return the entries from a coroutine's frame to the top of the stack that it runs on."""
    entries = _above(bottom, [sys._getframe(1), *_left_by_greenlets()])
    if not entries:
        others = sys._current_frames()
        others.pop(threading.get_ident())  # this function's own: to keep that would be a cycle
        for top in others.values():
            entries = _above(bottom, [top])
            if entries:
                break
    return entries or (_entry(bottom),)


def _left_by_greenlets() -> list[Any]:
    """Return the frames that the greenlets of this thread will go on from, innermost first."""
    tops = []
    greenlet: Any = getattr(current_greenlet(), "parent", None)
    while greenlet is not None:
        tops.append(greenlet.gr_frame)
        greenlet = greenlet.parent
    return tops


def _above(bottom: FrameType | None, tops: list[Any]) -> tuple[str, ...]:
    """Return the entries from `bottom` up to the first of `tops`, of which each calls the one before.

    Empty where `bottom` is not below; None is below everything.
    """
    entries: list[str] = []
    steps = 0
    for top in tops:
        frame: FrameType | None = top
        while frame is not None and steps < MAX_STEPS:
            if len(entries) < MAX_ENTRIES and not _is_plumbing(frame):
                entries.append(_entry(frame))
            if frame is bottom:
                return tuple(reversed(entries))
            frame = frame.f_back
            steps += 1
    return tuple(reversed(entries)) if bottom is None else ()


def _is_plumbing(frame: FrameType) -> bool:
    """Tell whether a frame is a synchronous one of SQLAlchemy or of this package."""
    module = module_of(frame)
    if frame.f_code.co_flags & _AWAITS:
        return False
    return module.partition(".")[0] in ("sqlalchemy", "pool_exporter")


def _entry(frame: FrameType) -> str:
    code = frame.f_code
    path = "/".join(code.co_filename.replace("\\", "/").rsplit("/", 2)[-2:])
    return f"{function_name(module_of(frame), code)} ({path}:{frame.f_lineno or code.co_firstlineno})"


def _read(asked: Any, name: str) -> Any:
    """Return an attribute, None where there is none: what is awaited may be any object."""
    try:
        return getattr(asked, name)
    except Exception:  # a property may raise what it likes
        return None
