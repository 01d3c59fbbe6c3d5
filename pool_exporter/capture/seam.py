"""Override what no event tells: the acquire and its outcome, the return, the queue, the connect.

A pool's class is replaced by a subclass of itself that is made here, once for each base class.
`recreate()` uses `self.__class__`, so the subclass survives `dispose()`. The overrides are
synchronous and only report; they change neither arguments, results nor exceptions.

What reports may fail, and each override keeps that from its caller in a `try` of its own, which
costs nothing until it does. A pool of such a class that somebody made himself has no tap: its
reports fail too, unheard.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from sqlalchemy.pool import Pool, QueuePool, SingletonThreadPool, StaticPool
from sqlalchemy.pool.base import _ConnectionFairy
from sqlalchemy.util import queue as sqlalchemy_queue
from sqlalchemy.util.queue import AsyncAdaptedQueue

from pool_exporter.capture.marks import ATTRIBUTE
from pool_exporter.capture.tap import Tap
from pool_exporter.ledger.uses import Use

_SEAMS: weakref.WeakValueDictionary[type, type] = weakref.WeakValueDictionary()
"""The subclass made for each base class, for as long as an object has it."""
_MAKING = threading.RLock()  # guards _SEAMS: a base class has one subclass


def seam_class(base: type) -> type:
    """Return the subclass of a pool or queue class that reports to the tap on its instances."""
    with _MAKING:
        return _SEAMS.get(base) or _make_seam(base)


def _make_seam(base: type) -> type:
    namespace = _pool_overrides(base) if issubclass(base, Pool) else _queue_overrides(base)
    # The name and module stay: SQLAlchemy makes the names of its loggers of them.
    made = type(base.__name__, (base,), {"__module__": base.__module__, "__doc__": base.__doc__, **namespace})
    made.__qualname__ = base.__qualname__
    _SEAMS[base] = made
    return made


def is_seam(cls: type) -> bool:
    """Tell whether a class was made by `seam_class`."""
    return _SEAMS.get(cls.__base__ or object) is cls


def reports_acquire(tap: Tap) -> bool:
    """Tell whether the checkout event in progress belongs to an acquire that `connect` reports to a tap.

    It may report to one that was taken off meanwhile.
    """
    frame = sys._getframe(1)
    for _ in range(_FRAMES_TO_CONNECT):
        if frame.f_code in _CONNECT_CODES:
            return frame.f_locals.get("tap") is tap
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False


def _pool_overrides(base: Any) -> dict[str, Any]:
    overrides: dict[str, Any] = {
        ATTRIBUTE: None,  # until an instance is attached
        "connect": _connect(base),
        "recreate": _recreate(base),
        "dispose": _dispose(base),
        "_close_connection": _close_connection(base),
    }
    if issubclass(base, StaticPool):
        overrides["connect"] = _connect_shared(base)
    else:
        overrides["_return_conn"] = _return_conn(base)
    if issubclass(base, SingletonThreadPool):
        overrides["connect"] = _connect_per_thread(base, overrides["connect"])
        overrides["_cleanup"] = _cleanup(base)
    if issubclass(base, QueuePool):
        overrides["_dec_overflow"] = _dec_overflow(base)
    return overrides


def _plain_connect(base: Any) -> Callable[[Any], Any]:
    """Return what a pool's own `connect()` calls, where it does nothing else: a call less on the hot path."""
    connect: Callable[[Any], Any] = base.connect
    return _ConnectionFairy._checkout if connect is Pool.connect else connect


def _connect(base: Any) -> Callable[[Any], Any]:
    base_connect = _plain_connect(base)

    def connect(self: Any) -> Any:
        tap: Tap = self._pool_exporter
        try:
            use = tap.ledger.begin(id(self))
        except Exception as error:
            use = _not_begun(tap, error)
        try:
            fairy = base_connect(self)
        except BaseException as error:
            try:
                if tap.active:
                    tap.acquire_failed(use, error)
            except Exception as failure:
                _gave_up(tap, use, failure)
            raise
        try:
            if tap.active:  # else it was taken off meanwhile, and another may follow the record by now
                tap.acquired(use, fairy)
        except Exception as error:
            _gave_up(tap, use, error)
        return fairy

    return connect


