"""Say by how much the drills shorten time, and what that makes of every interval and threshold."""

from __future__ import annotations

from pool_exporter import LeakPolicy

FACTOR = 30.0
"""Everything that takes time in production takes this much less here: the scrape interval, the windows and
delays of the rules, the LeakPolicy, the pool timeout and the workloads' long operations."""

SCRAPE_SECONDS = 15.0 / FACTOR
"""Between two scrapes, and two evaluations of the rules: production's 15 s."""
LOOKBACK_SECONDS = 300.0 / FACTOR
"""How long Prometheus takes a sample for current: production's 5 minutes."""
RESEND_SECONDS = 60.0 / FACTOR
"""How often Prometheus repeats a firing alert to Alertmanager: production's 1 minute."""
POOL_TIMEOUT_SECONDS = 30.0 / FACTOR
"""How long a caller queues for a connection: SQLAlchemy's default of 30 s."""

_POLICY = LeakPolicy()
POLICY = LeakPolicy(
    idle_in_transaction_seconds=_POLICY.idle_in_transaction_seconds / FACTOR,
    idle_seconds=_POLICY.idle_seconds / FACTOR,
    busy_seconds=_POLICY.busy_seconds / FACTOR,
    orphaned_seconds=_POLICY.orphaned_seconds / FACTOR,
    exempt=("listener", "batch:*"),
)
"""The defaults of the LeakPolicy, with the exemptions that the documentation advises."""


def minutes(number: float) -> float:
    """Return the seconds that stand for so many minutes of production."""
    return number * 60.0 / FACTOR
