"""Make a `PoolSnapshot` of what a ledger holds at one moment. Pure: changes nothing, reads no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from pool_exporter.catalogue import AGES_SECONDS
from pool_exporter.counts import Counts
from pool_exporter.records import PoolSnapshot, PoolState
from pool_exporter.uses import Entry, Use


class Probe(Protocol):
    """What the ledger asks about a use that no event has ended; must not raise or do I/O."""

    def ended_silently(self, entry: Entry, use: Use) -> bool:
        """Tell whether the use is over although nothing said so."""

    def busy(self, entry: Entry, use: Use) -> bool:
        """Tell whether the driver works for this use at this moment."""


class NoProbe:
    """Know of no use more than the events told."""

    def ended_silently(self, entry: Entry, use: Use) -> bool:
        """Return False."""
        return False

    def busy(self, entry: Entry, use: Use) -> bool:
        """Return False."""
        return False


class Wait:
    """One acquire that sleeps in the queue of a pool since `began`."""

    __slots__ = ("began", "pool_key", "stranded")

    def __init__(self, began: float, pool_key: int) -> None:
        self.began = began
        self.pool_key = pool_key
        self.stranded = False  # counted as one that slept on while capacity was free


@dataclass(frozen=True, slots=True)
class Moment:
    """What is going on at `now`: connection records, acquires as (start, pool key), waits."""

    now: float
    start_time: float
    entries: tuple[Entry, ...]
    pending: tuple[tuple[float, int], ...]
    waits: tuple[Wait, ...]
    faults: int

    @property
    def current_use_seconds(self) -> float:
        """Return the ages of all current uses, added up."""
        return sum(max(0.0, self.now - use.started_at) for entry in self.entries for use in entry.uses)

    @property
    def current_wait_seconds(self) -> float:
        """Return how long all current waiters have been in the queue, added up."""
        return sum(self.now - wait.began for wait in self.waits)

    def unaccounted_slots(self, state: PoolState) -> int | None:
        """Return the slots that the live pools say are out beyond those that we know of."""
        if state.slots_out is None:
            return None
        live = state.live_pools
        known = sum(len(entry.uses) or entry.returning for entry in self.entries if entry.pool_key in live)
        acquiring = sum(1 for _, pool_key in self.pending if pool_key in live)
        waiting = sum(1 for wait in self.waits if wait.pool_key in live)  # they have no slot yet
        return state.slots_out - known - (acquiring - waiting)

    def phases(self) -> dict[str, int]:
        """Return the acquires in progress by phase; what neither queues nor pings is connecting."""
        pending = len(self.pending)
        queued = min(pending, len(self.waits))
        pinging = min(pending - queued, sum(1 for entry in self.entries if entry.pinging))
        return {"queued": queued, "connecting": pending - queued - pinging, "pinging": pinging}

    def oldest_quiet_seconds(self, probe: Probe) -> float:
        """Return the longest time that a use has gone without activity."""
        uses = [(use.active_at, number, entry, use) for number, (entry, use) in enumerate(self._uses())]
        for active_at, _, entry, use in sorted(uses):
            if not entry.running and not probe.busy(entry, use):
                return max(0.0, self.now - active_at)
        return 0.0

    def _uses(self) -> list[tuple[Entry, Use]]:
        return [(entry, use) for entry in self.entries for use in entry.uses]


def make_snapshot(
    state: PoolState,
    moment: Moment,
    counts: Counts,
    probe: Probe,
    *,
    occupancy_seconds: float,
    queue_seconds: float,
    unaccounted_slots: int | None,
) -> PoolSnapshot:
    """Return the record; in reduced mode without what only the seam can know."""
    now = moment.now
    ages = [max(0.0, now - use.started_at) for entry in moment.entries for use in entry.uses]
    is_open = [entry for entry in moment.entries if entry.open]
    used = sum(1 for entry in is_open if entry.uses)
    full = state.mode != "reduced"

    def if_full(value: Any) -> Any:
        return value if full else None

    finished = counts.timeouts + counts.cancelled_acquires + counts.failed_acquires
    return PoolSnapshot(
        name=state.name,
        mode=state.mode,
        info=state.info,
        used=used,
        idle=len(is_open) - used,
        uses=len(ages),
        size=state.size,
        max=state.max,
        pending_requests=if_full(moment.phases()),
        oldest_pending_seconds=if_full(max((now - start for start, _ in moment.pending), default=0.0)),
        oldest_use_seconds=max(ages, default=0.0),
        oldest_quiet_seconds=moment.oldest_quiet_seconds(probe),
        aged_uses={str(limit): sum(1 for age in ages if age >= limit) for limit in AGES_SECONDS},
        orphaned_connections=sum(1 for entry in is_open if entry.pool_key not in state.live_pools),
        unaccounted_slots=if_full(unaccounted_slots),
        timeout_seconds=state.timeout_seconds,
        recycle_seconds=state.recycle_seconds,
        start_time_seconds=moment.start_time,
        acquires=if_full(counts.checkouts - counts.adopted + finished + len(moment.pending)),
        checkouts=counts.checkouts,
        checkins=counts.checkins,
        detaches=counts.detaches,
        timeouts=if_full(counts.timeouts),
        cancelled_acquires=if_full(counts.cancelled_acquires),
        failed_acquires=if_full(counts.failed_acquires),
        waits=if_full(counts.waits),
        queue_seconds=if_full(queue_seconds),
        stranded_waits=if_full(counts.stranded_waits),
        occupancy_seconds=occupancy_seconds,
        connects=counts.connects,
        connect_errors=if_full(dict(counts.connect_errors.counts)),
        disconnects=dict(counts.disconnects.counts),
        closes=dict(counts.closes),
        invalidations=dict(counts.invalidations),
        pre_ping_failures=if_full(counts.pre_ping_failures),
        reset_failures=counts.reset_failures,
        leaks_collected=counts.leaks_collected,
        statements=if_full(counts.statements + sum(entry.statements for entry in moment.entries)),
        telemetry_errors=moment.faults,
        adopted=counts.adopted,
        wait_seconds=if_full(counts.wait_seconds.snapshot()),
        use_seconds=counts.use_seconds.snapshot(),
        connect_seconds=if_full(counts.connect_seconds.snapshot()),
        pre_ping_seconds=if_full(counts.pre_ping_seconds.snapshot()),
        stale_idle_seconds=counts.stale_idle_seconds.snapshot(),
        stale_age_seconds=counts.stale_age_seconds.snapshot(),
    )
