"""Wait for what other tasks, threads and servers do; hold and cancel tasks where they wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.util import await_only

from tests.servers import DEADLINE_SECONDS

LEFT_OPEN = [
    pytest.mark.filterwarnings("ignore:unclosed connection:ResourceWarning"),  # asyncpg
    pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning"),  # psycopg
    pytest.mark.filterwarnings("ignore:.*was deleted before being closed:ResourceWarning"),  # aiosqlite
    pytest.mark.usefixtures("collected_here"),
]
"""Marks of tests that let the collector take connections, which drivers complain about."""


class Gate:
    """Hold async callers until it is opened."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self.waiting = 0

    def pass_through(self, *arguments: Any) -> None:
        self.waiting += 1
        try:
            await_only(self._open.wait())
        finally:
            self.waiting -= 1

    def open(self) -> None:
        """Let everybody through from now on."""
        self._open.set()

    def close(self) -> None:
        """Hold everybody who comes from now on."""
        self._open.clear()

    async def reached(self, count: int = 1) -> None:
        """Wait until so many callers are held."""
        await eventually(lambda: self.waiting == count, f"{count} callers at the gate")


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """Return when the condition holds; fail after the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never came to be: {what}"
        await asyncio.sleep(0.002)


async def cancel(task: asyncio.Task[Any], *, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Cancel a task and wait for its end; `meanwhile` runs when the cancellation is on its way."""
    task.cancel()
    meanwhile()
    try:
        await task
    except asyncio.CancelledError:
        return
    raise AssertionError("the task was not cancelled")
