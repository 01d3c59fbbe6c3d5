"""Define the frozen records that leave the ledger: what a pool is and has done, at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HistogramSnapshot:
    """Hold one histogram: `counts[i]` samples fell at or below `bounds[i]` and above the one before.

    `counts` has one element more than `bounds`: the samples above the last bound. `bounds` and
    `sum` are in seconds. Cumulative since `instrument()`.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """Return the number of samples."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSnapshot:
    """Hold everything that is known of one pool at one moment.

    Taken under one lock, so that the laws of counting hold exactly in it. Attributes named as
    in the catalogue (without `_total`). Counters are cumulative since `instrument()`; all
    durations are float seconds. `None` means that the thing cannot be known or does not exist:
    a pool without a limit has no `max`, a pool in reduced mode no `acquires`.
    """

    name: str
    """The `pool` label."""
    mode: str
    """`full`, or `reduced` where only SQLAlchemy's events could be used."""
    info: Mapping[str, str]
    """Identity and configuration: the labels of the info metric."""

    # What there is now.
    used: int
    """Open connections with at least one use."""
    idle: int
    """The other open connections."""
    uses: int
    """Uses in progress; more than `used` only where connections are shared (StaticPool)."""
    size: int | None
    """The live pool's pool_size; None if unlimited or unsized."""
    max: int | None
    """The live pool's pool_size + max_overflow; None if unlimited or unsized."""
    pending_requests: Mapping[str, int] | None
    """Acquires in progress by phase: queued, connecting, pinging."""
    oldest_pending_seconds: float | None
    oldest_use_seconds: float
    oldest_quiet_seconds: float
    aged_uses: Mapping[str, int]
    """Uses at least so many seconds old, by age."""
    orphaned_connections: int
    unaccounted_slots: int | None
    timeout_seconds: float | None
    recycle_seconds: float | None
    start_time_seconds: float
    """Unix time of `instrument()`."""

    # What has happened since.
    acquires: int | None
    checkouts: int
    checkins: int
    detaches: int
    timeouts: int | None
    cancelled_acquires: int | None
    failed_acquires: int | None
    waits: int | None
    queue_seconds: float | None
    stranded_waits: int | None
    occupancy_seconds: float
    connects: int
    connect_errors: Mapping[str, int] | None
    disconnects: Mapping[str, int]
    closes: Mapping[str, int]
    invalidations: Mapping[str, int]
    pre_ping_failures: int | None
    reset_failures: int
    leaks_collected: int
    statements: int | None
    telemetry_errors: int
    adopted: int
    """Uses that were already in progress when they were first seen; in `checkouts`, not in `acquires`."""
    wait_seconds: HistogramSnapshot | None
    use_seconds: HistogramSnapshot
    connect_seconds: HistogramSnapshot | None
    pre_ping_seconds: HistogramSnapshot | None
    stale_idle_seconds: HistogramSnapshot
    stale_age_seconds: HistogramSnapshot

    @property
    def open(self) -> int:
        """Return the number of open connections, of every generation of the pool."""
        return self.used + self.idle

    @property
    def overflow(self) -> int | None:
        """Return the open connections above pool_size; None if the pool has no size."""
        return None if self.size is None else max(0, self.open - self.size)

    @property
    def pending(self) -> int | None:
        """Return the acquires in progress, of all phases."""
        return None if self.pending_requests is None else sum(self.pending_requests.values())

    @property
    def connections(self) -> Mapping[str, int]:
        """Return the open connections by state."""
        return {"used": self.used, "idle": self.idle}

    @property
    def idle_min(self) -> int:
        """Return 0: SQLAlchemy keeps no minimum of idle connections."""
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolState:
    """Hold what only the live pool can tell, for the ledger to make a `PoolSnapshot` of.

    `live_pools` are the `id()`s of the pools that engines use now; `slots_out` is their
    `checkedout()` summed, None where a pool does not count. `steady` is False where other
    threads may move a slot between two reads.
    """

    name: str
    mode: str
    info: Mapping[str, str]
    size: int | None
    max: int | None
    timeout_seconds: float | None
    recycle_seconds: float | None
    live_pools: frozenset[int]
    slots_out: int | None
    steady: bool

    @classmethod
    def unknown(cls, name: str, mode: str = "full") -> PoolState:
        """Return the state of a pool of which nothing can be read."""
        return cls(
            name=name,
            mode=mode,
            info={},
            size=None,
            max=None,
            timeout_seconds=None,
            recycle_seconds=None,
            live_pools=frozenset(),
            slots_out=None,
            steady=True,
        )
