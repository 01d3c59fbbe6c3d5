"""Make a `PoolSnapshot` of what a ledger holds at one moment. Pure: changes nothing, reads no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pool_exporter.catalogue import AGES_SECONDS, OVERDUE_KINDS
from pool_exporter.ledger.counts import Counts
from pool_exporter.ledger.uses import PoolEntry, Use
from pool_exporter.records import PoolSnapshot, PoolState


class Wait:
    """One acquire that sleeps in the queue of a pool since `began`."""

    __slots__ = ("began", "pool_key", "stranded")

    def __init__(self, began: float, pool_key: int) -> None:
        self.began = began
        self.pool_key = pool_key
        self.stranded = False  # counted as one that slept on while capacity was free


class Moment(NamedTuple):
    """What is going on at `now`: connection records, acquires as (start, pool key), waits."""

    now: float
    start_time: float
    entries: tuple[PoolEntry, ...]
    pending: tuple[tuple[float, int], ...]
    waits: tuple[Wait, ...]
    faults: int
    epoch: float = 0.0  # the Unix time at which the clock read 0

    @property
    def current_use_seconds(self) -> float:
        """Return the ages of all current uses, added up."""
        return sum(max(0.0, self.now - use.started_at) for use in self.uses)

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

    @property
    def uses(self) -> tuple[Use, ...]:
        """Return the uses in progress."""
        return tuple(use for entry in self.entries for use in entry.uses)

    def quiet_seconds(self, use: Use) -> float:
        """Return how long a use has gone without activity, as far as it was observed."""
        return max(0.0, self.now - max(use.active_at, use.busy_at))


def make_snapshot(
    state: PoolState,
    moment: Moment,
    counts: Counts,
    *,
    exempt: Callable[[Use], bool],
    occupancy_seconds: float,
    owner_use_seconds: Mapping[str, float],
    queue_seconds: float,
    unaccounted_slots: int | None,
) -> PoolSnapshot:
    """Return the record; in reduced mode without what only the seam can know."""
    now = moment.now
    uses = moment.uses
    watched = [use for use in uses if not exempt(use)]
    ages = [max(0.0, now - use.started_at) for use in watched]
    accounts = tuple(counts.accounts.by_owner.values())
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
        uses=len(uses),
        size=state.size,
        max=state.max,
        pending_requests=if_full(moment.phases()),
        oldest_pending_seconds=if_full(max((now - start for start, _ in moment.pending), default=0.0)),
        oldest_use_seconds=max(ages, default=0.0),
        oldest_quiet_seconds=max(map(moment.quiet_seconds, watched), default=0.0),
        aged_uses={str(limit): sum(1 for age in ages if age >= limit) for limit in AGES_SECONDS},
        overdue_uses={kind: sum(1 for use in watched if use.overdue == kind) for kind in OVERDUE_KINDS},
        exempt_uses=len(uses) - len(watched),
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
        leaks_suspected=dict(counts.leaks_suspected),
        leaks_recovered=dict(counts.leaks_recovered),
        leaks_collected=counts.leaks_collected,
        owner_connections={
            account.name: sum(1 for use in uses if use.account is account) for account in accounts
        },
        owner_use_seconds=owner_use_seconds,
        owner_leaks={account.name: account.leaks for account in accounts},
        statements=if_full(counts.statements + sum(entry.statements for entry in moment.entries)),
        telemetry_errors=moment.faults,
        adopted=counts.adopted,
        wait_seconds=if_full(counts.wait_seconds.snapshot(moment.epoch)),
        use_seconds=counts.use_seconds.snapshot(moment.epoch),
        connect_seconds=if_full(counts.connect_seconds.snapshot(moment.epoch)),
        pre_ping_seconds=if_full(counts.pre_ping_seconds.snapshot(moment.epoch)),
        stale_idle_seconds=counts.stale_idle_seconds.snapshot(moment.epoch),
        stale_age_seconds=counts.stale_age_seconds.snapshot(moment.epoch),
    )
