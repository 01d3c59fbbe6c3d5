"""Define the frozen records that leave the ledger: what a pool is and has done, and who holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Sample = float | tuple[float, Any]
"""The seconds of one sample; with the sampled span's context that was current, if there was one."""
Samples = Mapping[str, Sequence[Sample]]
"""Single samples of histograms by their catalogue names, the oldest first."""


class Exemplar(NamedTuple):
    """Hold one sample of a histogram that was taken while a sampled span was current.

    `trace_id` and `span_id` are 32 and 16 hexadecimal digits, as in the W3C's traceparent.
    """

    seconds: float
    trace_id: str
    span_id: str
    unix_time: float


@dataclass(frozen=True, slots=True)
class HistogramSnapshot:
    """Hold one histogram: `counts[i]` samples fell at or below `bounds[i]` and above the one before.

    `counts` has one element more than `bounds`: the samples above the last bound. `bounds` and
    `sum` are in seconds. Cumulative since `instrument()`. `exemplars` has the last one of each
    bucket that has any, by the bucket's place in `counts`.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float
    exemplars: Mapping[int, Exemplar] = field(default_factory=dict)

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
    """Uses at least so many seconds old, by age; as the two above without exempt uses."""
    overdue_uses: Mapping[str, int]
    """Uses past the `LeakPolicy` now, by kind; each use has one kind at most."""
    exempt_uses: int
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
    leaks_suspected: Mapping[str, int]
    leaks_recovered: Mapping[str, int]
    leaks_collected: int
    owner_connections: Mapping[str, int]
    """Uses in progress by owner: at most 20 owners, then `other`."""
    owner_use_seconds: Mapping[str, float]
    owner_leaks: Mapping[str, int]
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
    def processes(self) -> int:
        """Return 1: a snapshot is of the pool in one process."""
        return 1

    @property
    def idle_min(self) -> int:
        """Return 0: SQLAlchemy keeps no minimum of idle connections."""
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldConnection:
    """Hold what is known of one use in progress: who has a connection, since when, what it does.

    `None` means that it cannot be known. Everything is as of the call that made the record.
    """

    pool: str
    """The `pool` label."""
    owner: str
    """The request's route or the name given to `owner()`, else `function`, else `unknown`."""
    function: str | None
    """The application's frame that acquired it, as `module:function`."""
    filename: str | None
    lineno: int | None
    task_name: str | None
    """The asyncio task that acquired it; None outside of asyncio."""
    trace_id: str | None
    """The OpenTelemetry trace current at the acquire: 32 hexadecimal digits."""
    age_seconds: float
    """Since the acquire returned."""
    quiet_seconds: float
    """Since its last activity; 0 while a statement runs or a server-side cursor is open."""
    busy: bool
    """Whether a statement runs, a server-side cursor is open or the driver is at work."""
    running: bool
    """Whether a statement is under way: handed to the driver, and no answer has come back yet."""
    in_transaction: bool | None
    backend_pid: int | None
    """The server's id of the connection: PostgreSQL's backend pid, MySQL's thread id."""
    local_port: int | None
    """The client's TCP port, as in PgBouncer's SHOW CLIENTS; None on a Unix socket."""
    overdue: str | None
    """None, or its kind: idle, idle_in_transaction, busy, orphaned."""
    exempt: bool
    """Whether the policy exempts its owner from being overdue."""
    statement: str | None
    """Its last statement, only where the application asked for SQL text."""
    stack: tuple[str, ...]
    """Where its task is now, outermost first, as `module:function (file:line)`; empty where unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakReport:
    """Hold one step in the life of a leak: `event` is suspected, recovered or collected."""

    event: str
    kind: str | None
    """The kind by which it is or was suspected; None for one that was collected unsuspected."""
    unix_time: float
    held: HeldConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutReport:
    """Hold one pool timeout: how full the pool was, and who held its connections, the oldest first."""

    pool: str
    unix_time: float
    timeout_seconds: float | None
    size: int | None
    max: int | None
    uses: int
    overflow: int | None
    pending: int | None
    held: tuple[HeldConnection, ...]


class PoolSample(NamedTuple):
    """Hold one point of a pool's recent history; counters are cumulative as in `PoolSnapshot`."""

    unix_time: float
    used: int
    idle: int
    pending: int
    checkouts: int
    timeouts: int
    wait_seconds_sum: float
    occupancy_seconds: float


class PoolStatus(NamedTuple):
    """Hold everything that a status page shows of one pool."""

    snapshot: PoolSnapshot
    held: tuple[HeldConnection, ...]
    """The uses in progress, the oldest first."""
    reports: tuple[LeakReport | TimeoutReport, ...]
    """What was reported last, the newest first; bounded."""
    history: tuple[PoolSample, ...]
    """The last minutes, the oldest first; empty until sampling has begun."""


class PoolState(NamedTuple):
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
