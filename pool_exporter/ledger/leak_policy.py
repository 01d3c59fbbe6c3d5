"""From when on a use is overdue."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pool_exporter.ledger.uses import Use


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
