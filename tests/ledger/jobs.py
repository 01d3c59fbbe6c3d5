"""Jobs that the state machine runs, and a selector that counts rounds of I/O."""

from __future__ import annotations

import asyncio
import selectors
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

ROUND_SECONDS = 0.02
"""How long a machine waits at most for the next round of I/O."""


class CountingSelector(selectors.DefaultSelector):
    """Count the rounds in which a loop found something to read or write."""

    rounds = 0

    def select(self, timeout: float | None = None) -> Any:
        """Return what is ready."""
        ready = super().select(timeout)
        self.rounds += bool(ready)
        return ready


@dataclass(eq=False)
class Job:
    """One call into SQLAlchemy that is under way in a task, with the connection it works on."""

    task: asyncio.Task[Any]
    connection: AsyncConnection | None


def fairy_of(connection: AsyncConnection | None) -> Any:
    """Return SQLAlchemy's proxied connection behind an `AsyncConnection`, None without a live one."""
    if connection is None or connection.closed or connection.sync_connection is None:
        return None
    fairy = connection.sync_connection._dbapi_connection
    return fairy if fairy is not None and fairy.is_valid else None


def is_out(connection: AsyncConnection) -> bool:
    """Tell whether a connection is a use of the pool."""
    fairy = fairy_of(connection)
    return fairy is not None and not fairy.is_detached
