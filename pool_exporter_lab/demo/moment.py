"""Define the frozen records of what the demo shows: the pool at one moment, and what was logged until then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pool_exporter import HeldConnection, PoolSnapshot

POOL = "demo"
"""The name of the one pool, unless another is asked for."""


class Site(NamedTuple):
    """Who acquires, and where; None where unknown."""

    owner: str
    function: str | None
    filename: str | None
    lineno: int | None


class Message(NamedTuple):
    """One log message, in one line; numbers count up from 1."""

    number: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Hold one step in the life of a leak, as it was logged: suspected, recovered or collected."""

    event: str
    kind: str | None
    site: Site
    age_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Hold everything that the demo shows of its pool at one moment."""

    snapshot: PoolSnapshot
    held: tuple[HeldConnection, ...] = ()
    """The uses in progress, the oldest first."""
    leaks: tuple[Leak, ...] = ()
    """The last steps in the lives of leaks, the oldest first; bounded."""
    events: Mapping[tuple[str, Site], int] = field(default_factory=dict)
    """How many such steps there were, by event and site."""
    messages: tuple[Message, ...] = ()
    """The last log messages, the oldest first."""
    timeout_note: str | None = None
    """The note on the exception of the last pool timeout, None if there was none."""


def site_of(held: HeldConnection) -> Site:
    """Return who acquired a connection, and where."""
    return Site(held.owner, held.function, held.filename, held.lineno)
