"""Say which uses are overdue and of which kind, and follow the life of a suspected leak. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from pool_exporter.counts import Counts
from pool_exporter.uses import Entry, Use

MOST_REPORTS = 1000
"""Steps that wait to be reported at most; what comes then is counted but not reported."""
MOST_VERDICTS = 1000  # exemptions remembered, by owner and function


@dataclass(frozen=True, slots=True)
class LeakPolicy:
    """Say from when on a use is overdue; all times are seconds, `math.inf` switches a kind off.

    - `idle_in_transaction_seconds`: no activity, inside a transaction.
    - `idle_seconds`: no activity, outside of one, or where the driver cannot tell.
    - `busy_seconds`: one statement, COPY, LISTEN or server-side cursor. Overdue, yet never suspected.
    - `orphaned_seconds`: still held so long after its pool was disposed of.
    - `exempt`: owners or functions (`module:function`) that may hold a connection for as long as they
      like, with shell wildcards: `("listener", "batch:*")`. They are counted in `exempt_uses` alone.

    Activity is any statement, commit or rollback. Raises `TypeError` or `ValueError` that names
    the argument, the value and the remedy.
    """

    idle_in_transaction_seconds: float = 60.0
    idle_seconds: float = 300.0
    busy_seconds: float = 300.0
    orphaned_seconds: float = 300.0
    exempt: Collection[str] = ()

    def __post_init__(self) -> None:
        for name in ("idle_in_transaction_seconds", "idle_seconds", "busy_seconds", "orphaned_seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{name}={value!r}: expected a number of seconds, such as 60")
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if math.isnan(number) or number <= 0:
                raise ValueError(
                    f"{name}={value!r}: expected seconds above 0; math.inf switches this kind off"
                )
        if math.isfinite(self.idle_in_transaction_seconds) and (
            self.idle_in_transaction_seconds > self.idle_seconds
        ):
            raise ValueError(
                f"idle_in_transaction_seconds={self.idle_in_transaction_seconds!r} is more than "
                f"idle_seconds={self.idle_seconds!r}: an open transaction does more harm than an idle "
                "connection, so give it the shorter time, or math.inf to treat both alike"
            )
        if isinstance(self.exempt, str) or not isinstance(self.exempt, Collection):
            raise TypeError(f"exempt={self.exempt!r}: expected a collection of owners, such as ('listener',)")
        patterns = tuple(self.exempt)
        for pattern in patterns:
            if not isinstance(pattern, str) or not pattern.strip():
                raise TypeError(f"exempt: {pattern!r} is no owner; expected names such as 'listener'")
        object.__setattr__(self, "exempt", patterns)

    def exempts(self, use: Use) -> bool:
        """Tell whether a use's owner or function is exempt."""
        function = use.site.function if use.site is not None else ""
        return any(
            fnmatchcase(name, pattern) for pattern in self.exempt for name in (use.owner, function) if name
        )

    @property
    def shortest_seconds(self) -> float:
        """Return the shortest of the times."""
        return min(
            self.idle_in_transaction_seconds, self.idle_seconds, self.busy_seconds, self.orphaned_seconds
        )


NEVER = LeakPolicy(math.inf, math.inf, math.inf, math.inf)
"""The policy by which nothing is overdue."""


def checked_policy(leaks: object) -> LeakPolicy:
    """Return the policy that an argument asks for."""
    if leaks is None:
        return NEVER
    if isinstance(leaks, LeakPolicy):
        return leaks
    raise TypeError(f"leaks={leaks!r}: expected a LeakPolicy, or None for no use to be overdue ever")


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


class Step(NamedTuple):
    """One step in the life of a leak, to be reported: suspected, recovered or collected."""

    event: str
    entry: Entry
    use: Use
    now: float


class LeakWatch:
    """Count each use as suspected once and as recovered once, and note the steps for a report.

    Nothing of it waits, logs or locks: the ledger calls it under its own lock.
    """

    def __init__(self, policy: LeakPolicy) -> None:
        self.policy = policy
        self.steps: deque[Step] = deque()  # appended here, taken by whoever reports
        self._orphaned_since: dict[int, float] = {}  # pool key -> when its dispose was first seen
        self._exempt: dict[tuple[str, object], bool] = {}

    def is_exempt(self, use: Use) -> bool:
        """Tell whether the policy exempts the owner of a use."""
        if not self.policy.exempt:
            return False
        if use.spared:
            return True
        key = (use.owner, use.site)
        verdict = self._exempt.get(key)
        if verdict is None:
            if len(self._exempt) >= MOST_VERDICTS:
                self._exempt.clear()
            verdict = self._exempt[key] = self.policy.exempts(use)
        return verdict

    def orphaned_for(self, entry: Entry, live_pools: frozenset[int], now: float) -> float | None:
        """Return how long ago the dispose of the entry's pool was first seen, None for a live pool."""
        if entry.pool_key in live_pools:
            return None
        return now - self._orphaned_since.setdefault(entry.pool_key, now)

    def forget_pools(self, pool_keys: set[int]) -> None:
        """Forget the disposed pools that have nothing any more: the key of one may come again."""
        for key in self._orphaned_since.keys() - pool_keys:
            del self._orphaned_since[key]

    def observed(self, counts: Counts, entry: Entry, use: Use, seen: Observation, now: float) -> None:
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

    def recovered(self, counts: Counts, entry: Entry, use: Use, now: float) -> None:
        """Count a suspected use that ended normally after all."""
        if use.suspected is not None:
            counts.leaks_recovered[use.suspected] += 1
            self._note("recovered", entry, use, now)

    def collected(self, counts: Counts, entry: Entry, use: Use, now: float) -> None:
        """Count a use that the collector ended: a certain leak."""
        counts.leaks_collected += 1
        if use.suspected is None and use.account is not None:
            use.account.leaks += 1
        self._note("collected", entry, use, now)

    def _note(self, event: str, entry: Entry, use: Use, now: float) -> None:
        if len(self.steps) < MOST_REPORTS:
            self.steps.append(Step(event, entry, use, now))
