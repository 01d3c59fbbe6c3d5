"""Keep one pool's truth: its connections, uses and counters, and a snapshot of them at any moment.

The ledger knows nothing of SQLAlchemy; `capture` tells it what happens. Its operations wait at
most a moment for the lock, and then leave their work to whoever holds it. That is what makes
them safe where the garbage collector runs a listener in the middle of one of them.
"""

from __future__ import annotations

import itertools
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import Any

from pool_exporter.counts import Counts
from pool_exporter.deferring import Deferring
from pool_exporter.records import PoolSnapshot, PoolState
from pool_exporter.snapshotting import Moment, NoProbe, Probe, Wait, make_snapshot
from pool_exporter.uses import Entry, Use

Clock = Callable[[], float]

SURE_SECONDS = 1.0
"""How long a use must seem to have ended before that is believed, where another thread may be at work."""


class Ledger(Deferring):
    """Count everything about one pool, across its generations.

    `bounds` gives each histogram's upper bounds in seconds. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        bounds: Mapping[str, tuple[float, ...]],
        probe: Probe | None = None,
        *,
        clock: Clock = time.monotonic,
        wall_clock: Clock = time.time,
    ) -> None:
        super().__init__()
        self.clock = clock
        self._bounds = dict(bounds)
        self._probe = probe or NoProbe()
        self._wall_clock = wall_clock
        self._next_token = itertools.count().__next__
        self._entries: set[Entry] = set()
        self._begin_counting()

    def _begin_counting(self) -> None:
        # All of it under the lock, except _pending, whose single steps are atomic.
        self._pending: dict[int, tuple[float, int]] = {}  # token -> (start, pool key)
        self._waits: dict[int, Wait] = {}  # by token, the longest first
        self._by_connection: dict[int, Entry] = {}
        self.start_time = self._wall_clock()
        self.counts = Counts(self._bounds)
        self._looked_at = float("-inf")  # until when uses and waits in progress were counted last
        self._last_occupancy = 0.0
        self._last_queue_seconds = 0.0
        self._last_unaccounted = 0
        self._last_snapshot: PoolSnapshot | None = None

    # --- acquires ------------------------------------------------------------------------

    def begin(self, pool_key: int) -> int:
        """Open an acquire; return its token for `acquired`, `timed_out`, `cancelled` or `failed`."""
        token = self._next_token()
        self._pending[token] = (self.clock(), pool_key)
        return token

    def acquired(self, token: int, entry: Entry, fairy_ref: Any, shared: bool = False) -> Use:
        """End an acquire with a connection: a use begins. `shared` lets the record have several.

        `returned` and this are the hot path: they spell out what `_do` and `Histogram.observe` do.
        """
        use = Use(fairy_ref, self.clock())
        lock = self._lock
        if lock.acquire(False) or self._wait():
            try:
                if self._deferred:
                    self._drain()
                self._acquired(token, entry, use, shared)
            finally:
                lock.release()
            if self._deferred:
                self._settle()
        else:
            self._defer(self._acquired, token, entry, use, shared)
        return use

    def _acquired(self, token: int, entry: Entry, use: Use, shared: bool) -> None:
        now = use.started_at
        counts = self.counts
        begun = self._pending.pop(token, None)
        if begun is None:  # the process forked meanwhile: its acquires are not ours
            counts.adopted += 1
        else:
            wait = counts.wait_seconds
            seconds = now - begun[0]
            wait.counts[bisect_left(wait.bounds, seconds)] += 1
            wait.sum += seconds
        uses = entry.uses
        if uses and not shared:
            self._end_silent(entry, now)
        counts.checkouts += 1
        entry.idle_seconds = now - entry.idle_since
        entry.close_reason = None
        uses.append(use)

    def timed_out(self, token: int) -> None:
        """End an acquire by SQLAlchemy's pool TimeoutError."""
        self._do(self._acquire_ended, token, "timeouts")

    def cancelled(self, token: int) -> None:
        """End an acquire by cancellation."""
        self._do(self._acquire_ended, token, "cancelled_acquires")

    def failed(self, token: int) -> None:
        """End an acquire by any other exception."""
        self._do(self._acquire_ended, token, "failed_acquires")

    def _acquire_ended(self, token: int, counter: str) -> None:
        if self._pending.pop(token, None) is not None:
            setattr(self.counts, counter, getattr(self.counts, counter) + 1)

    # --- the queue -----------------------------------------------------------------------

    def queue_entered(self, pool_key: int) -> int:
        """Note that an acquire found the pool full; return a token for `queue_left`."""
        token = self._next_token()
        self._do(self._queue_entered, token, self.clock(), pool_key)
        return token

    def _queue_entered(self, token: int, now: float, pool_key: int) -> None:
        self.counts.waits += 1
        self._waits[token] = Wait(now, pool_key)

    def queue_left(self, token: int) -> None:
        """Note that the acquire left the queue, however that ended."""
        self._do(self._queue_left, token, self.clock())

    def _queue_left(self, token: int, now: float) -> None:
        wait = self._waits.pop(token, None)
        if wait is not None:
            self.counts.queued_seconds += max(now, self._looked_at) - wait.began

    def capacity_freed(self, pool_key: int, free: int) -> None:
        """Count the waiters that sleep on while `free` slots are to be had; each once."""
        if self._waits:
            self._do(self._capacity_freed, pool_key, free)

    def _capacity_freed(self, pool_key: int, free: int) -> None:
        here = [wait for wait in self._waits.values() if wait.pool_key == pool_key]
        for wait in here[:free]:
            if not wait.stranded:
                wait.stranded = True
                self.counts.stranded_waits += 1

    # --- connections ---------------------------------------------------------------------

    def connected(self, entry: Entry, connection_key: int, began: float) -> None:
        """Note an established DBAPI connection, whose attempt began at `began`."""
        self._do(self._connected, entry, connection_key, began, self.clock())

    def _connected(self, entry: Entry, connection_key: int, began: float | None, now: float) -> None:
        if entry.connection_key is not None:
            # Only detach() takes a connection from its record without a close; in another
            # thread its event may come later than the record's next connection.
            self._detached(entry, entry.uses[0] if entry.uses else None, now)
            entry.left_early += 1
        self._entries.add(entry)
        self._by_connection[connection_key] = entry
        entry.connection_key = connection_key
        entry.connecting_since = began
        entry.connected_at = entry.idle_since = now
        entry.idle_seconds = 0.0
        entry.close_reason = entry.error_key = None
        self.counts.connects += 1

    def initialised(self, entry: Entry) -> None:
        """Note that dialect initialisation is through, which completes the time to connect."""
        self._do(self._initialised, entry, self.clock())

    def _initialised(self, entry: Entry, now: float) -> None:
        if entry.connection_key is not None and entry.connecting_since is not None:
            entry.connected_at = entry.idle_since = now
            self.counts.connect_seconds.observe(now - entry.connecting_since)

    def connect_failed(self, error: str) -> None:
        """Count a failed attempt to connect, by the name of its exception."""
        self._do(self.counts.connect_errors.add, error)

    def adopt(self, entry: Entry, connection_key: int, fairy_ref: Any = None) -> None:
        """Take in a connection that was open before; with `fairy_ref`, one that is out."""
        self._do(self._adopt, entry, connection_key, fairy_ref, self.clock())

    def _adopt(self, entry: Entry, connection_key: int, fairy_ref: Any, now: float) -> None:
        if entry.connection_key is None:
            self._connected(entry, connection_key, None, now)
        if fairy_ref is not None:
            self.counts.checkouts += 1
            self.counts.adopted += 1
            entry.uses.append(Use(fairy_ref, now))

    def checked_out(self, entry: Entry, fairy_ref: Any, *, adopted: bool) -> None:
        """Begin a use by the checkout event, where the acquire could not be followed.

        The same fairy may be reported again, after a retry in the course of one acquire.
        """
        self._do(self._checked_out, entry, fairy_ref, adopted, self.clock())

    def _checked_out(self, entry: Entry, fairy_ref: Any, adopted: bool, now: float) -> None:
        if any(use.fairy_ref is fairy_ref for use in entry.uses):
            return
        self.counts.checkouts += 1
        self.counts.adopted += adopted
        entry.returning = False
        entry.idle_seconds = now - entry.idle_since
        entry.uses.append(Use(fairy_ref, now))

    def entry_of(self, connection_key: int) -> Entry | None:
        """Return the entry that has this open DBAPI connection, by its `id()`."""
        return self._by_connection.get(connection_key)

    def closed(self, entry: Entry, reason: str) -> None:
        """Note a close; a reason that an earlier event left on the entry goes first."""
        self._do(self._closed, entry, reason, self.clock())

    def _closed(self, entry: Entry, reason: str, now: float) -> None:
        if entry.connection_key is None:
            return
        for use in entry.uses:
            self._check_in(use, now)
        entry.uses.clear()
        reason = entry.close_reason or reason
        if reason in ("pre_ping", "disconnect"):
            idle = entry.idle_seconds if reason == "disconnect" else now - entry.idle_since
            self.counts.stale_idle_seconds.observe(idle)
            self.counts.stale_age_seconds.observe(now - entry.connected_at)
        self.counts.closes[reason] += 1
        self._gone(entry)

    def _gone(self, entry: Entry) -> None:
        if entry.connection_key is not None:
            self._by_connection.pop(entry.connection_key, None)
        entry.connection_key = entry.close_reason = entry.error_key = None
        entry.pinging = False

    def lost(self, entry: Entry) -> None:
        """Note that the collector took the record, and with it whatever it had."""
        self._do(self._lost, entry, self.clock())

    def _lost(self, entry: Entry, now: float) -> None:
        # A fairy's finalizer keeps the record alive until it has run, and it ends the use. What
        # is left was being given back when a listener of the application raised.
        for use in entry.uses:
            self._check_in(use, now)
        entry.uses.clear()
        if entry.connection_key is not None:
            self.counts.closes["lost"] += 1
            self._gone(entry)
        self.counts.statements += entry.statements
        entry.statements = 0
        self._entries.discard(entry)

    # --- ends of uses --------------------------------------------------------------------

    def returned(self, entry: Entry) -> None:
        """Note that the record goes back to its pool, which ends its use if it has one."""
        now = self.clock()
        entry.returning = True  # not below: that may be left to another, and come when it is there already
        lock = self._lock
        if lock.acquire(False) or self._wait():
            try:
                if self._deferred:
                    self._drain()
                self._returned(entry, now)
            finally:
                lock.release()
            if self._deferred:
                self._settle()
        else:
            self._defer(self._returned, entry, now)

    def _returned(self, entry: Entry, now: float) -> None:
        uses = entry.uses
        if not uses:
            return
        use = uses.pop(0)
        entry.idle_since = now
        if use.collected:
            self._collect(use, now)
            return
        counts = self.counts
        counts.checkins += 1
        if now < self._looked_at:  # noqa: PLR1730  # as in _spent; max() would cost a call
            now = self._looked_at
        length = now - use.started_at
        counts.used_seconds += length
        held = counts.use_seconds
        held.counts[bisect_left(held.bounds, length)] += 1
        held.sum += length

    def use_ended(self, entry: Entry, use: Use) -> None:
        """Note that one of several uses of a shared connection ended."""
        self._do(self._use_ended, entry, use, self.clock())

    def _use_ended(self, entry: Entry, use: Use, now: float) -> None:
        if use in entry.uses:
            entry.uses.remove(use)
            self._check_in(use, now)
            entry.idle_since = now

    def detached(self, entry: Entry, use: Use | None) -> None:
        """Note that the connection left its record, by detach() or taken by the collector."""
        self._do(self._detach_event, entry, use, self.clock())

    def _detach_event(self, entry: Entry, use: Use | None, now: float) -> None:
        if entry.left_early and use not in entry.uses:
            entry.left_early -= 1
        else:
            self._detached(entry, use, now)

    def _detached(self, entry: Entry, use: Use | None, now: float) -> None:
        if entry.connection_key is None:
            return
        if use is None or use not in entry.uses:
            self.counts.closes["lost"] += 1  # its use was found ended before the event came
        elif use.collected:
            entry.uses.remove(use)
            self._collect(use, now)
            self.counts.closes["lost"] += 1
        else:
            entry.uses.remove(use)
            self.counts.detaches += 1
            self.counts.use_seconds.observe(self._spent(use, now))
        self._gone(entry)

    def _check_in(self, use: Use, now: float) -> None:
        self.counts.checkins += 1
        self.counts.use_seconds.observe(self._spent(use, now))

    def _collect(self, use: Use, now: float) -> None:
        self.counts.leaks_collected += 1
        self._spent(use, now)

    def _spent(self, use: Use, now: float) -> float:
        # A snapshot that came between its end and the report of it has counted it until then.
        length = max(now, self._looked_at) - use.started_at
        self.counts.used_seconds += length
        return length

    def _end_silent(self, entry: Entry, now: float) -> None:
        for use in entry.uses:
            if use.collected:
                self._collect(use, now)
            else:
                self._check_in(use, now)
        entry.uses.clear()

    # --- incidents -----------------------------------------------------------------------

    def invalidated(self, kind: str) -> None:
        """Count an explicit invalidate() call."""
        self._do(self._count_in, self.counts.invalidations, kind)

    def reset_failed(self) -> None:
        """Count a reset on return that failed."""
        self._do(self._count, "reset_failures")

    def disconnected(self, error: str) -> None:
        """Count a connection found dead in use, by the name of the driver's exception."""
        self._do(self.counts.disconnects.add, error)

    def ping_ended(self, seconds: float, *, alive: bool) -> None:
        """Count a pre-ping that came to an end."""
        self._do(self._ping_ended, seconds, alive)

    def _ping_ended(self, seconds: float, alive: bool) -> None:
        self.counts.pre_ping_seconds.observe(seconds)
        if not alive:
            self.counts.pre_ping_failures += 1

    def statement(self) -> None:
        """Count a statement on a connection that has several users; else its entry counts."""
        self._do(self._count, "statements")

    def _count(self, counter: str) -> None:
        setattr(self.counts, counter, getattr(self.counts, counter) + 1)

    def _count_in(self, counters: dict[str, int], key: str) -> None:
        counters[key] += 1

    # --- what is seen of it --------------------------------------------------------------

    def held_entries(self) -> list[Entry]:
        """Return the entries known now, in no order."""
        if not self._take():
            return list(self._entries)
        try:
            return list(self._entries)
        finally:
            self._lock.release()

    def at_rest(self) -> bool:
        """Tell whether nothing is open, in use or being acquired."""
        if not self._take():
            return False
        try:
            self._drain()
            return not self._pending and not any(e.open or e.uses for e in self._entries)
        finally:
            self._lock.release()

    def reset_after_fork(self, alive: Callable[[Entry], bool]) -> None:
        """Start again in a forked child from the connections it inherited.

        `alive` tells whether an entry's record still has its connection. Called while no other
        thread exists; the lock may have been held by one that did not survive the fork.
        """
        entries, self._entries = self._entries, set()
        self._unlock_after_fork()
        self._begin_counting()
        now = self.clock()
        for entry in entries:
            key, uses, inherited = entry.connection_key, entry.uses, alive(entry)
            entry.connection_key, entry.uses = None, []
            entry.statements = entry.running = 0
            if key is None or not inherited:
                continue
            self._adopt(entry, key, None, now)
            for use in uses:
                self._adopt(entry, key, use.fairy_ref, now)

    def snapshot(self, state: PoolState) -> PoolSnapshot:
        """Return the pool's truth now; `state` is what only the live pool knows.

        In the middle of one of this thread's own operations it is the truth of the snapshot before.
        """
        if not self._take():
            return self._last_snapshot or self._snapshot(state, self.clock())
        try:
            self._drain()
            now = self.clock()
            self._sweep(now)
            self._looked_at = now
            self._last_snapshot = self._snapshot(state, now)
            return self._last_snapshot
        finally:
            self._lock.release()

    def _sweep(self, now: float) -> None:
        for entry in tuple(self._entries):
            for use in tuple(entry.uses):
                if use.collected and len(entry.uses) > 1:  # a shared connection: no event comes
                    entry.uses.remove(use)
                    self._collect(use, now)
                elif not self._probe.ended_silently(entry, use):
                    use.seems_ended_since = None
                elif self._surely_ended(use, now):
                    entry.uses.remove(use)
                    if use.collected:  # the collector is giving it back just now, maybe in another thread
                        self._collect(use, now)
                    else:
                        self._check_in(use, now)
                    entry.idle_since = now

    def _surely_ended(self, use: Use, now: float) -> bool:
        """Tell whether what seems to have ended has: in another thread a detach() looks so for a moment."""
        if use.collected or use.thread == get_ident():
            return True
        if use.seems_ended_since is None:
            use.seems_ended_since = now
        return now - use.seems_ended_since >= SURE_SECONDS

    def _snapshot(self, state: PoolState, now: float) -> PoolSnapshot:
        moment = Moment(
            now=now,
            start_time=self.start_time,
            entries=tuple(self._entries),
            pending=tuple(self._pending.values()),
            waits=tuple(self._waits.values()),
            faults=self.faults.count,
        )
        # Sums of floats may come out smaller by their last digit; a counter must not.
        self._last_occupancy = max(
            self._last_occupancy, self.counts.used_seconds + moment.current_use_seconds
        )
        self._last_queue_seconds = max(
            self._last_queue_seconds, self.counts.queued_seconds + moment.current_wait_seconds
        )
        found = moment.unaccounted_slots(state)
        before, self._last_unaccounted = self._last_unaccounted, found or 0
        if found is not None and not state.steady:
            # Other threads move slots between two reads: believe what two snapshots agree on.
            found = 0 if found * before <= 0 else min(found, before, key=abs)
        return make_snapshot(
            state,
            moment,
            self.counts,
            self._probe,
            occupancy_seconds=self._last_occupancy,
            queue_seconds=self._last_queue_seconds,
            unaccounted_slots=found,
        )


Ledger._holders = frozenset(
    function.__code__
    for function in (
        *(Ledger._do, Ledger._settle, Ledger.acquired, Ledger.returned),
        *(Ledger.held_entries, Ledger.at_rest, Ledger.snapshot),
    )
)
