"""Hold what the ledger knows of one connection record, its open connection, its uses and who has them."""

from __future__ import annotations

import weakref
from threading import get_ident
from typing import Any

from pool_exporter.ledger.call_site import CallSite
from pool_exporter.ledger.counts import Account


class Use:
    """One use of a connection: from the return of the outermost `pool.connect()` to its end.

    It is made when the acquire begins, and comes to nothing where that fails. `fairy_ref` is the
    connection record's own weak reference to the fairy that the caller holds. Times are readings
    of the ledger's clock, in seconds. What is not known from the begin is not set before it is:
    each attribute is time on the hot path.
    """

    __slots__ = (
        *("account", "active_at", "began", "busy_at", "ended_at", "entry", "fairy_ref", "instruction"),
        *(
            "overdue",
            "owner",
            "pool_key",
            "seems_ended_since",
            "site",
            "exempt_in_parent",
            "started_at",
            "statement",
        ),
        *("suspected", "span", "task_name", "task_ref", "thread", "was_in_transaction", "was_collected"),
    )

    entry: PoolEntry  # this and the next are set when the acquire got a connection
    fairy_ref: weakref.ref[Any]

    def __init__(self, pool_key: int, began: float) -> None:
        self.pool_key = pool_key
        self.began = began  # when the acquire did
        self.started_at = self.active_at = began  # the use, and its last activity
        self.thread = 0  # where it started; none where it had begun before anybody looked
        # What the ledger knows of it.
        self.account: Account | None = None  # its owner's, once its begin was counted
        self.ended_at: float | None = None  # when its return was reported
        self.was_collected = False  # whether it was the collector that returned it
        self.statement: str | None = None  # its last one, where the application asked for SQL text

    def clear_attribution(self) -> None:
        """Leave unknown who has the connection; else attribution says it. Frames are never kept."""
        self.owner = "unknown"
        self.site: CallSite | None = None
        self.instruction = 0  # offset of the call in the site's code, in bytes
        self.task_ref: weakref.ref[Any] | None = None
        self.task_name: str | None = None
        self.span: Any = None  # context of OpenTelemetry's current span

    def start_tracking(self) -> None:
        """Get ready to be looked at: few uses are still in progress when their begin is counted."""
        self.busy_at = self.started_at  # when it was last seen at work
        self.overdue: str | None = None  # the kind by which it is past the policy now
        self.suspected: str | None = None  # the kind by which it was first
        self.seems_ended_since: float | None = None  # though nothing said so
        self.was_in_transaction = False  # whether it was in a transaction when it was last looked at
        self.exempt_in_parent = False  # whether it was exempt in the process that this one was forked from

    @classmethod
    def of(cls, entry: PoolEntry, fairy_ref: weakref.ref[Any], now: float) -> Use:
        """Return a use whose acquire was not followed."""
        use = cls(entry.pool_key, now)
        use.entry = entry
        use.fairy_ref = fairy_ref
        use.thread = get_ident()
        use.clear_attribution()
        return use

    @property
    def collected(self) -> bool:
        """Tell whether the caller dropped the fairy without closing it."""
        return self.fairy_ref() is None

    @property
    def known_collected(self) -> bool:
        """Tell the same where no event says so: one that was taken in may have ended normally just before."""
        return self.thread != 0 and self.fairy_ref() is None


class PoolEntry:
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
        "detached_before_event",
        "error_key",
        "idle_seconds",
        "idle_since",
        "ledger",
        "pinging",
        "pool_key",
        "record_ref",
        "returning",
        "running",
        "shared",
        "statements",
        "stream_ref",
        "use",
        "uses",
    )

    def __init__(self, ledger: object, pool_key: int) -> None:
        self.ledger = ledger  # whose entry it is: compared by identity, never called
        self.pool_key = pool_key  # id() of the pool, which the record keeps alive
        self.record_ref: weakref.ref[Any] | None = None
        self.uses: list[Use] = []  # as counted; more than one only where a pool shares its connection
        self.use: Use | None = None  # the last one to begin, until it ends, counted yet or not
        self.shared = False  # whether there may be several at a time
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
        self.detached_before_event = 0  # connections that left the record before their detach event

    @property
    def open(self) -> bool:
        """Tell whether the record has an open connection."""
        return self.connection_key is not None

    def current_uses(self) -> list[Use]:
        """Return the uses in progress by what was noted, counted yet or not."""
        if not self.shared:
            return [] if self.use is None else [self.use]
        return self.uses if self.use is None or self.use in self.uses else [*self.uses, self.use]

    def drop(self, use: Use) -> None:
        """Forget a use that ended; it points here, so it must not stay."""
        self.uses.remove(use)
        if self.use is use:
            self.use = None

    def drop_all(self) -> None:
        """Forget every use."""
        self.uses.clear()
        self.use = None
