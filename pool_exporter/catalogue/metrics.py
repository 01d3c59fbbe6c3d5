"""Declare every metric once: its names in each vocabulary, kind, unit, labels, buckets and help.

Nothing else in the package spells a metric name. Exporters walk `CATALOGUE` and read the
attribute `Metric.field` from a `PoolSnapshot`; dashboards, rules and the README are checked
against it by tests.
"""

from __future__ import annotations

from pool_exporter.catalogue.metric import Detail, Metric

CLOSE_REASONS = (
    "overflow",
    "unpooled",
    "recycle",
    "pool_invalidated",
    "soft_invalidated",
    "invalidated",
    "pre_ping",
    "disconnect",
    "cancelled",
    "reset_failed",
    "init_failed",
    "dispose",
    "lost",
)
"""Every reason for which an open connection ends, other than `detach()`."""


STATES = ("used", "idle")


PHASES = ("queued", "connecting", "pinging")


INVALIDATION_KINDS = ("hard", "soft")


AGES_SECONDS = (60, 300, 900, 1800, 3600)
"""The ages at which uses are counted by `aged_uses`."""


OVERDUE_KINDS = ("idle", "idle_in_transaction", "busy", "orphaned")
"""The ways in which a use can be past the `LeakPolicy`."""


SUSPICION_KINDS = ("idle", "idle_in_transaction", "orphaned")
"""Those by which a use is suspected of being a leak; a busy one is at work."""


MAX_OWNERS = 20
"""Distinct values of an `owner` label for one pool; what later owners do counts under `OTHER`."""


MAX_ERROR_LABELS = 20
"""Distinct values of an `error` label for one pool; what comes later counts under `OTHER`."""


OTHER = "other"


_WAIT = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60)


_USE = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600)


_CONNECT = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


_PING = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 1)


_STALE = (10, 60, 300, 600, 1800, 3600, 14400, 86400)


