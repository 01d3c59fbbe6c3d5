"""Attach a tap to engines and their pools, in whatever state they are, and take it off again."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import sqlalchemy
from sqlalchemy import Engine
from sqlalchemy.engine.base import OptionEngine
from sqlalchemy.pool import Pool, QueuePool, StaticPool
from sqlalchemy.pool.base import _ConnectionFairy, _ConnectionRecord

from pool_exporter.capture import privates
from pool_exporter.capture.callers.attribution import Attribution, attributor
from pool_exporter.capture.dialect import wrap_dialect
from pool_exporter.capture.listeners import listen_to_dialect, listen_to_pool
from pool_exporter.capture.marks import ATTRIBUTE, mark_of
from pool_exporter.capture.seam import is_seam, reporting_creator, reports_acquire, seam_class, share
from pool_exporter.capture.tap import Tap
from pool_exporter.ledger.ledger import Ledger
from pool_exporter.ledger.uses import PoolEntry


def root_engine(engine: object) -> Engine | None:
    """Return the engine that owns the pool: of an AsyncEngine, of an option engine; None if neither."""
    # Not imported here: SQLAlchemy 2.1 needs greenlet for it, which a synchronous application
    # does not install. Who has an AsyncEngine has imported it.
    asynchronous = sys.modules.get("sqlalchemy.ext.asyncio")
    if asynchronous is not None and isinstance(engine, asynchronous.AsyncEngine):
        engine = engine.sync_engine
    while isinstance(engine, OptionEngine):
        engine = engine._proxied
    return engine if isinstance(engine, Engine) else None


def active_tap(engine: Engine) -> Tap | None:
    """Return the tap that reports this engine's pool already."""
    tap = mark_of(engine.pool)
    return tap if isinstance(tap, Tap) and tap.active else None


def seam_objections(pool: Pool) -> str | None:
    """Say why only events can be used on a pool; None if nothing speaks against the seam."""
    version = tuple(int(part) for part in sqlalchemy.__version__.split(".")[:2])
    if version not in privates.TESTED_MINORS:
        return f"SQLAlchemy {sqlalchemy.__version__} is not a version that this library is tested on"
    absent = privates.missing()
    if absent:
        return f"SQLAlchemy {sqlalchemy.__version__} has no {', '.join(absent)}"
    for name in ("connect", "_return_conn"):
        if name in pool.__dict__:
            return f"something has replaced {name}() on the pool itself"
    queue = getattr(pool, "_pool", None) if isinstance(pool, QueuePool) else None
    for target in (pool, queue):
        if target is not None and not _accepts(target):
            return f"the class of {type(target).__qualname__} cannot be replaced"
    return None


def _accepts(target: Any) -> bool:
    """Tell whether an object takes the seam's class, by giving it to a twin."""
    try:
        twin = object.__new__(type(target))
        twin.__class__ = seam_class(type(target))
    except TypeError:
        return False
    return True


