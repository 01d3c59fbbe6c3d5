"""Translate what happens in SQLAlchemy's pools of one engine into the ledger's terms.

A `Tap` is what the listeners and the seam report to. It holds engines, pools, records and
fairies weakly or not at all, so that it keeps nothing alive that the application drops.
"""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import NullPool, Pool, QueuePool
from sqlalchemy.pool.base import _ConnectionFairy

from pool_exporter.capture.callers.attribution import nobody
from pool_exporter.capture.errors import driver_error, is_cancellation, is_pool_timeout, passed_through
from pool_exporter.capture.marks import ATTRIBUTE, mark_of, task_key
from pool_exporter.ledger.ledger import Ledger
from pool_exporter.ledger.uses import PoolEntry, Use

_RESET = _ConnectionFairy._reset.__code__


class Tap:
    """The one reporter of an engine's pools to a ledger.

    `active` is the switch: off, listeners that stay behind report nothing. `mode` is "full",
    or "reduced" where only events can be used. What its methods raise is kept from the
    application by those who call them.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.active = True
        self.mode = "full"
        self.owner: object = None  # what the application holds; lives as long as its pools
        self.disposed_after: int | None = None  # connects counted when the engine was last disposed
        self.pool_listeners: Any = None
        self.attribute: Callable[[Use], None] = nobody
        self.timed_out: Callable[[BaseException], None] = lambda error: None
        self.attach_pool: Callable[[Pool], None] = lambda pool: None
        self.reports_acquire: Callable[[Tap], bool] = lambda tap: False
        self._engines: list[weakref.ref[Engine]] = []
        self._closing: dict[int, str] = {}  # task key -> the reason of the closes that it makes

    # --- engines and pools ---------------------------------------------------------------

    def engines(self) -> list[Engine]:
        """Return the engines that are still alive."""
        return [engine for ref in self._engines if (engine := ref()) is not None]

    def has_engine(self) -> bool:
        """Tell whether an engine is still alive."""
        for ref in self._engines:  # noqa: SIM110 - a generator costs more than all the rest of it
            if ref() is not None:
                return True
        return False

    def add_engine(self, engine: Engine) -> None:
        """Report an engine's pools too; each engine once."""
        if not any(known is engine for known in self.engines()):
            self._engines.append(weakref.ref(engine))

    def recreated(self, pool: Pool) -> None:
        """Report the pool that takes the place of a disposed one."""
        self.disposed_after = self.ledger.counts.connects
        self.attach_pool(pool)

    def entry(self, record: Any) -> PoolEntry:
        """Return the entry of a connection record, made at first sight.

        A record that has a connection nobody reported is adopted: it was open before.
        """
        entry = mark_of(record)
        if isinstance(entry, PoolEntry) and entry.ledger is self.ledger:
            return entry
        made, entry = self._new_entry(record)
        if made and record.dbapi_connection is not None:
            self.ledger.adopt(entry, id(record.dbapi_connection), record.fairy_ref)
        return entry

    def _new_entry(self, record: Any) -> tuple[bool, PoolEntry]:
        """Make a record's entry, and tell whether it is new: another thread may have been faster."""
        entry = PoolEntry(self.ledger, id(record._ConnectionRecord__pool))
        entry.record_ref = weakref.ref(record, partial(_record_collected, self.ledger, entry))
        if not self.active:  # what ends after uninstrument() must not take the record from the next tap
            return True, entry
        known = vars(record).setdefault(ATTRIBUTE, entry)
        if known is not entry:
            if isinstance(known, PoolEntry) and known.ledger is self.ledger:
                return False, known
            setattr(record, ATTRIBUTE, entry)  # an earlier tap's, that is off
        return True, entry

    def closing(self, reason: str) -> int:
        """Say why the connections that this task closes until `closing_done` are closed."""
        key = task_key()
        self._closing[key] = reason
        return key

    def closing_done(self, key: int) -> None:
        """Say that this task closes nothing more for the reason it gave."""
        self._closing.pop(key, None)

    # --- acquires ------------------------------------------------------------------------

    def acquired(self, use: Use, fairy: Any, *, shared: bool = False) -> None:
        """Report that `pool.connect()` returned: its use begins. On the hot path."""
        record = fairy._connection_record
        try:
            entry = record._pool_exporter
        except AttributeError:
            entry = self.entry(record)
        ledger = self.ledger
        if entry.ledger is not ledger:
            entry = self.entry(record)
        try:
            self.attribute(use)
        except Exception as error:
            self.fault("attribute", error)
            use.clear_attribution()
        # Where threads share a connection against the rules, another may have cleared the reference.
        ledger.acquired(use, entry, record.fairy_ref or weakref.ref(fairy), shared)

    def acquire_failed(self, use: Use, error: BaseException) -> None:
        """Report that `pool.connect()` raised."""
        if is_pool_timeout(error):
            self.ledger.timed_out(use)
            self.timed_out(error)
        elif is_cancellation(error):
            self.ledger.cancelled(use)
        else:
            self.ledger.failed(use)

    def returning(self, record: Any) -> PoolEntry:
        """Report that a record goes back to its pool; it is there when `returning` is unset."""
        try:
            entry: PoolEntry = record._pool_exporter
        except AttributeError:
            entry = self.entry(record)
        ledger = self.ledger
        if entry.ledger is not ledger:
            entry = self.entry(record)
        ledger.returned(entry)
        return entry

    def checked_out(self, record: Any, *, followed: bool) -> None:
        """Report a checkout event, which is news only where `connect()` was not followed.

        That is so in reduced mode, and for acquires that had begun before the pool was attached.
        """
        if self.mode != "reduced" and (followed or not _reports_returns(record)):
            return
        entry = self.entry(record)
        use = Use.of(entry, record.fairy_ref, self.ledger.clock())
        if self.mode == "reduced":
            try:
                self.attribute(use)
            except Exception as error:
                self.fault("attribute", error)
                use.clear_attribution()
        self.ledger.checked_out(use, adopted=self.mode != "reduced")

    def capacity_freed(self, pool: Any) -> None:
        """Report that a slot came free without anyone in the queue being woken."""
        free = pool._max_overflow - pool._overflow
        if free > 0:
            self.ledger.capacity_freed(id(pool), free)

    # --- connections ---------------------------------------------------------------------

    def connected(self, record: Any, connection: Any, began: float) -> None:
        """Report that the pool's creator returned a DBAPI connection."""
        entry = mark_of(record)
        if not isinstance(entry, PoolEntry) or entry.ledger is not self.ledger:
            _, entry = self._new_entry(record)
        entry.close_announced = False
        self.ledger.connected(entry, id(connection), began)

    def connect_failed(self, error: BaseException) -> None:
        """Report that the pool's creator raised."""
        if isinstance(error, Exception):
            self.ledger.connect_failed(driver_error(error))

    def closed_unannounced(self, connection: Any) -> None:
        """Report the close of a connection, which is news only if no event announced it.

        That is so where dialect initialisation or another `connect` listener failed.
        """
        entry = self.ledger.entry_of(id(connection))
        if entry is not None and not entry.close_announced:
            cause = sys.exc_info()[1]
            if cause is not None:
                self.connect_failed(cause)
            self.ledger.closed(entry, "init_failed")

    def close_reason(self, record: Any, entry: PoolEntry) -> str:
        """Say why SQLAlchemy closes a connection that nothing has invalidated."""
        self.ledger.settle()
        pool = record._ConnectionRecord__pool
        if entry.returning and not (self.mode == "reduced" and _has_room(pool)):
            return "unpooled" if isinstance(pool, NullPool) else "overflow"
        announced = self._closing.get(task_key())
        if announced is not None:
            return announced
        if entry.uses:
            return "invalidated"  # record.close() under its user
        return _recycle_reason(pool, record)

    def invalidation(self, entry: PoolEntry, error: BaseException | None) -> str:
        """Say why SQLAlchemy invalidates a connection, and count what that shows."""
        if error is not None and not isinstance(error, Exception):
            return "cancelled"
        if entry.close_reason == "pre_ping":
            return "pre_ping"
        if error is not None and passed_through(error, _RESET):
            self.ledger.reset_failed()
            return "reset_failed"
        if error is not None and (entry.error_key == id(error) or isinstance(error, DisconnectionError)):
            self.ledger.disconnected(driver_error(error))
            return "disconnect"
        self.ledger.settle()
        if entry.uses:  # not of SQLAlchemy's own doing, in the course of an acquire
            self.ledger.invalidated("hard")
        return "invalidated"

    def detached_use(self, entry: PoolEntry) -> Use | None:
        """Return the use whose fairy has just left the record."""
        self.ledger.settle()
        for use in tuple(entry.uses):
            fairy = use.fairy_ref()
            if fairy is None or fairy._connection_record is None:
                return use
        return None

    def fault(self, place: str, error: BaseException) -> None:
        """Count a failure of this library and keep it from the application."""
        self.ledger.faults.report(f"capture.{place}", error)


def _recycle_reason(pool: Any, record: Any) -> str:
    """Say, in SQLAlchemy's own order, why an acquire replaces the connection of its record."""
    if pool._recycle > -1 and time.time() - record.starttime > pool._recycle:
        return "recycle"
    if pool._invalidate_time > record.starttime:
        return "pool_invalidated"
    if record._soft_invalidate_time > record.starttime:
        return "soft_invalidated"
    return "dispose"


def _reports_returns(record: Any) -> bool:
    """Tell whether a record's pool has the seam: until then, nothing says that a use ends.

    What is out when the pool gets it is taken in then.
    """
    return hasattr(type(record._ConnectionRecord__pool), ATTRIBUTE)


def _has_room(pool: Any) -> bool:
    """Tell whether a connection given back would have stayed in the pool."""
    return isinstance(pool, QueuePool) and pool.checkedin() < pool.size()


def _record_collected(ledger: Ledger, entry: PoolEntry, _ref: object) -> None:
    try:
        ledger.lost(entry)
    except Exception as error:  # raised by a weak reference's callback it would be printed
        ledger.faults.report("capture.record_collected", error)