def _not_begun(tap: Tap | None, error: Exception) -> Any:
    """Return what stands for the use of an acquire that could not be reported: none that can be counted."""
    _fault(tap, "begin", error)
    return None


def _gave_up(tap: Tap | None, use: Use, error: Exception) -> None:
    """Keep a failure to report the end of an acquire from the caller, and end it all the same."""
    if tap is None:
        return
    tap.fault("acquire", error)
    try:
        tap.ledger.failed(use)
    except Exception as failure:
        tap.fault("failed", failure)


def _fault(tap: Tap | None, place: str, error: Exception) -> None:
    if tap is not None:
        tap.fault(place, error)


def _connect_shared(base: Any) -> Callable[[Any], Any]:
    """Make the `connect` of a pool of one connection for all: each fairy reports its own return.

    A checkin event comes once for all of them, so it does not say whose use ended.
    """
    base_connect = base.connect

    def connect(self: Any) -> Any:
        tap: Tap = self._pool_exporter
        try:
            use = tap.ledger.begin(id(self))
        except Exception as error:
            use = _not_begun(tap, error)
        try:
            fairy = base_connect(self)
        except BaseException as error:
            try:
                if tap.active:
                    tap.acquire_failed(use, error)
            except Exception as failure:
                _gave_up(tap, use, failure)
            raise
        try:
            if tap.active:
                tap.acquired(use, fairy, shared=True)
                _follow(tap, fairy, use)
        except Exception as error:
            _gave_up(tap, use, error)
        return fairy

    return connect


def _follow(tap: Tap, fairy: Any, use: Use) -> None:
    if type(fairy) is _ConnectionFairy:
        setattr(fairy, ATTRIBUTE, (tap, use))
        fairy.__class__ = _SharedFairy


def share(tap: Tap, fairy: Any) -> None:
    """Adopt a fairy of a shared connection that was already out."""
    entry = tap.entry(fairy._connection_record)
    tap.ledger.settle()
    if not any(use.fairy_ref() is fairy for use in entry.uses):
        tap.ledger.checked_out(Use.of(entry, weakref.ref(fairy), tap.ledger.clock()), adopted=True)
    entry.shared = True
    for use in entry.uses:
        if use.fairy_ref() is fairy:
            _follow(tap, fairy, use)


class _SharedFairy(_ConnectionFairy):
    """A fairy of a pool that shares its connection; it reports the end of its own use."""

    __slots__ = ()

    def _checkin(self, transaction_was_reset: bool = False) -> None:
        tap, use = self.__dict__[ATTRIBUTE]
        record = self._connection_record
        if record is not None and tap.active:
            try:
                tap.ledger.use_ended(tap.entry(record), use)
            except Exception as error:
                tap.fault("_checkin", error)
        super()._checkin(transaction_was_reset)


def _connect_per_thread(base: Any, connect_new: Callable[[Any], Any]) -> Callable[[Any], Any]:
    base_connect = base.connect

    def connect(self: Any) -> Any:
        held = getattr(self._fairy, "current", None)
        if held is not None and held() is not None:
            return base_connect(self)  # the thread's own fairy again: no acquire, no new use
        return connect_new(self)

    return connect


def _return_conn(base: Any) -> Callable[[Any, Any], None]:
    # As for `connect()`.
    base_return = base._do_return_conn if base._return_conn is Pool._return_conn else base._return_conn

    def _return_conn(self: Any, record: Any) -> None:
        tap: Tap = self._pool_exporter
        try:
            entry = tap.returning(record)
        except Exception as error:
            _fault(tap, "returning", error)
            entry = None
        try:
            base_return(self, record)
        finally:
            if entry is not None:
                entry.returning = False

    return _return_conn