CATALOGUE: tuple[Metric, ...] = (
    Metric(
        "connections",
        "gauge",
        "connections",
        "Open database connections by state; used rising while the work stays the same means that connections do not come back.",
        labels=("state",),
        values=STATES,
        convention="db.client.connection.count",
        basic=True,
    ),
    Metric(
        "connections_max",
        "gauge",
        "connections",
        "Most connections that the live pool may open, pool_size plus max_overflow, absent if unlimited; used may exceed it just after a dispose, while old connections are still out.",
        attribute="max",
        convention="db.client.connection.max",
        basic=True,
    ),
    Metric(
        "processes",
        "gauge",
        "processes",
        "Processes that this series speaks for: 1, or the live workers whose pools are added up in prometheus_client's multi-process mode.",
        basic=True,
    ),
    Metric(
        "size",
        "gauge",
        "connections",
        "Connections that the pool keeps open when idle, its pool_size; absent if unlimited or unsized.",
        convention="db.client.connection.idle.max",
        basic=True,
    ),
    Metric(
        "idle_min",
        "gauge",
        "connections",
        "Connections that the pool keeps open at the least: always 0, since SQLAlchemy keeps no minimum.",
        convention="db.client.connection.idle.min",
        in_prometheus=False,
    ),
    Metric(
        "overflow",
        "gauge",
        "connections",
        "Open connections above pool_size; one that stays above 0 means that pool_size is too small and that connections are opened and thrown away.",
        basic=True,
    ),
    Metric(
        "pending_requests",
        "gauge",
        "requests",
        "Acquires in progress by phase; queued ones wait for a connection to come back, and a rise means that the pool is full.",
        labels=("phase",),
        values=PHASES,
        convention="db.client.connection.pending_requests",
        convention_sums=True,
        basic=True,
    ),
    Metric(
        "pending_requests_by_phase",
        "gauge",
        "requests",
        "Acquires in progress by phase, where the conventions have only their sum; queued ones wait for a connection to come back.",
        labels=("phase",),
        values=PHASES,
        attribute="pending_requests",
        convention="sqlalchemy.pool.pending_requests",
        basic=True,
        in_prometheus=False,
    ),
    Metric(
        "oldest_pending_seconds",
        "gauge",
        "seconds",
        "How long the longest-waiting acquire has been waiting, 0 if none waits; near the pool timeout, callers are about to fail.",
        basic=True,
        merging="livemax",
    ),
    Metric(
        "oldest_use_seconds",
        "gauge",
        "seconds",
        "Age of the oldest use that the policy does not exempt, 0 if none; one that grows with the clock is a connection that does not come back.",
        basic=True,
        merging="livemax",
    ),
    Metric(
        "oldest_quiet_seconds",
        "gauge",
        "seconds",
        "Longest time that a use has gone without activity, exempt ones left out, 0 if none; a rise means that a connection is held and nothing is done with it.",
        merging="livemax",
    ),
    Metric(
        "aged_uses",
        "gauge",
        "uses",
        "Uses at least as old as the label says, in seconds, exempt ones left out; above 0 at an age that no honest use reaches, it counts what does not come back.",
        labels=("age",),
        values=tuple(str(age) for age in AGES_SECONDS),
        basic=True,
    ),
    Metric(
        "overdue_uses",
        "gauge",
        "uses",
        "Uses past the LeakPolicy now, each by one kind; idle, idle_in_transaction and orphaned ones look like leaks, busy ones are long at work.",
        labels=("kind",),
        values=OVERDUE_KINDS,
        basic=True,
    ),
    Metric(
        "exempt_uses",
        "gauge",
        "uses",
        "Uses of owners that the LeakPolicy exempts, such as LISTEN workers and batch jobs; a rise takes capacity that no leak signal will show.",
    ),
    Metric(
        "orphaned_connections",
        "gauge",
        "connections",
        "Open connections in a pool that no engine uses any more, after a dispose; one that stays above 0 means that a connection from before the dispose is still held.",
    ),
    Metric(
        "unaccounted_slots",
        "gauge",
        "connections",
        "Slots that the live pool says are out and that no use, acquire or return accounts for; above 0, capacity is lost for good (a cancelled dispose, a listener that raises), or this library is mistaken.",
    ),
    Metric(
        "timeout_seconds",
        "gauge",
        "seconds",
        "The configured pool_timeout: how long an acquire waits in the queue before it fails; absent if the pool has no queue.",
        convention="sqlalchemy.pool.config.timeout",
        merging="livemax",
    ),
    Metric(
        "recycle_seconds",
        "gauge",
        "seconds",
        "The configured pool_recycle: the age at which a connection is replaced when next acquired; absent if off.",
        convention="sqlalchemy.pool.config.recycle",
        merging="livemax",
    ),
    Metric(
        "start_time_seconds",
        "gauge",
        "seconds",
        "Unix time at which the engine was instrumented; a change is a restart, after which counters begin at 0.",
        convention="sqlalchemy.pool.start_time",
        merging="livemax",
    ),
    Metric(
        "info",
        "info",
        "info",
        "Identity and configuration of the pool; mode is reduced where only SQLAlchemy's events could be used and several series are left out.",
        labels=(
            "dialect",
            "driver",
            "pool_class",
            "pre_ping",
            "reset_on_return",
            "server",
            "database",
            "mode",
        ),
        basic=True,
        merging="livemax",
    ),
    Metric(
        "acquires_total",
        "counter",
        "requests",
        "Acquires begun, whatever came of them; its rate is the demand on the pool.",
        basic=True,
    ),
    Metric(
        "checkouts_total",
        "counter",
        "checkouts",
        "Acquires that got a connection; falling behind the acquires means that callers fail or wait.",
        basic=True,
    ),
    Metric(
        "checkins_total",
        "counter",
        "checkins",
        "Uses that ended by giving the connection back or by its close; falling behind the checkouts means that connections do not come back.",
        basic=True,
    ),
    Metric(
        "detaches_total",
        "counter",
        "uses",
        "Uses that ended by detach(): the connection left the pool and lives on outside of it.",
    ),
    Metric(
        "timeouts_total",
        "counter",
        "timeouts",
        "Acquires that ended in SQLAlchemy's pool TimeoutError; any rise means that callers failed because the pool was full.",
        convention="db.client.connection.timeouts",
        basic=True,
    ),
    Metric(
        "cancelled_acquires_total",
        "counter",
        "requests",
        "Acquires that were cancelled before they got a connection; a rise means that callers give up, often by a timeout of their own.",
        basic=True,
    ),
    Metric(
        "failed_acquires_total",
        "counter",
        "requests",
        "Acquires that ended in any exception but a pool timeout or a cancellation; a rise means that the database refuses or cannot be reached.",
        basic=True,
    ),
    Metric(
        "waits_total",
        "counter",
        "requests",
        "Acquires that found the pool full and queued; a rise means that callers wait for each other.",
    ),
    Metric(
        "queue_seconds_total",
        "counter",
        "seconds",
        "Seconds spent in the queue, waits in progress and failed ones included; its rate is the mean number of callers waiting.",
    ),
    Metric(
        "stranded_waits_total",
        "counter",
        "requests",
        "Queued acquires that slept on although capacity had come free, because SQLAlchemy wakes nobody when a caller fails to connect; a rise means that failed connects cost other callers time.",
    ),
    Metric(
        "occupancy_seconds_total",
        "counter",
        "seconds",
        "Seconds of use, of ended and of current uses; its rate is the exact mean number of uses, whatever happened between scrapes.",
        basic=True,
    ),
    Metric(
        "connects_total",
        "counter",
        "connections",
        "Connections established; a steady rise under steady load means that connections do not live long enough.",
        basic=True,
    ),
    Metric(
        "connect_errors_total",
        "counter",
        "errors",
        "Failed attempts to connect, by the driver's exception; any rise means that the database refuses or cannot be reached.",
        labels=("error",),
        open_label=True,
        basic=True,
    ),
    Metric(
        "disconnects_total",
        "counter",
        "errors",
        "Connections found dead while in use, by the driver's exception; a rise means that the server or the network ends connections under the application.",
        labels=("error",),
        open_label=True,
    ),
    Metric(
        "closes_total",
        "counter",
        "connections",
        "Connections ended by the pool, by reason; the reason that rises names the cause of churn.",
        labels=("reason",),
        values=CLOSE_REASONS,
    ),
    Metric(
        "invalidations_total",
        "counter",
        "invalidations",
        "Explicit invalidate() calls by kind; a rise means that application code gives up on connections.",
        labels=("kind",),
        values=INVALIDATION_KINDS,
    ),
    Metric(
        "pre_ping_failures_total",
        "counter",
        "errors",
        "Pre-pings that found a connection dead; a steady rise means that idle connections die, so pool_recycle belongs below the age at which they do.",
    ),
    Metric(
        "reset_failures_total",
        "counter",
        "errors",
        "Resets on return that failed, after which the connection is closed; a rise means that connections come back broken.",
    ),
    Metric(
        "leaks_suspected_total",
        "counter",
        "uses",
        "Uses that went past the LeakPolicy while nothing was done with them, each once and by its first kind; a rise means that connections are held and forgotten.",
        labels=("kind",),
        values=SUSPICION_KINDS,
    ),
    Metric(
        "leaks_recovered_total",
        "counter",
        "uses",
        "Suspected uses that ended normally after all; equal to the suspected ones, connections are held too long but do come back.",
        labels=("kind",),
        values=SUSPICION_KINDS,
    ),
    Metric(
        "leaks_collected_total",
        "counter",
        "uses",
        "Uses dropped without close() and ended by the garbage collector; any rise is a certain leak in the application.",
        basic=True,
    ),
    Metric(
        "statements_total",
        "counter",
        "statements",
        "Statements executed on the pool's connections.",
    ),
    Metric(
        "owner_connections",
        "gauge",
        "connections",
        "Connections held now by owner: the request's route, the name given to owner(), or the acquiring function; the largest says who fills the pool.",
        labels=("owner",),
        open_label=True,
    ),
    Metric(
        "owner_use_seconds_total",
        "counter",
        "seconds",
        "Seconds of use by owner, uses in progress included; its rate is the mean number of connections that the owner holds.",
        labels=("owner",),
        open_label=True,
    ),
    Metric(
        "owner_leaks_total",
        "counter",
        "uses",
        "Uses suspected or collected as leaks by owner, each once; a rise names the code that does not give back.",
        labels=("owner",),
        open_label=True,
    ),
    Metric(
        "telemetry_errors_total",
        "counter",
        "errors",
        "Failures inside this library, kept from the application; any rise means that these numbers may be wrong, and the log says why.",
    ),
    Metric(
        "wait_seconds",
        "histogram",
        "seconds",
        "Time from asking for a connection to having it, successful acquires only; a rising tail means that callers wait.",
        buckets=_WAIT,
        convention="db.client.connection.wait_time",
        basic=True,
    ),
    Metric(
        "use_seconds",
        "histogram",
        "seconds",
        "Time from having a connection to giving it back; a rising tail means that connections are held longer, which fills the pool.",
        buckets=_USE,
        convention="db.client.connection.use_time",
        basic=True,
    ),
    Metric(
        "connect_seconds",
        "histogram",
        "seconds",
        "Time to establish a connection, dialect initialisation included; a rise means that the server or the network is slow to accept.",
        buckets=_CONNECT,
        convention="db.client.connection.create_time",
    ),
    Metric(
        "pre_ping_seconds",
        "histogram",
        "seconds",
        "Time of pre-pings that ended, well or badly; a rise means that each acquire pays more for the check.",
        buckets=_PING,
    ),
    Metric(
        "stale_idle_seconds",
        "histogram",
        "seconds",
        "How long connections had been idle when they were found dead; the smallest values show the idle timeout that kills them.",
        buckets=_STALE,
    ),
    Metric(
        "stale_age_seconds",
        "histogram",
        "seconds",
        "Age since connect of connections found dead; pool_recycle, which acts on age, belongs below the smallest values.",
        buckets=_STALE,
    ),
)
"""Every metric, in the order in which it is exported."""


def prometheus_metrics(detail: Detail = "full") -> tuple[Metric, ...]:
    """Return the metrics that are exported to Prometheus at a level of detail."""
    return tuple(m for m in CATALOGUE if m.in_prometheus and (detail == "full" or m.basic))


def opentelemetry_metrics(detail: Detail = "full") -> tuple[Metric, ...]:
    """Return the metrics that are exported to OpenTelemetry at a level of detail."""
    return tuple(metric for metric in CATALOGUE if detail == "full" or metric.basic)


def series_per_pool(detail: Detail = "full") -> int:
    """Return how many Prometheus series one pool has, `error` labels aside.

    A bounded pool with a timeout and a recycle age has all of them, one without a recycle age one
    less, a NullPool several.
    """
    total = 0
    for metric in prometheus_metrics(detail):
        if metric.kind == "histogram":
            total += len(metric.buckets) + 3  # +Inf, _sum and _count
        elif not metric.open_label:
            total += max(1, len(metric.values))
    return total
