"""Keep one pool's truth: what is counted of it, and a snapshot of it at any moment."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident

from pool_exporter.ledger.books import Counting
from pool_exporter.ledger.held import held_connection
from pool_exporter.ledger.leaks import Observation
from pool_exporter.ledger.probe import Probe
from pool_exporter.ledger.snapshot import Moment, make_snapshot
from pool_exporter.ledger.uses import PoolEntry, Use
from pool_exporter.records import HeldConnection, LeakReport, PoolSnapshot, PoolState, Samples

SURE_SECONDS = 1.0
"""How long a use must seem to have ended before that is believed, where another thread may be at work."""


class Ledger(Counting):
    """Count everything about one pool, and tell all of it at once."""

    def at_rest(self) -> bool:
        """Tell whether nothing is open, in use or being acquired."""
        if not self._take():
            return False
        try:
            self._drain()
            return not self._pending and not any(e.open or e.uses for e in self._entries)
        finally:
            self._lock.release()

    def pending(self, pools: frozenset[int]) -> int:
        """Return how many acquires are in progress in these pools, by the `id()` of each."""
        return sum(use.pool_key in pools for use in tuple(self._pending))

    def mark(self) -> tuple[int, ...] | None:
        """Return what is equal to the last mark only if nothing has happened since; None while something goes on.

        Waits for nobody. A change of the pool's configuration is nothing that happens here.
        """
        counts = self.counts
        over = counts.checkins + counts.detaches + counts.leaks_collected
        if self._notes or self._pending or self._waits or counts.checkouts != over:
            return None
        return (self._operations, counts.checkouts, counts.checkins, self.faults.count)

    def has_open(self) -> bool:
        """Tell whether a connection is open. Waits for nobody."""
        return any(entry.open for entry in tuple(self._entries))

    def reset_after_fork(self, alive: Callable[[PoolEntry], bool]) -> None:
        """Start again in a forked child from the connections it inherited.

        `alive` tells whether an entry's record still has its connection. Called while no other
        thread exists; the lock may have been held by one that did not survive the fork.
        """
        self._unlock_after_fork()
        entries, self._entries = self._entries, set()
        self._begin_counting()
        self.leaks.steps.clear()  # the parent reports them
        now = self.clock()
        for entry in entries:
            key, uses, inherited = entry.connection_key, entry.current_uses(), alive(entry)
            entry.connection_key, entry.uses, entry.use = None, [], None
            entry.statements = entry.running = 0
            if key is None or not inherited:
                continue
            self._adopt(entry, key, None, now)
            for use in uses:
                if use.account is None:  # noted, and not counted yet
                    use.start_tracking()
                self._adopt(entry, key, use.fairy_ref, now)
                entry.uses[-1].exempt_in_parent = self.leaks.is_exempt(use)

    def snapshot(self, state: PoolState) -> PoolSnapshot:
        """Return the pool's truth now; `state` is what only the live pool knows.

        In the middle of one of this thread's own operations it is the truth of the snapshot before.
        """
        if not self._take():
            return self._last_snapshot or self._snapshot(state, self.clock())
        try:
            now = self._looked_at = self._look(state)
            self._last_snapshot = self._snapshot(state, now)
            return self._last_snapshot
        finally:
            self._lock.release()

    def keep_samples(self, most: int) -> None:
        """Keep the single samples of every histogram from now on, the last `most` of each."""
        if self._take():
            try:
                self._drain()
                self._most_samples = most
                self.counts.keep_samples(most)
            finally:
                self._lock.release()

    def sampled(self, state: PoolState) -> tuple[PoolSnapshot, Samples]:
        """Return a snapshot, and what was counted by its histograms since the last call, sample by sample."""
        if not self._take():
            return self.snapshot(state), {}
        try:
            now = self._looked_at = self._look(state)
            self._last_snapshot = snapshot = self._snapshot(state, now)
            return snapshot, self._take_samples()
        finally:
            self._lock.release()

    def samples(self, at_least: int = 1) -> Samples:
        """Return the samples that nobody took, of the histograms that have so many."""
        if not self._take():
            return {}
        try:
            self._drain()
            return self._take_samples(at_least)
        finally:
            self._lock.release()

    def _take_samples(self, at_least: int = 1) -> Samples:
        return {
            name: histogram.take()
            for name, histogram in self.counts.histograms.items()
            if histogram.samples and len(histogram.samples) >= at_least
        }

    def check(self, state: PoolState) -> None:
        """Look for uses that are overdue; what comes of it waits for `take_reports`."""
        if self._take():
            try:
                self._look(state)
            finally:
                self._lock.release()

    def _look(self, state: PoolState) -> float:
        self._drain()
        now = self.clock()
        self._sweep(now)
        self._watch(state, now)
        return now

    def held(self, state: PoolState) -> list[HeldConnection]:
        """Return the uses in progress, the oldest first; in the middle of an operation of its own, none."""
        seen = self.seen(state)
        return [] if seen is None else seen[0]

    def seen(
        self, state: PoolState, patience_seconds: float = -1.0, *, pools: frozenset[int] | None = None
    ) -> tuple[list[HeldConnection], PoolSnapshot] | None:
        """Return the uses in progress, the oldest first, and a snapshot of the same moment.

        With `pools`, the uses of these only, by the `id()` of each. None in the middle of an operation of this thread, and where another's takes longer than
        `patience_seconds` (negative: however long).
        """
        if not self._take(patience_seconds):
            return None
        try:
            now = self._looked_at = self._look(state)
            self._last_snapshot = snapshot = self._snapshot(state, now)
            found = [
                (use.started_at, entry, use)
                for entry in self._entries
                if pools is None or entry.pool_key in pools
                for use in entry.uses
            ]
        finally:
            self._lock.release()
        found.sort(key=lambda one: one[0])
        # Not under the lock: what a driver and a task tell takes longer than a checkout may wait.
        return [self._held(state.name, entry, use, now) for _, entry, use in found], snapshot

    def _held(self, pool: str, entry: PoolEntry, use: Use, now: float) -> HeldConnection:
        # Of a use that ended, the record may be somebody else's by now.
        probe = self._probe if use in entry.uses else Probe()
        return held_connection(pool, entry, use, now, probe, exempt=self.leaks.is_exempt(use))

    def take_reports(self, pool: str) -> list[LeakReport]:
        """Return what happened to leaks since the last call, in order, for the pool of that name."""
        reports = []
        steps = self.leaks.steps
        while steps:
            try:
                step = steps.popleft()
            except IndexError:  # another thread took it
                break
            reports.append(
                LeakReport(
                    event=step.event,
                    kind=step.use.suspected,
                    unix_time=self._wall_clock() - (self.clock() - step.now),
                    held=self._held(pool, step.entry, step.use, step.now),
                )
            )
        return reports

    def _watch(self, state: PoolState, now: float) -> None:
        """Observe every use in progress, and judge it."""
        pools = set()
        for entry in tuple(self._entries):
            pools.add(entry.pool_key)
            for use in tuple(entry.uses):
                self._observe(state, entry, use, now)
        self.leaks.forget_pools(pools - state.live_pools)

    def _observe(self, state: PoolState, entry: PoolEntry, use: Use, now: float) -> None:
        try:
            busy = bool(entry.running) or self._probe.busy(entry, use)
            in_transaction = None if busy else self._probe.in_transaction(entry)
            if busy or (
                use.was_in_transaction and in_transaction is False
            ):  # rolled back since the last look
                use.busy_at = now
            if not busy:
                use.was_in_transaction = bool(in_transaction)
            quiet = max(0.0, now - max(use.active_at, use.busy_at))
            seen = Observation(
                active_for=now - use.active_at,
                quiet_for=quiet,
                busy=busy,
                in_transaction=in_transaction,
                orphaned_for=self.leaks.orphaned_for(entry, state.live_pools, now),
            )
            self.leaks.observed(self.counts, entry, use, seen, now)
        except Exception as error:  # which costs what can be said of this use, and of no other
            self.faults.report("ledger.observe", error)

    def _sweep(self, now: float) -> None:
        for entry in tuple(self._entries):
            for use in tuple(entry.uses):
                collected = use.known_collected
                if use.ended_at is not None:
                    # Its return was noted since the notes were counted. Its fairy may be gone by now,
                    # as it is after any return; so that is to be looked at first.
                    continue
                if collected and len(entry.uses) > 1:  # a shared connection: no event comes
                    entry.drop(use)
                    self._collect(entry, use, now)
                elif not self._probe.already_returned(entry, use):
                    use.seems_ended_since = None
                elif self._surely_ended(use, collected, now):
                    entry.drop(use)
                    if collected:  # the collector is giving it back just now, maybe in another thread
                        self._collect(entry, use, now)
                    else:
                        self._check_in(entry, use, now)
                    entry.idle_since = now

    def _surely_ended(self, use: Use, collected: bool, now: float) -> bool:
        """Tell whether what seems to have ended has: in another thread a detach() looks so for a moment."""
        if collected or use.thread == get_ident():
            return True
        if use.seems_ended_since is None:
            use.seems_ended_since = now
        return now - use.seems_ended_since >= SURE_SECONDS

    def _snapshot(self, state: PoolState, now: float) -> PoolSnapshot:
        moment = Moment(
            now=now,
            start_time=self.start_time,
            entries=tuple(self._entries),
            pending=tuple((use.began, use.pool_key) for use in tuple(self._pending)),
            waits=tuple(self._waits.values()),
            faults=self.faults.count,
            epoch=self._wall_clock() - now,
        )
        # Sums of floats may come out smaller by their last digit; a counter must not.
        self._last_occupancy = max(
            self._last_occupancy, self.counts.used_seconds + moment.current_use_seconds
        )
        self._last_queue_seconds = max(
            self._last_queue_seconds, self.counts.queued_seconds + moment.current_wait_seconds
        )
        by_owner = self._seconds_by_owner(moment)
        found = moment.unaccounted_slots(state)
        before, self._last_unaccounted = self._last_unaccounted, found or 0
        if found is not None and not state.steady:
            # Other threads move slots between two reads: believe what two snapshots agree on.
            found = 0 if found * before <= 0 else min(found, before, key=abs)
        return make_snapshot(
            state,
            moment,
            self.counts,
            exempt=self.leaks.is_exempt,
            occupancy_seconds=self._last_occupancy,
            owner_use_seconds=by_owner,
            queue_seconds=self._last_queue_seconds,
            unaccounted_slots=found,
        )

    def _seconds_by_owner(self, moment: Moment) -> dict[str, float]:
        seconds = {
            account.name: account.used_seconds for account in tuple(self.counts.accounts.by_owner.values())
        }
        for use in moment.uses:
            if use.account is not None:
                seconds[use.account.name] += max(0.0, moment.now - use.started_at)
        before = self._last_by_owner
        self._last_by_owner = {name: max(spent, before.get(name, 0.0)) for name, spent in seconds.items()}
        return self._last_by_owner


Ledger._holders = frozenset(
    function.__code__
    for function in (
        *(Ledger._do, Ledger._settle),
        *(Ledger.at_rest, Ledger.snapshot, Ledger.check, Ledger.seen),
        *(Ledger.keep_samples, Ledger.sampled, Ledger.samples),
    )
)
