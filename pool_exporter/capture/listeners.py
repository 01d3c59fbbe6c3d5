"""Listen to SQLAlchemy's public events of pools and dialects, and report them to a tap."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from sqlalchemy import Engine, event
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.pool import Pool

from pool_exporter.capture.marks import mark_of
from pool_exporter.capture.tap import Tap
from pool_exporter.ledger.uses import PoolEntry


class PoolListeners:
    """The listeners of the pools of one tap; none of them ever raises."""

    def __init__(self, tap: Tap) -> None:
        self.tap = tap

    def on_connect(self, connection: Any, record: Any) -> None:
        """Appended, so that dialect initialisation is over when it runs."""
        if self.tap.active:
            try:
                entry = self.tap.entry(record)
                if entry.connection_key is None:  # made by a creator that does not report
                    self.tap.ledger.adopt(entry, id(connection))
                self.tap.ledger.initialised(entry)
                if not self.tap.reports_acquire(self.tap):
                    # Its acquire had begun before the pool was attached: only the event of
                    # its checkout, which is still to come, tells that a use begins.
                    listen_to_pool(self.tap, record._ConnectionRecord__pool, checkouts=True)
            except Exception as error:
                self.tap.fault("on_connect", error)

    def on_close(self, connection: Any, record: Any) -> None:
        """A close that was announced by `invalidate`, or one that SQLAlchemy decides itself."""
        if self.tap.active:
            try:
                entry = self.tap.entry(record)
                entry.close_announced = True
                self.tap.ledger.closed(entry, self.tap.close_reason(record, entry))
            except Exception as error:
                self.tap.fault("on_close", error)

    def on_invalidate(self, connection: Any, record: Any, exception: BaseException | None) -> None:
        """A hard invalidation: its close follows."""
        if self.tap.active:
            try:
                entry = self.tap.entry(record)
                entry.close_reason = self.tap.invalidation(entry, exception)
            except Exception as error:
                self.tap.fault("on_invalidate", error)

    def on_soft_invalidate(self, connection: Any, record: Any, exception: BaseException | None) -> None:
        """An explicit soft invalidation, which ends nothing yet."""
        if self.tap.active:
            try:
                self.tap.ledger.invalidated("soft")
            except Exception as error:
                self.tap.fault("on_soft_invalidate", error)

    def on_detach(self, connection: Any, record: Any) -> None:
        """A detach(), or an async connection that the garbage collector takes."""
        if self.tap.active:
            try:
                entry = mark_of(record)
                if isinstance(entry, PoolEntry) and entry.ledger is self.tap.ledger:
                    self.tap.ledger.detached(entry, self.tap.detached_use(entry))
            except Exception as error:
                self.tap.fault("on_detach", error)

    def on_checkout(self, connection: Any, record: Any, fairy: Any) -> None:
        """The start of a use where `pool.connect()` cannot be followed."""
        if self.tap.active:
            try:
                self.tap.checked_out(record, followed=self.tap.reports_acquire(self.tap))
            except Exception as error:
                self.tap.fault("on_checkout", error)

    def on_checkin(self, connection: Any, record: Any) -> None:
        """The end of a use where the pool's own return cannot be followed."""
        if self.tap.active and self.tap.mode == "reduced":
            try:
                self.tap.returning(record)
            except Exception as error:
                self.tap.fault("on_checkin", error)


class DialectListeners:
    """The listeners of the dialects of one tap; none of them ever raises."""

    def __init__(self, tap: Tap) -> None:
        self.tap = tap

    def on_error(self, context: ExceptionContext) -> None:
        """Remember the error on its connection: an invalidation with it is a disconnect."""
        if self.tap.active and context.connection is not None:
            try:
                fairy = context.connection._dbapi_connection
                entry = mark_of(getattr(fairy, "_connection_record", None))
                if isinstance(entry, PoolEntry):
                    entry.error_key = id(context.original_exception)
            except Exception as error:
                self.tap.fault("on_error", error)

    def on_do_connect(self, dialect: Any, record: Any, arguments: Any, keywords: Any) -> None:
        """Attach to a pool that was assigned to the engine since; returns None, to change nothing."""
        if self.tap.active:
            try:
                pool = record._ConnectionRecord__pool
                if mark_of(pool) is not self.tap:
                    self.tap.attach_pool(pool)
            except Exception as error:
                self.tap.fault("on_do_connect", error)


_Listeners = TypeVar("_Listeners", PoolListeners, DialectListeners)


def listen_to_pool(tap: Tap, pool: Pool, *, checkouts: bool) -> None:
    """Add the pool listeners, those of checkout and checkin only where asked for.

    Does nothing for what the pool has already, as one that `recreate()` made has.
    """
    if tap.pool_listeners is None:
        tap.pool_listeners = _inert(pool.dispatch.connect, PoolListeners) or PoolListeners(tap)
    listeners: PoolListeners = tap.pool_listeners
    listeners.tap = tap
    wanted = {
        "connect": listeners.on_connect,
        "close": listeners.on_close,
        "invalidate": listeners.on_invalidate,
        "soft_invalidate": listeners.on_soft_invalidate,
        "detach": listeners.on_detach,
    }
    if checkouts:
        wanted |= {"checkout": listeners.on_checkout, "checkin": listeners.on_checkin}
    _add(pool, {name: fn for name, fn in wanted.items() if fn not in tuple(getattr(pool.dispatch, name))})


def listen_to_dialect(tap: Tap, engine: Engine) -> None:
    """Add the dialect listeners, unless the dialect has them."""
    dialect = engine.dialect
    if any(listeners.tap is tap for listeners in _ours(dialect.dispatch.handle_error, DialectListeners)):
        return
    inert = _inert(dialect.dispatch.handle_error, DialectListeners)
    if inert is not None:
        inert.tap = tap
        return
    listeners = DialectListeners(tap)
    _add(dialect, {"handle_error": listeners.on_error, "do_connect": listeners.on_do_connect})


def _ours(listeners: Iterable[Any], kind: type[_Listeners]) -> list[_Listeners]:
    """Return the objects of a kind whose methods are among the listeners."""
    owners = (getattr(listener, "__self__", None) for listener in listeners)
    return [owner for owner in owners if isinstance(owner, kind)]


def _inert(listeners: Iterable[Any], kind: type[_Listeners]) -> _Listeners | None:
    """Return what an earlier tap left behind when it was switched off, to be used again."""
    return next((one for one in _ours(listeners, kind) if not one.tap.active), None)


def _add(target: Pool | Dialect, listeners: dict[str, Any]) -> None:
    """Add listeners to a target that other threads may be using.

    Adding to the target itself would change a deque under a thread that iterates it, which
    raises into the application. So they are added to a copy, which then takes the place of
    the original in one step.
    """
    if not listeners:
        return
    twin: Any = object.__new__(type(target))
    if isinstance(target, Pool):
        twin._dialect = target._dialect  # what tells the listener's kind of lock
    twin.dispatch._update(target.dispatch, only_propagate=False)
    for name, fn in listeners.items():
        event.listen(twin, name, fn)
    target.__dict__["dispatch"] = twin.dispatch
    if isinstance(target, Dialect):
        target._has_events = True
