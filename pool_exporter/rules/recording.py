"""Declare the recording rules: every name of a recorded series, once, and how it is computed (pure).

Two levels: `instance_pool:` has an alert's labels (`job` and `pool`, unless others are chosen) and
the instance, `job_pool:` the alert's labels alone. Names do not change with the labels chosen, so that dashboards
find them. Numerators and denominators are recorded apart: ratios of sums can still be formed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pool_exporter.rules.words import Words

Level = Literal["instance_pool", "job_pool", "instance"]
_STEMS = {"prometheus": "sqlalchemy_pool_", "opentelemetry": "db_client_connection_"}
RATE_SECONDS = 300.0
"""The window of every recorded rate; the names say 5m."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Describe one recorded series: `metric` is of the catalogue, or else a new word (`derived`)."""

    key: str
    level: Level
    metric: str
    operation: str
    expression: Callable[[Words], str]
    derived: bool = False

    def name(self, words: Words) -> str:
        """Return the recorded series' name."""
        if self.derived:
            metric = _STEMS[words.vocabulary.name] + self.metric
        else:
            suffix = "_bucket" if self.operation.startswith("bucket_") else ""
            metric = words.vocabulary.metric(self.metric) + suffix
        operation = self.operation.removeprefix("bucket_")
        if operation.startswith("rate"):
            metric = metric.removesuffix("_total")
        return f"{self.level}:{metric}:{operation}"


def recorded(words: Words, key: str, **labels: str) -> str:
    """Return a selector of a recorded series, by its key."""
    return words.series(name_of(words, key), **labels)


def name_of(words: Words, key: str) -> str:
    """Return a recorded series' name by its key; raise `KeyError` for one that is not there."""
    return RECORDINGS[key].name(words)


def _instance_sum(metric: str, *labels: str) -> Callable[[Words], str]:
    def expression(words: Words) -> str:
        by = ", ".join(filter(None, (words.instance, words.labels(labels))))
        return f"sum by ({by}) ({words.metric(metric)})"

    return expression


def _slots_taken(words: Words) -> str:
    """Return what takes the slots of a pool: four different sets of series, added up.

    A use of a disposed pool takes no slot of the live one, so overdue ones (the others come back
    soon) are taken off. A slot that is lost is taken for good. A negative count of those is a
    moment's, and says nothing.
    """
    return (
        f"sum by ({words.instance}) (\n"
        f"  {words.metric('connections', state='used')}\n"
        f"  or {words.metric('pending_requests', phase='connecting|pinging')}\n"
        f"  or clamp_min({words.metric('unaccounted_slots')}, 0)\n"
        f"  or -{words.metric('overdue_uses', kind='orphaned')}\n"
        ")"
    )


def _saturation(words: Words) -> str:
    return f"{recorded(words, 'slots_taken')} / ({recorded(words, 'connections_max')} > 0)"


def _leak_suspects(words: Words) -> str:
    return (
        f"sum by ({words.instance}) ({recorded(words, 'overdue', kind='idle|idle_in_transaction|orphaned')})"
    )


def _leak_share(words: Words) -> str:
    """Return the part of the live pool's uses that are overdue and at no work.

    A busy overdue use is long work, no leak; an orphaned one is a leak, but of a pool that is gone.
    """
    used, orphaned = recorded(words, "connections", state="used"), recorded(words, "overdue", kind="orphaned")
    return (
        f"sum by ({words.instance}) ({recorded(words, 'overdue', kind='idle|idle_in_transaction')})\n"
        "/\n"
        f"(sum by ({words.instance}) ({used} or -{orphaned}) > 0)"
    )


def _pools(words: Words) -> str:
    return f"count by ({words.target}) ({recorded(words, 'slots_taken')})"


def _instance_rate(metric: str) -> Callable[[Words], str]:
    return lambda words: f"sum by ({words.instance}) (rate({words.metric(metric)}{words.over(RATE_SECONDS)}))"


