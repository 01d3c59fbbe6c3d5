"""Say which uses are overdue and of which kind, and follow the life of a suspected leak. Pure."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from pool_exporter.ledger.counts import Counts
from pool_exporter.ledger.leak_policy import LeakPolicy
from pool_exporter.ledger.uses import PoolEntry, Use

MAX_REPORTS = 1000
"""Steps that wait to be reported at most; what comes then is counted but not reported."""


MAX_VERDICTS = 1000  # exemptions remembered, by owner and function


class Observation(NamedTuple):
    """What is seen of one use at one moment, all in seconds."""

    active_for: float
    """Since the last activity began; of a statement in progress, for how long it has run."""
    quiet_for: float
    """Since it was last seen at work; 0 while it is."""
    busy: bool
    in_transaction: bool | None
    orphaned_for: float | None
    """Since its pool was disposed of; None in a live one."""


def overdue_kind(policy: LeakPolicy, seen: Observation) -> str | None:
    """Return the one kind by which a use is overdue, None if it is not."""
    if seen.orphaned_for is not None and seen.orphaned_for >= policy.orphaned_seconds:
        return "orphaned"
    if seen.busy:
        return "busy" if seen.active_for >= policy.busy_seconds else None
    if seen.in_transaction and seen.quiet_for >= policy.idle_in_transaction_seconds:
        return "idle_in_transaction"
    return "idle" if seen.quiet_for >= policy.idle_seconds else None


class LeakEvent(NamedTuple):
    """One step in the life of a leak, to be reported: suspected, recovered or collected."""

    event: str
    entry: PoolEntry
    use: Use
    now: float


class LeakDetector:
    """Count each use as suspected once and as recovered once, and note the steps for a report.

    Nothing of it waits, logs or locks: the ledger calls it under its own lock.
    """

    def __init__(self, policy: LeakPolicy) -> None:
        self.policy = policy
        self.steps: deque[LeakEvent] = deque()  # appended here, taken by whoever reports
        self._orphaned_since: dict[int, float] = {}  # pool key -> when its dispose was first seen
        self._exempt: dict[tuple[str, object], bool] = {}

    def is_exempt(self, use: Use) -> bool:
        """Tell whether the policy exempts the owner of a use."""
        if not self.policy.exempt:
            return False
        if use.exempt_in_parent:
            return True
        key = (use.owner, use.site)
        verdict = self._exempt.get(key)
        if verdict is None:
            if len(self._exempt) >= MAX_VERDICTS:
                self._exempt.clear()
            verdict = self._exempt[key] = self.policy.exempts(use)
        return verdict

    def orphaned_for(self, entry: PoolEntry, live_pools: frozenset[int], now: float) -> float | None:
        """Return how long ago the dispose of the entry's pool was first seen, None for a live pool."""
        if entry.pool_key in live_pools:
            return None
        return now - self._orphaned_since.setdefault(entry.pool_key, now)

    def forget_pools(self, pool_keys: set[int]) -> None:
        """Forget the disposed pools that have nothing any more: the key of one may come again."""
        for key in self._orphaned_since.keys() - pool_keys:
            del self._orphaned_since[key]

    def observed(self, counts: Counts, entry: PoolEntry, use: Use, seen: Observation, now: float) -> None:
        """Judge a use by what is seen of it; suspect it once."""
        use.overdue = None if self.is_exempt(use) else overdue_kind(self.policy, seen)
        kind = use.overdue
        if kind is None or kind == "busy" or use.suspected is not None:
            return
        use.suspected = kind
        counts.leaks_suspected[kind] += 1
        if use.account is not None:
            use.account.leaks += 1
        self._note("suspected", entry, use, now)

    def recovered(self, counts: Counts, entry: PoolEntry, use: Use, now: float) -> None:
        """Count a suspected use that ended normally after all."""
        if use.suspected is not None:
            counts.leaks_recovered[use.suspected] += 1
            self._note("recovered", entry, use, now)

    def collected(self, counts: Counts, entry: PoolEntry, use: Use, now: float) -> None:
        """Count a use that the collector ended: a certain leak."""
        counts.leaks_collected += 1
        if use.suspected is None and use.account is not None:
            use.account.leaks += 1
        self._note("collected", entry, use, now)

    def _note(self, event: str, entry: PoolEntry, use: Use, now: float) -> None:
        if len(self.steps) < MAX_REPORTS:
            self.steps.append(LeakEvent(event, entry, use, now))
