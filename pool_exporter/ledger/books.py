"""Count what happens to one pool: acquires, waits, connections, the ends of uses, incidents.

This knows nothing of SQLAlchemy; `capture` tells it what happens. Its operations wait at most a
moment for the lock, and then leave their work to whoever holds it. That is what makes them safe
where the garbage collector runs a listener in the middle of one of them.
"""

from __future__ import annotations

import itertools
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import Any

from pool_exporter.ledger.counts import Counts
from pool_exporter.ledger.leak_policy import NEVER, LeakPolicy
from pool_exporter.ledger.leaks import LeakDetector
from pool_exporter.ledger.operations import Deferring, Operation
from pool_exporter.ledger.probe import Probe
from pool_exporter.ledger.snapshot import Wait
from pool_exporter.ledger.uses import PoolEntry, Use
from pool_exporter.records import PoolSnapshot

Clock = Callable[[], float]

MAX_NOTES = 64
"""What the hot path leaves to be counted at most; it costs a microsecond each, once in so many."""


class Counting(Deferring):
    """Count everything that happens to one pool, across its generations.

    `bounds` gives each histogram's upper bounds in seconds. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        bounds: Mapping[str, tuple[float, ...]],
        probe: Probe | None = None,
        *,
        policy: LeakPolicy = NEVER,
        clock: Clock = time.monotonic,
        wall_clock: Clock = time.time,
    ) -> None:
        super().__init__()
        self.clock = clock
        self._bounds = dict(bounds)
        self._probe = probe or Probe()
        self._wall_clock = wall_clock
        self._next_token = itertools.count().__next__
        self._entries: set[PoolEntry] = set()
        self.leaks = LeakDetector(policy)
        self._most_samples = 0  # single ones of each histogram that somebody wants to have
        self._begin_counting()

    def _begin_counting(self) -> None:
        # All of it under the lock, except _pending, whose single steps are atomic.
        self._pending: set[Use] = set()  # acquires in progress
        self._waits: dict[int, Wait] = {}  # by token, the longest first
        self._by_connection: dict[int, PoolEntry] = {}
        self.start_time = self._wall_clock()
        self.counts = Counts(self._bounds)
        if self._most_samples:
            self.counts.keep_samples(self._most_samples)
        self._looked_at = float("-inf")  # until when uses and waits in progress were counted last
        self._last_occupancy = 0.0
        self._last_by_owner: dict[str, float] = {}
        self._last_queue_seconds = 0.0
        self._last_unaccounted = 0
        self._last_snapshot: PoolSnapshot | None = None

    # --- acquires ------------------------------------------------------------------------

    def begin(self, pool_key: int) -> Use:
        """Open an acquire; return what is its use if it gets a connection. On the hot path."""
        use = Use(pool_key, self.clock())
        self._pending.add(use)
        return use

    def acquired(self, use: Use, entry: PoolEntry, fairy_ref: Any, shared: bool = False) -> None:
        """End an acquire with a connection: its use begins. `shared` lets the record have several.

        This and `returned` are the hot path: they note the use, and leave it to the next other
        operation, look or full note book to count it. What may be asked before that is set here.
        """
        use.entry = entry
        use.fairy_ref = fairy_ref
        use.started_at = use.active_at = self.clock()
        use.thread = get_ident()
        entry.use = use
        entry.shared = shared
        entry.close_reason = entry.stream_ref = None
        self._note(use)

    def _count_uses(self, use: Use) -> None:  # noqa: PLR0912 - the hot path calls nothing
        """Count a noted use, then those that were noted next: most have begun and ended by now."""
        counts, pending, notes = self.counts, self._pending, self._notes
        by_owner, waited, held = counts.accounts.by_owner, counts.wait_seconds, counts.use_seconds
        while True:
            if use.account is not None:
                self._returned(use)
            else:
                entry, started = use.entry, use.started_at
                if use in pending:
                    pending.remove(use)
                    seconds = started - use.began
                    waited.counts[bisect_left(waited.bounds, seconds)] += 1
                    waited.sum += seconds
                    if use.span is not None or waited.samples is not None:
                        waited.keep(seconds, use.span, started)
                elif entry.connection_key is None:  # its pool was abandoned meanwhile, and the acquire ended
                    entry.use = None
                    if not notes or type(notes[0]) is not Use:
                        return
                    use = notes.popleft()  # type: ignore[assignment]  # only who has the lock takes notes
                    continue
                else:  # the process forked meanwhile: its acquires are not ours
                    counts.adopted += 1
                if entry.uses and not entry.shared:
                    self._end_silent(entry, started)
                counts.checkouts += 1
                entry.idle_seconds = started - entry.idle_since
                # In this order: `returned` looks at them in the other, so that one of us sees both.
                account = use.account = by_owner.get(use.owner) or counts.accounts.of(use.owner)
                ended = use.ended_at
                if ended is None or use.was_collected:
                    use.start_tracking()
                    entry.uses.append(use)
                    if ended is not None:
                        self._returned(use)
                else:
                    counts.checkins += 1
                    seconds = ended - started
                    counts.used_seconds += seconds
                    account.used_seconds += seconds
                    held.counts[bisect_left(held.bounds, seconds)] += 1
                    held.sum += seconds
                    if use.span is not None or held.samples is not None:
                        held.keep(seconds, use.span, ended)
                    entry.idle_since = ended
            if not notes or type(notes[0]) is not Use:
                return
            use = notes.popleft()  # type: ignore[assignment]  # only who has the lock takes notes

    def _failed(self, note: Operation | Use) -> None:
        # An acquire is over although it could not be counted; it is one that was noted, and is no more.
        if isinstance(note, Use):
            noted = set(self._notes)
            for use in tuple(self._pending):
                if use.thread and use not in noted:
                    self._acquire_ended(use, "failed_acquires")

    def timed_out(self, use: Use) -> None:
        """End an acquire by SQLAlchemy's pool TimeoutError."""
        self._do(self._acquire_ended, use, "timeouts")

    def cancelled(self, use: Use) -> None:
        """End an acquire by cancellation."""
        self._do(self._acquire_ended, use, "cancelled_acquires")

    def failed(self, use: Use) -> None:
        """End an acquire by any other exception."""
        self._do(self._acquire_ended, use, "failed_acquires")

    def _acquire_ended(self, use: Use, counter: str) -> None:
        if use in self._pending:
            self._pending.remove(use)
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

    def connected(self, entry: PoolEntry, connection_key: int, began: float) -> None:
        """Note an established DBAPI connection, whose attempt began at `began`."""
        self._do(self._connected, entry, connection_key, began, self.clock())

    def _connected(self, entry: PoolEntry, connection_key: int, began: float | None, now: float) -> None:
        if entry.connection_key is not None:
            # Only detach() takes a connection from its record without a close; in another
            # thread its event may come later than the record's next connection.
            self._detached(entry, entry.uses[0] if entry.uses else None, now)
            entry.detached_before_event += 1
        self._entries.add(entry)
        self._by_connection[connection_key] = entry
        entry.connection_key = connection_key
        entry.connecting_since = began
        entry.connected_at = entry.idle_since = now
        entry.idle_seconds = 0.0
        entry.close_reason = entry.error_key = None
        self.counts.connects += 1

    def initialised(self, entry: PoolEntry) -> None:
        """Note that dialect initialisation is through, which completes the time to connect."""
        self._do(self._initialised, entry, self.clock())

    def _initialised(self, entry: PoolEntry, now: float) -> None:
        if entry.connection_key is not None and entry.connecting_since is not None:
            entry.connected_at = entry.idle_since = now
            self.counts.connect_seconds.observe(now - entry.connecting_since)

    def connect_failed(self, error: str) -> None:
        """Count a failed attempt to connect, by the name of its exception."""
        self._do(self.counts.connect_errors.add, error)

    def adopt(self, entry: PoolEntry, connection_key: int, fairy_ref: Any = None) -> None:
        """Take in a connection that was open before; with `fairy_ref`, one that is out."""
        self._do(self._adopt, entry, connection_key, fairy_ref, self.clock())

    def _adopt(self, entry: PoolEntry, connection_key: int, fairy_ref: Any, now: float) -> None:
        if entry.connection_key is None:
            self._connected(entry, connection_key, None, now)
        if fairy_ref is not None and entry.use is None:  # else it has ended, and the next has begun
            self.counts.adopted += 1
            use = entry.use = Use.of(entry, fairy_ref, now)
            use.thread = 0  # any
            self._begin_use(use)

    def checked_out(self, use: Use, *, adopted: bool) -> None:
        """Begin a use by the checkout event, where the acquire could not be followed.

        The same fairy may be reported again, after a retry in the course of one acquire.
        """
        entry = use.entry
        if entry.use is None or entry.use.fairy_ref is not use.fairy_ref:
            entry.use = use  # at once: its return may come before its begin is counted
            self._do(self._checked_out, use, adopted)

    def _checked_out(self, use: Use, adopted: bool) -> None:
        entry = use.entry
        self.counts.adopted += adopted
        entry.returning = False
        entry.idle_seconds = use.started_at - entry.idle_since
        self._begin_use(use)

    def _begin_use(self, use: Use) -> None:
        self.counts.checkouts += 1
        use.account = self.counts.accounts.of(use.owner)
        use.start_tracking()
        use.entry.uses.append(use)
        if use.ended_at is not None:
            self._returned(use)

    def entry_of(self, connection_key: int) -> PoolEntry | None:
        """Return the entry that has this open DBAPI connection, by its `id()`."""
        return self._by_connection.get(connection_key)

    def closed(self, entry: PoolEntry, reason: str) -> None:
        """Note a close; a reason that an earlier event left on the entry goes first."""
        self._do(self._closed, entry, reason, self.clock())

    def _closed(self, entry: PoolEntry, reason: str, now: float) -> None:
        if entry.connection_key is None:
            return
        reason = entry.close_reason or reason
        for use in entry.uses:  # that the server ends it is no recovery
            self._check_in(entry, use, now, normally=reason != "disconnect")
        entry.drop_all()
        if reason in ("pre_ping", "disconnect"):
            idle = entry.idle_seconds if reason == "disconnect" else now - entry.idle_since
            self.counts.stale_idle_seconds.observe(idle)
            self.counts.stale_age_seconds.observe(now - entry.connected_at)
        self.counts.closes[reason] += 1
        self._gone(entry)

    def _gone(self, entry: PoolEntry) -> None:
        if entry.connection_key is not None:
            self._by_connection.pop(entry.connection_key, None)
        entry.connection_key = entry.close_reason = entry.error_key = None
        entry.pinging = False

    def lost(self, entry: PoolEntry) -> None:
        """Note that the collector took the record, and with it whatever it had."""
        self._do(self._lost, entry, self.clock())

    def _lost(self, entry: PoolEntry, now: float) -> None:
        # A fairy's finalizer keeps the record alive until it has run, and it ends the use. What
        # is left was being given back when a listener of the application raised.
        for use in entry.uses:
            self._check_in(entry, use, now)
        entry.drop_all()
        if entry.connection_key is not None:
            self.counts.closes["lost"] += 1
            self._gone(entry)
        self.counts.statements += entry.statements
        entry.statements = 0
        self._entries.discard(entry)

    # --- ends of uses --------------------------------------------------------------------

    def returned(self, entry: PoolEntry) -> None:
        """Note that the record goes back to its pool, which ends its use if it has one. On the hot path."""
        entry.returning = True
        use = entry.use
        if use is None:
            return
        entry.use = None
        if use.fairy_ref() is None:
            use.was_collected = True
        use.ended_at = self.clock()
        if use.account is not None:  # else whoever counts its begin will see that it ended
            self._note(use)
        elif len(self._notes) > MAX_NOTES:
            self._settle()

    def _returned(self, use: Use) -> None:
        entry, now = use.entry, use.ended_at
        if now is None or use not in entry.uses:
            return  # it ended before, by a close
        entry.uses.remove(use)
        entry.idle_since = now
        if use.was_collected:
            self._collect(entry, use, now)
        else:
            self._check_in(entry, use, now)

    def use_ended(self, entry: PoolEntry, use: Use) -> None:
        """Note that one of several uses of a shared connection ended."""
        self._do(self._use_ended, entry, use, self.clock())

    def _use_ended(self, entry: PoolEntry, use: Use, now: float) -> None:
        if use in entry.uses:
            entry.drop(use)
            self._check_in(entry, use, now)
            entry.idle_since = now

    def detached(self, entry: PoolEntry, use: Use | None) -> None:
        """Note that the connection left its record, by detach() or taken by the collector."""
        self._do(self._detach_event, entry, use, self.clock())

    def _detach_event(self, entry: PoolEntry, use: Use | None, now: float) -> None:
        if entry.detached_before_event and use not in entry.uses:
            entry.detached_before_event -= 1
        else:
            self._detached(entry, use, now)

    def _detached(self, entry: PoolEntry, use: Use | None, now: float) -> None:
        if entry.connection_key is None:
            return
        if use is None or use not in entry.uses:
            self.counts.closes["lost"] += 1  # its use was found ended before the event came
        elif use.collected:
            entry.drop(use)
            self._collect(entry, use, now)
            self.counts.closes["lost"] += 1
        else:
            entry.drop(use)
            self.counts.detaches += 1
            self.leaks.recovered(self.counts, entry, use, now)
            self._observe_use(use, now)
        self._gone(entry)

    def _check_in(self, entry: PoolEntry, use: Use, now: float, *, normally: bool = True) -> None:
        self.counts.checkins += 1
        if normally:
            self.leaks.recovered(self.counts, entry, use, now)
        self._observe_use(use, now)

    def _observe_use(self, use: Use, now: float) -> None:
        self.counts.use_seconds.observe(self._spent(use, now), use.span, now)

    def _collect(self, entry: PoolEntry, use: Use, now: float) -> None:
        self.leaks.collected(self.counts, entry, use, now)
        self._spent(use, now)

    def _spent(self, use: Use, now: float) -> float:
        # A snapshot that came between its end and the report of it has counted it until then.
        length = max(now, self._looked_at) - use.started_at
        self.counts.used_seconds += length
        if use.account is not None:
            use.account.used_seconds += length
        return length

    def _end_silent(self, entry: PoolEntry, now: float) -> None:
        for use in entry.uses:
            if use.known_collected:
                self._collect(entry, use, now)
            else:
                self._check_in(entry, use, now)
        entry.uses.clear()  # not the one that begins now

    def abandon(self, pools: frozenset[int]) -> list[PoolEntry]:
        """Stop following these pools, by the `id()` of each; return their connection records' entries.

        The books stay balanced: a connection that is out counts as detached, an idle one as lost, an
        acquire in progress as cancelled.
        """
        entries: list[PoolEntry] = []
        self._do(self._abandon, pools, entries, self.clock())
        return entries

    def _abandon(self, pools: frozenset[int], entries: list[PoolEntry], now: float) -> None:
        for use in tuple(self._pending):
            if use.pool_key in pools:
                self._acquire_ended(use, "cancelled_acquires")
        for token, wait in tuple(self._waits.items()):
            if wait.pool_key in pools:
                self._queue_left(token, now)
        for entry in tuple(self._entries):
            if entry.pool_key not in pools:
                continue
            entries.append(entry)
            self._entries.discard(entry)
            uses = tuple(entry.uses)
            for use in uses[1:]:  # a shared connection leaves once
                self._check_in(entry, use, now, normally=False)
            if uses and entry.connection_key is not None:
                self.counts.detaches += 1
                self._observe_use(uses[0], now)
            elif uses:
                self._check_in(entry, uses[0], now, normally=False)
            elif entry.connection_key is not None:
                self.counts.closes["lost"] += 1
            entry.drop_all()
            self._gone(entry)
            self.counts.statements += entry.statements
            entry.statements = 0

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

    def settle(self) -> None:
        """Count what was left to be counted, so that an entry's uses are those of now."""
        self._do(self._nothing)

    def _nothing(self) -> None:
        pass

    def statement(self) -> None:
        """Count a statement on a connection that has several users; else its entry counts."""
        self._do(self._count, "statements")

    def _count(self, counter: str) -> None:
        setattr(self.counts, counter, getattr(self.counts, counter) + 1)

    def _count_in(self, counters: dict[str, int], key: str) -> None:
        counters[key] += 1