_INSTANCE = (
    Recording("connections", "instance_pool", "connections", "sum", _instance_sum("connections", "state")),
    Recording("connections_max", "instance_pool", "connections_max", "sum", _instance_sum("connections_max")),
    Recording("processes", "instance_pool", "processes", "sum", _instance_sum("processes")),
    Recording(
        "pending", "instance_pool", "pending_requests", "sum", _instance_sum("pending_requests", "phase")
    ),
    Recording("overdue", "instance_pool", "overdue_uses", "sum", _instance_sum("overdue_uses", "kind")),
    Recording("slots_taken", "instance_pool", "slots_taken", "sum", _slots_taken, derived=True),
    Recording("saturation", "instance_pool", "saturation", "ratio", _saturation, derived=True),
    Recording(
        "mean_uses",
        "instance_pool",
        "occupancy_seconds_total",
        "rate5m",
        _instance_rate("occupancy_seconds_total"),
    ),
    Recording("leak_suspects", "instance_pool", "leak_suspects", "sum", _leak_suspects, derived=True),
    Recording("leak_share", "instance_pool", "leak_share", "ratio", _leak_share, derived=True),
    Recording("pools", "instance", "pools", "count", _pools, derived=True),
)


def _group_sum(key: str, *labels: str) -> Callable[[Words], str]:
    def expression(words: Words) -> str:
        by = ", ".join(filter(None, (words.group, words.labels(labels))))
        return f"sum by ({by}) ({recorded(words, key)})"

    return expression


def _group_rate(metric: str, *labels: str) -> Callable[[Words], str]:
    def expression(words: Words) -> str:
        by = ", ".join(filter(None, (words.group, *map(words.label, labels))))
        return f"sum by ({by}) (rate({words.metric(metric)}{words.over(RATE_SECONDS)}))"

    return expression


def _rate(metric: str, *labels: str) -> Recording:
    key = f"{metric.removesuffix('_total')}_rate"
    return Recording(key, "job_pool", metric, "rate5m", _group_rate(metric, *labels))


def _histogram(metric: str) -> Recording:
    expression = _group_rate(f"{metric}_bucket", "le")
    return Recording(f"{metric}_bucket_rate", "job_pool", metric, "bucket_rate5m", expression)


def _worst_saturation(words: Words) -> str:
    return f"max by ({words.group}) ({recorded(words, 'saturation')})"


def _instances(words: Words) -> str:
    return f"count by ({words.group}) ({recorded(words, 'slots_taken')})"


def _server_maxima(words: Words) -> str:
    """Return what each server may get; `info` says which it is, and has the value 1."""
    server = words.label("server")
    return (
        f"sum by ({words.group}, {server}) (\n"
        f"  {recorded(words, 'connections_max')}\n"
        f"  * on ({words.instance}) group_left ({server})\n"
        f"  max by ({words.instance}, {server}) ({words.metric('info')})\n"
        ")"
    )


_GROUP = (
    Recording("group_connections", "job_pool", "connections", "sum", _group_sum("connections", "state")),
    Recording("group_connections_max", "job_pool", "connections_max", "sum", _group_sum("connections_max")),
    Recording("group_pending", "job_pool", "pending_requests", "sum", _group_sum("pending", "phase")),
    Recording("group_overdue", "job_pool", "overdue_uses", "sum", _group_sum("overdue", "kind")),
    Recording("group_slots_taken", "job_pool", "slots_taken", "sum", _group_sum("slots_taken"), derived=True),
    Recording("group_mean_uses", "job_pool", "occupancy_seconds_total", "rate5m", _group_sum("mean_uses")),
    Recording("worst_saturation", "job_pool", "saturation", "max", _worst_saturation, derived=True),
    Recording("instances", "job_pool", "instances", "count", _instances, derived=True),
    Recording(
        "server_connections_max", "job_pool", "server_connections_max", "sum", _server_maxima, derived=True
    ),
    _rate("acquires_total"),
    _rate("checkouts_total"),
    _rate("timeouts_total"),
    _rate("failed_acquires_total"),
    _rate("cancelled_acquires_total"),
    _rate("queue_seconds_total"),
    _rate("connects_total"),
    _rate("closes_total", "reason"),
    _rate("pre_ping_failures_total"),
    _histogram("wait_seconds"),
    _histogram("use_seconds"),
    _histogram("connect_seconds"),
)

RECORDINGS = {one.key: one for one in (*_INSTANCE, *_GROUP)}
"""Every recording, by the key that alerts and dashboards refer to it with."""
ALERT_RECORDINGS = _INSTANCE
"""What the alerts are made of."""
DASHBOARD_RECORDINGS = _GROUP
"""What keeps dashboards off raw series."""
