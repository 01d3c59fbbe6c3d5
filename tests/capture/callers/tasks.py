"""Tasks that stop at a gate, and what their stacks say."""

from __future__ import annotations

import asyncio
import linecache
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pool_exporter.capture.callers.stacks import task_stack

HERE = "here"
"""What `functions` calls the modules of these tests."""


WAIT = [f"{HERE}:wait", "asyncio.locks:wait"]
"""The innermost functions of whoever waits at a gate."""


class Gate:
    """A place to wait at, which says that somebody came."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def wait(self) -> None:
        """Wait until the gate is opened."""
        self.reached.set()
        await self.opened.wait()


@pytest.fixture
def gate() -> Gate:
    """A closed gate."""
    return Gate()


async def at(gate: Gate, coroutine: Coroutine[Any, Any, Any]) -> tuple[str, ...]:
    """Return the stack of a task that runs the coroutine until it waits at the gate."""
    task = asyncio.create_task(coroutine)
    await gate.reached.wait()
    stack = task_stack(task)
    gate.opened.set()
    await task
    return stack


def functions(stack: tuple[str, ...]) -> list[str]:
    """Return the `module:function` of each entry, without the classes and functions around it."""
    names = (re.fullmatch(r"(.+):(\S+) \(\S+:\d+\)", entry) for entry in stack)
    return [f"{_module(name[1])}:{name[2].rpartition('.')[2]}" for name in names if name is not None]


def _module(name: str) -> str:
    return HERE if name.startswith(f"{__package__}.") else name


def source(entry: str) -> str:
    """Return the line of these tests that an entry points to."""
    found = re.search(r"\(callers/(\w+\.py):(\d+)\)$", entry)
    assert found is not None, entry
    return linecache.getline(str(Path(__file__).with_name(found[1])), int(found[2])).strip()


async def outer(gate: Gate) -> None:
    await middle(gate)  # outer's line


async def middle(gate: Gate) -> None:
    await asyncio.sleep(0)
    await gate.wait()  # middle's line


@pytest.fixture
async def engine() -> AsyncIterator[AsyncEngine]:
    """An asynchronous engine whose database is no server."""
    engine = create_async_engine("sqlite+aiosqlite://")
    yield engine
    await engine.dispose()


def synchronous(connection: Any, waits: Callable[[], Coroutine[Any, Any, None]]) -> None:
    connection.connection.dbapi_connection.run_async(lambda _: waits())


async def runs_sync(engine: AsyncEngine, function: Callable[..., Any], *arguments: Any) -> None:
    async with engine.connect() as connection:
        await connection.run_sync(function, *arguments)


def look(stacks: list[tuple[str, ...]], *held: object) -> None:
    stacks.append(task_stack(asyncio.current_task()))