class Attachment:
    """One tap and what it put on engines, dialects and pools; `detach` takes it off."""

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        *,
        mode: str,
        statements: bool,
        attribution: Attribution | None,
    ) -> None:
        self.tap = Tap(ledger)
        self.tap.mode = mode
        if attribution is not None:
            self.tap.attribute = attributor(attribution)
        self._sql_text = attribution is not None and attribution.sql_text
        self.tap.attach_pool = self.attach_pool
        self.tap.reports_acquire = reports_acquire
        self._statements = statements
        self._unwrap: list[Callable[[], None]] = []
        self._pools: weakref.WeakSet[Pool] = weakref.WeakSet()
        self._attaching = threading.Lock()  # held while something is put on a pool or taken off
        self.add_engine(engine)

    def add_engine(self, engine: Engine) -> None:
        """Report an engine, one that shares the pool of another too; each engine once."""
        if any(known is engine for known in self.tap.engines()):
            return
        self.tap.add_engine(engine)
        listen_to_dialect(self.tap, engine)
        if self.tap.mode == "full":
            self._unwrap.append(
                wrap_dialect(self.tap, engine.dialect, statements=self._statements, sql_text=self._sql_text)
            )
        self.attach_pool(engine.pool)

    def attach_pool(self, pool: Pool) -> None:
        """Report a pool: a new engine's, one made by `recreate()`, or one assigned to an engine."""
        if mark_of(pool) is self.tap or not self._attaching.acquire(False):
            return  # what finds another thread at it is to happen before that one is through
        try:
            if mark_of(pool) is not self.tap and self.tap.active:
                self._attach_pool(pool)
        finally:
            self._attaching.release()

    def _attach_pool(self, pool: Pool) -> None:
        self._pools.add(pool)
        in_progress = _acquires_in_progress(pool)
        setattr(pool, ATTRIBUTE, self.tap)
        listen_to_pool(self.tap, pool, checkouts=in_progress or self.tap.mode == "reduced")
        if self.tap.mode == "full":
            self._install_seam(pool)
        if _has_connections(pool):
            self._adopt(pool)

    def _install_seam(self, pool: Any) -> None:
        if isinstance(pool, QueuePool):
            queue: Any = pool._pool
            setattr(queue, ATTRIBUTE, (self.tap, id(pool)))
            if not is_seam(type(queue)):
                queue.__class__ = seam_class(type(queue))
        pool._invoke_creator = reporting_creator(self.tap, pool._invoke_creator)
        if not is_seam(type(pool)):
            pool.__class__ = seam_class(type(pool))

    def _adopt(self, pool: Pool) -> None:
        """Take in what the pool has already, found by who refers to it: nothing lists them all."""
        referrers = gc.get_referrers(pool)
        for record in referrers:
            if isinstance(record, _ConnectionRecord) and record.dbapi_connection is not None:
                self.tap.entry(record)
        if isinstance(pool, StaticPool) and self.tap.mode == "full":
            for fairy in referrers:
                if isinstance(fairy, _ConnectionFairy) and fairy._connection_record is not None:
                    share(self.tap, fairy)

    def detach(self) -> frozenset[int]:
        """Switch the tap off and take the seam off; return the `id()`s of the pools that it was on.

        Listeners stay behind and report nothing: to remove one under load raises into the
        application (SQLAlchemy iterates a deque), and they sit on rare events only.
        """
        with self._attaching:
            if self.tap.active:  # else the pool may have another tap by now
                self.tap.active = False
                self._take_off()
            return frozenset(map(id, self._pools))

    @staticmethod
    def forget(entries: list[PoolEntry]) -> None:
        """Take entries off their connection records, so that a later tap makes others."""
        for entry in entries:
            record = entry.record_ref() if entry.record_ref is not None else None
            if record is not None and mark_of(record) is entry:
                delattr(record, ATTRIBUTE)

    def after_fork(self) -> None:
        """Replace the lock, which a thread that did not survive the fork may have held."""
        self._attaching = threading.Lock()

    def _take_off(self) -> None:
        for unwrap in self._unwrap:
            unwrap()
        for pool in list(self._pools):
            if is_seam(type(pool)):
                pool.__class__ = type(pool).__base__  # type: ignore[assignment]  # the class it had before
            creator = getattr(pool._invoke_creator, ATTRIBUTE, None)
            if creator is not None:
                pool._invoke_creator = creator
            queue: Any = getattr(pool, "_pool", None)
            if queue is not None and is_seam(type(queue)):
                queue.__class__ = type(queue).__base__


def _acquires_in_progress(pool: Pool) -> bool:
    """Tell whether callers may be inside the pool's own `connect()` at this moment."""
    if isinstance(pool, QueuePool):
        return pool.checkedout() > 0
    return _has_connections(pool)


def _has_connections(pool: Any) -> bool:
    """Tell whether the pool may have connections; never False if it has."""
    if isinstance(pool, QueuePool):
        return pool.checkedin() > 0 or pool.checkedout() != 0
    dialect = pool._dialect  # known by what its initialisation on the first connection left behind
    return (
        getattr(dialect, "server_version_info", None) is not None
        or getattr(dialect, "default_schema_name", None) is not None
        or not hasattr(dialect, "server_version_info")
    )


def still_connected(entry: PoolEntry) -> bool:
    """Tell whether an entry's record still has the connection that the entry knows."""
    record = entry.record_ref() if entry.record_ref is not None else None
    return record is not None and id(record.dbapi_connection) == entry.connection_key
