"""Be an application with a pool that is watched, and say who ought to hold its connections."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Integer, literal, select
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from pool_exporter import HeldConnection, Instrumentation

MARK = "# acquires"
"""Stands on the line that a function acquires its connection on."""
QUALIFIED = sys.version_info >= (3, 11)
"""Whether code knows the class and the functions that it is in."""


def need_module(name: str) -> Any:
    """Import a module; without it skip the test, or fail it where CI is set."""
    try:
        return importlib.import_module(name)
    except ImportError:
        message = f"{name} is missing; install it with: pip install {name}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


class Base(AsyncAttrs, DeclarativeBase):
    """What is mapped."""


class Thing(Base):
    """A thing that is there without a table: `get(Thing, 1)` finds it."""

    __table__ = select(literal(1, Integer).label("id")).subquery("things")
    __mapper_args__ = {"primary_key": [__table__.c.id]}  # noqa: RUF012  # SQLAlchemy reads it once

    id: Mapped[int]


class Place(NamedTuple):
    """Where a connection was acquired."""

    function: str | None
    filename: str | None
    lineno: int | None


NOWHERE = Place(None, None, None)
HERE: Any = object()
"""Stands for the name of the task that asks."""


def marked_line(source: str, first: int = 1) -> int:
    """Return the number of the one line that has the mark."""
    [number] = [number for number, line in enumerate(source.splitlines(), first) if MARK in line]
    return number


def name_of(function: Callable[..., Any]) -> str:
    """Return `module:function`, of the function itself and not of the code that runs."""
    name = function.__qualname__ if QUALIFIED else function.__name__
    return f"{function.__module__}:{name}"


def place_of(function: Callable[..., Any]) -> Place:
    """Return the marked line of a function."""
    source, first = inspect.getsourcelines(function)
    code: CodeType = function.__code__
    return Place(name_of(function), code.co_filename, marked_line("".join(source), first))


def place(held: HeldConnection) -> Place:
    """Return where a connection is said to have been acquired."""
    return Place(held.function, held.filename, held.lineno)


def current_task_name() -> str | None:
    """Return the name of the task that asks, None where there is none."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop
        return None
    return None if task is None else task.get_name()


@dataclass(frozen=True)
class Application:
    """An engine, and what is known of its pool."""

    engine: Any
    pool: Instrumentation

    def session(self, **options: Any) -> AsyncSession:
        """Begin a session."""
        return AsyncSession(self.engine, **options)

    def sync_session(self) -> Session:
        """Begin a session of a synchronous engine."""
        return Session(self.engine)

    @property
    def sessions(self) -> async_sessionmaker[AsyncSession]:
        """A factory of sessions."""
        return async_sessionmaker(self.engine)

    def held(self) -> HeldConnection:
        """Return the one connection that is out."""
        [held] = self.pool.held()
        return held

    def assert_held_by(
        self,
        function: Callable[..., Any] | Place,
        *,
        owner: str | None = None,
        task: str | None = HERE,
        trace_id: str | None = None,
    ) -> None:
        """Assert that the one connection that is out was acquired on the marked line of a function.

        Unless it is said, by the task that asks, outside of any trace; the owner is the function,
        as it is where no work has a name.
        """
        expected = function if isinstance(function, Place) else place_of(function)
        assert_held(self.held(), expected, owner=owner, task=task, trace_id=trace_id)


def assert_held(
    held: HeldConnection,
    expected: Place,
    *,
    owner: str | None = None,
    task: str | None = HERE,
    trace_id: str | None = None,
) -> None:
    """Assert the same of one of several connections."""
    said = (place(held), held.task_name, held.owner, held.trace_id)
    task = current_task_name() if task is HERE else task
    right = (expected, task, owner or expected.function or "unknown", trace_id)
    assert said == right, f"{said} instead of {right}"