def _recreate(base: Any) -> Callable[[Any], Any]:
    base_recreate = base.recreate

    def recreate(self: Any) -> Any:
        pool = base_recreate(self)
        tap: Tap = self._pool_exporter
        try:
            tap.recreated(pool)
        except Exception as error:
            _fault(tap, "recreated", error)
            if ATTRIBUTE not in pool.__dict__:
                pool.__class__ = base  # nobody listens to it; a snapshot will try again
        return pool

    return recreate


def _announce(tap: Tap, reason: str) -> int | None:
    """Say why the connections that this task closes from now on are closed."""
    try:
        return tap.closing(reason)
    except Exception as error:
        _fault(tap, "closing", error)
        return None


def _withdraw(tap: Tap, key: int | None) -> None:
    if key is not None:
        try:
            tap.closing_done(key)
        except Exception as error:
            tap.fault("closing_done", error)


def _dispose(base: Any) -> Callable[[Any], None]:
    base_dispose = base.dispose

    def dispose(self: Any) -> None:
        tap: Tap = self._pool_exporter
        key = _announce(tap, "dispose")
        try:
            base_dispose(self)
        finally:
            _withdraw(tap, key)

    return dispose


def _cleanup(base: Any) -> Callable[[Any], None]:
    base_cleanup = base._cleanup

    def _cleanup(self: Any) -> None:
        tap: Tap = self._pool_exporter
        key = _announce(tap, "overflow")
        try:
            base_cleanup(self)
        finally:
            _withdraw(tap, key)

    return _cleanup


def _close_connection(base: Any) -> Callable[..., None]:
    base_close = base._close_connection

    def _close_connection(self: Any, connection: Any, **options: Any) -> None:
        tap: Tap = self._pool_exporter
        try:
            tap.closed_unannounced(connection)
        except Exception as error:
            _fault(tap, "closed_unannounced", error)
        base_close(self, connection, **options)

    return _close_connection


def _dec_overflow(base: Any) -> Callable[[Any], Any]:
    base_dec_overflow = base._dec_overflow

    def _dec_overflow(self: Any) -> Any:
        result = base_dec_overflow(self)
        tap: Tap = self._pool_exporter
        try:
            tap.capacity_freed(self)
        except Exception as error:
            _fault(tap, "capacity_freed", error)
        return result

    return _dec_overflow


def _queue_overrides(base: Any) -> dict[str, Any]:
    base_get = base.get
    # Of the other queues it is `get()` that does all the work.
    get_now = base.get_nowait if issubclass(base, AsyncAdaptedQueue) else lambda self: base_get(self, False)

    def get(self: Any, block: bool = True, timeout: float | None = None) -> Any:
        try:
            return get_now(self)
        except sqlalchemy_queue.Empty:
            if not block:
                raise
        tap, pool_key = self._pool_exporter
        try:
            token = tap.ledger.queue_entered(pool_key)
        except Exception as error:
            token = None
            tap.fault("queue_entered", error)
        try:
            return base_get(self, True, timeout)
        finally:
            if token is not None and tap.active:
                try:
                    tap.ledger.queue_left(token)
                except Exception as error:
                    tap.fault("queue_left", error)

    return {"get": get}


_FRAMES_TO_CONNECT = 24
"""More than the frames between `Pool.connect()` and a listener of the checkout event."""
_CONNECT_CODES = frozenset(
    made(Pool).__code__  # a plain function, whose code all closures share
    for made in (_connect, _connect_shared)
)


def reporting_creator(tap: Tap, creator: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a pool's creator that reports each attempt to connect."""

    def create(record: Any) -> Any:
        began = tap.ledger.clock()
        try:
            connection = creator(record)
        except BaseException as error:
            try:
                tap.connect_failed(error)
            except Exception as failure:
                tap.fault("connect_failed", failure)
            raise
        try:
            tap.connected(record, connection, began)
        except Exception as error:
            tap.fault("connected", error)
        return connection

    setattr(create, ATTRIBUTE, creator)
    return create
