"""Make synthetic pool snapshots whose every number is known."""

from __future__ import annotations

from typing import Any

from pool_exporter.catalogue import (
    AGES_SECONDS,
    CLOSE_REASONS,
    OVERDUE_KINDS,
    SUSPICION_KINDS,
    resolve_buckets,
)
from pool_exporter.records import HistogramSnapshot, PoolSnapshot

BUCKETS = resolve_buckets(None)
INFO = {
    "dialect": "postgresql",
    "driver": "asyncpg",
    "pool_class": "AsyncAdaptedQueuePool",
    "pre_ping": "true",
    "reset_on_return": "rollback",
    "server": "db:5432",
}
"""What a snapshot says of its engine, besides the database."""


def histogram(name: str, *, above_all: int = 0, sum_seconds: float = 0.0) -> HistogramSnapshot:
    """Make a histogram with 1, 2, 3 … samples in the catalogue's buckets and `above_all` beyond."""
    bounds = BUCKETS[name]
    return HistogramSnapshot(bounds, (*range(1, len(bounds) + 1), above_all), sum_seconds)


def snapshot(name: str = "db:5432/app", **changes: Any) -> PoolSnapshot:
    """Make a snapshot of a busy pool that has every series; `changes` replace single fields."""
    fields: dict[str, Any] = {
        "name": name,
        "mode": "full",
        "info": {**INFO, "database": "app", "mode": "full"},
        "used": 6,
        "idle": 1,
        "uses": 6,
        "size": 5,
        "max": 15,
        "pending_requests": {"queued": 3, "connecting": 2, "pinging": 1},
        "oldest_pending_seconds": 1.25,
        "oldest_use_seconds": 400.5,
        "oldest_quiet_seconds": 399.5,
        "aged_uses": {str(age): count for age, count in zip(AGES_SECONDS, (4, 3, 2, 1, 0), strict=True)},
        "overdue_uses": {kind: number for number, kind in enumerate(OVERDUE_KINDS)},
        "exempt_uses": 1,
        "orphaned_connections": 2,
        "unaccounted_slots": 0,
        "timeout_seconds": 30.0,
        "recycle_seconds": 1800.0,
        "start_time_seconds": 1700000000.5,
        "acquires": 1000,
        "checkouts": 980,
        "checkins": 970,
        "detaches": 3,
        "timeouts": 7,
        "cancelled_acquires": 5,
        "failed_acquires": 2,
        "waits": 100,
        "queue_seconds": 12.5,
        "stranded_waits": 4,
        "occupancy_seconds": 12345.75,
        "connects": 50,
        "connect_errors": {"asyncpg.exceptions.TooManyConnectionsError": 2},
        "disconnects": {"asyncpg.exceptions.ConnectionDoesNotExistError": 9, "other": 1},
        "closes": {reason: number for number, reason in enumerate(CLOSE_REASONS)},
        "invalidations": {"hard": 2, "soft": 1},
        "pre_ping_failures": 8,
        "reset_failures": 6,
        "leaks_suspected": {kind: number for number, kind in enumerate(SUSPICION_KINDS, 3)},
        "leaks_recovered": {kind: number for number, kind in enumerate(SUSPICION_KINDS, 1)},
        "leaks_collected": 1,
        "owner_connections": {"POST /orders/{id}": 5, "jobs:nightly": 1},
        "owner_use_seconds": {"POST /orders/{id}": 12000.5, "jobs:nightly": 345.25},
        "owner_leaks": {"POST /orders/{id}": 13, "jobs:nightly": 0},
        "statements": 5000,
        "telemetry_errors": 0,
        "adopted": 0,
        "wait_seconds": histogram("wait_seconds", above_all=4, sum_seconds=81.5),
        "use_seconds": histogram("use_seconds", sum_seconds=900.25),
        "connect_seconds": histogram("connect_seconds", sum_seconds=3.5),
        "pre_ping_seconds": histogram("pre_ping_seconds", sum_seconds=0.5),
        "stale_idle_seconds": histogram("stale_idle_seconds", sum_seconds=5000.0),
        "stale_age_seconds": histogram("stale_age_seconds", sum_seconds=90000.0),
    }
    return PoolSnapshot(**{**fields, **changes})
