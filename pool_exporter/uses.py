"""Hold what the ledger knows of one connection record, its open connection and its uses."""

from __future__ import annotations

import weakref
from threading import get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pool_exporter.ledger import Ledger


class Use:
    """One use of a connection: from the return of the outermost `pool.connect()` to its end.

    `fairy_ref` is the connection record's own weak reference to the fairy that the caller holds.
    Times are readings of the ledger's clock, in seconds.
    """

    __slots__ = ("active_at", "fairy_ref", "seems_ended_since", "started_at", "thread")

    def __init__(self, fairy_ref: weakref.ref[Any], started_at: float) -> None:
        self.fairy_ref = fairy_ref
        self.started_at = self.active_at = started_at
        self.seems_ended_since: float | None = None  # though nothing said so
        self.thread = get_ident()  # where it began

    @property
    def collected(self) -> bool:
        """Tell whether the caller dropped the fairy without closing it."""
        return self.fairy_ref() is None


class Entry:
    """One connection record of the pool, held weakly, with its open connection and uses.

    The record points here, so an entry lives as long as its record or its ledger's interest.
    `connection_key` is the `id()` of the open DBAPI connection, None when there is none.
    """

    __slots__ = (
        "close_announced",
        "close_reason",
        "connected_at",
        "connecting_since",
        "connection_key",
        "error_key",
        "idle_seconds",
        "idle_since",
        "ledger",
        "left_early",
        "pinging",
        "pool_key",
        "record_ref",
        "returning",
        "running",
        "statements",
        "stream_ref",
        "uses",
    )

    def __init__(self, ledger: Ledger, pool_key: int) -> None:
        self.ledger = ledger
        self.pool_key = pool_key  # id() of the pool, which the record keeps alive
        self.record_ref: weakref.ref[Any] | None = None
        self.uses: list[Use] = []  # more than one only where a pool shares its connection
        self.connection_key: int | None = None
        self.connecting_since: float | None = None  # None where it was open when first seen
        self.connected_at = 0.0
        self.idle_since = 0.0
        self.idle_seconds = 0.0  # how long it had been idle before its last acquire
        self.close_announced = False  # its close event came, though the ledger may not know of it yet
        self.close_reason: str | None = None  # set by what precedes a close, consumed by the close
        self.error_key: int | None = None  # id() of the last error that handle_error reported
        self.returning = False  # between the end of its use and its place in the pool
        self.running = 0  # statements under way on the connection
        self.statements = 0  # executed by its only use at a time; moved to the ledger when it goes
        self.stream_ref: weakref.ref[Any] | None = None  # result context of its last server-side cursor
        self.pinging = False
        self.left_early = 0  # connections that left the record before their detach event

    @property
    def open(self) -> bool:
        """Tell whether the record has an open connection."""
        return self.connection_key is not None
