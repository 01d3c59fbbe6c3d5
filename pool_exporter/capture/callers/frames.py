"""Find the frame of the application that acquires a connection, across the greenlet boundary.

Under asyncio SQLAlchemy works in a greenlet of its own, whose stack ends in SQLAlchemy; the
awaiting coroutines' frames are in the parent greenlet. What a code object is, is looked up once;
after that a frame costs one dictionary lookup. No frame is kept.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from sqlalchemy import Engine

from pool_exporter.ledger.call_site import CallSite

MAX_SITES = 10_000
"""Code objects remembered at most; a program that makes code all the time must not fill the memory."""
MAX_NAME_LENGTH = 200
"""Characters of a `module:function`, which becomes a label value."""

BOUNDARIES = (
    *("asyncio.base_events", "asyncio.events", "asyncio.runners", "uvloop", "winloop", "gevent", "eventlet"),
    *("anyio", "asgiref", "starlette", "fastapi", "litestar", "flask", "werkzeug", "aiohttp"),
    *("uvicorn", "hypercorn", "granian", "gunicorn", "daphne"),
)
"""Modules that run what is the application's: event loops, frameworks, servers. None of them has a use
for a pool of SQLAlchemy's. A search ends here: whoever is further out acquires nothing."""

SKIPPED = (
    *("sqlalchemy", "pool_exporter", "greenlet", "sqlmodel", "flask_sqlalchemy", "advanced_alchemy"),
    *("opentelemetry", "sentry_sdk", "ddtrace", "newrelic", "elasticapm", "wrapt", "tenacity", "backoff"),
)
"""Modules that acquire for others, besides the standard library's."""

COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>")
"""Code that belongs to the function it stands in, and has no frame of its own as of Python 3.12."""

Found = tuple[CallSite | None, int]
"""The site, and the offset in bytes of the instruction in it."""

_CONNECT = Engine.connect.__code__
_FRAMES_TO_CONNECT = 6
"""From `find` to `Engine.connect()`: an attributor, the tap, `Pool.connect()` overridden, two of SQLAlchemy."""
_STANDARD = os.path.join(os.path.dirname(os.__file__), "")
_COROUTINE = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE | inspect.CO_ASYNC_GENERATOR


class Sites:
    """What each code object is, looked up once. `skip` adds prefixes of module names to skip."""

    def __init__(self, skip: tuple[str, ...] = ()) -> None:
        self._skip = (*SKIPPED, *skip)
        self.known: dict[int, CallSite] = {}  # by id() of the code, which the site keeps alive

    def judge(self, frame: FrameType) -> CallSite:
        """Look at a code object for the first time."""
        if len(self.known) >= MAX_SITES:
            self.known.clear()
        code, module = frame.f_code, module_of(frame)
        boundary = module != code.co_filename and _is_within(module, BOUNDARIES)
        application = not boundary and self._is_application(module, code)
        site = CallSite(code, function_name(module, code), application=application, boundary=boundary)
        self.known[id(code)] = site
        return site

    def _is_application(self, module: str, code: CodeType) -> bool:
        if code.co_name in COMPREHENSIONS:
            return False
        if module == code.co_filename:  # it is of no module
            return True
        if _is_standard(module, code.co_filename):
            return False
        return not _is_within(module, self._skip)


def frame_finder(skip: tuple[str, ...] = ()) -> Callable[[], Found]:
    """Return a function that finds the innermost application frame of an acquire."""
    sites = Sites(skip)
    known, judge, modules = sites.known.get, sites.judge, sys.modules
    start: CodeType | None = None
    getcurrent: Callable[[], Any] | None = None  # greenlet's, once it was imported

    def asynchronous_connect() -> CodeType | None:
        nonlocal start
        # Not imported here: SQLAlchemy 2.1 needs greenlet for it. Who has an AsyncEngine has imported it.
        if start is None and "sqlalchemy.ext.asyncio" in modules:
            start = modules["sqlalchemy.ext.asyncio"].AsyncConnection.start.__code__
        return start

    def load_greenlet() -> Callable[[], Any] | None:
        nonlocal getcurrent
        getcurrent = getattr(modules.get("greenlet"), "getcurrent", None)
        return getcurrent

    def find() -> Found:
        """Return the site; None where there is none. On the hot path, hence a closure.

        A frame costs most when it is first touched. So two leaps go over those that are there in
        nearly every acquire: where `AsyncConnection.start()` awaits, its greenlet holds nothing but
        `Engine.connect()` and what that calls.
        """
        frame: FrameType | None
        current = getcurrent or load_greenlet()
        greenlet: Any = None if current is None else current()
        parent = None if greenlet is None else greenlet.parent
        frame = None if parent is None else parent.gr_frame
        frame = None if frame is None else frame.f_back  # above greenlet_spawn()
        if frame is not None and frame.f_code is (start or asynchronous_connect()):
            greenlet = parent
        else:
            greenlet = None
            try:
                frame = sys._getframe(_FRAMES_TO_CONNECT)
                frame = frame.f_back if frame.f_code is _CONNECT else sys._getframe(1)
            except ValueError:  # a stack that is not as deep
                frame = sys._getframe(1)
        while True:
            while frame is not None:
                site = known(id(frame.f_code)) or judge(frame)
                if not site.stops:
                    frame = frame.f_back
                elif site.application and (
                    greenlet is None or site.code.co_flags & _COROUTINE or not _runs_the_loop(frame, greenlet)
                ):
                    return site, frame.f_lasti
                else:
                    return None, 0
            if current is None:
                return None, 0
            greenlet = (current() if greenlet is None else greenlet).parent
            if greenlet is None:
                return None, 0
            frame = greenlet.gr_frame

    return find


def _runs_the_loop(frame: FrameType, greenlet: Any) -> bool:
    """Tell whether a frame of the thread's first greenlet is outside of the task in progress.

    An event loop may have no frames of its own, as uvloop has not. Then whoever runs it stands
    where an application's function would, which a task could have called.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:  # greenlets without asyncio
        return False
    if greenlet.parent is not None:
        return False
    coroutine = task.get_coro() if task is not None else None
    outermost = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
    outer: FrameType | None = frame
    while outer is not None and outer is not outermost:
        outer = outer.f_back
    return outer is None


def _is_standard(module: str, filename: str) -> bool:
    """Tell whether a module is the standard library's, and not one of the application's with such a name."""
    if module.partition(".")[0] not in sys.stdlib_module_names:
        return False
    return filename.startswith(_STANDARD) or not os.path.isabs(filename)  # frozen ones have no path


def module_of(frame: FrameType) -> str:
    """Return the name of a frame's module; of code without one, as `exec` makes it, its file's."""
    name = frame.f_globals.get("__name__")
    return name if isinstance(name, str) and name else frame.f_code.co_filename


def function_name(module: str, code: CodeType) -> str:
    """Return `module:function`, bounded; with the class and outer functions on Python 3.11 and later.

    A file's name may have bytes that are no text, which no label value can hold.
    """
    name = f"{module}:{getattr(code, 'co_qualname', code.co_name)}"[:MAX_NAME_LENGTH]
    return name.encode(errors="replace").decode()


def _is_within(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)
