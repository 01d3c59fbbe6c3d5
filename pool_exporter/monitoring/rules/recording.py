"""Declare the recording rules: every name of a recorded series, once, and how it is computed (pure).

Two levels: `instance_pool:` has an alert's labels (`job` and `pool`, unless others are chosen) and
the instance, `job_pool:` the alert's labels alone. Names do not change with the labels chosen, so that dashboards
find them. Numerators and denominators are recorded apart: ratios of sums can still be formed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pool_exporter.monitoring.rules.alert import Made
from pool_exporter.monitoring.rules.words import Words

Level = Literal["instance_pool", "job_pool", "instance"]
Expression = Callable[[Made], str]
_STEMS = {"prometheus": "sqlalchemy_pool_", "opentelemetry": "db_client_connection_"}
RATE_SECONDS = 300.0
"""The window of every recorded rate; the names say 5m."""
_LATELY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Recording:
    """Describe one recorded series: `metric` is of the catalogue, or else a new word (`derived`)."""

    key: str
    level: Level
    metric: str
    operation: str
    expression: Expression
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


def lately(words: Words, key: str) -> str:
    """Return a recorded series over a failed scrape, which takes the series away for a moment."""
    return f"max_over_time({recorded(words, key)}{words.over(_LATELY_SECONDS)})"


def _instance_sum(metric: str, **labels: str) -> Expression:
    return lambda made: f"sum by ({made.words.instance}) ({made.words.metric(metric, **labels)})"


def _slots_taken(made: Made) -> str:
    """Return what takes the slots of a pool: four different sets of series, added up.

    A use of a disposed pool takes no slot of the live one, so overdue ones (the others come back
    soon) are taken off. A slot that is lost is taken for good. A negative count of those is a
    moment's, and says nothing.
    """
    words = made.words
    return (
        f"sum by ({words.instance}) (\n"
        f"  {words.metric('connections', state='used')}\n"
        f"  or {words.metric('pending_requests', phase='connecting|pinging')}\n"
        f"  or clamp_min({words.metric('unaccounted_slots')}, 0)\n"
        f"  or -{words.metric('overdue_uses', kind='orphaned')}\n"
        ")"
    )


def _saturation(made: Made) -> str:
    return f"{recorded(made.words, 'slots_taken')} / ({recorded(made.words, 'connections_max')} > 0)"


def _leak_share(made: Made) -> str:
    """Return the part of the live pool's uses that are overdue and at no work.

    A busy overdue use is long work, no leak; an orphaned one is a leak, but of a pool that is gone. Where several
    workers are added up, one may be leaked whole beside others at work: all are taken to be one worker's.
    """
    words = made.words
    used, orphaned = words.metric("connections", state="used"), words.metric("overdue_uses", kind="orphaned")
    suspects = f"sum by ({words.instance}) ({words.metric('overdue_uses', kind='idle|idle_in_transaction')})"
    return (
        f"clamp_max(\n  {suspects}\n"
        f"  * ({recorded(words, 'processes')} > 1) / ({recorded(words, 'connections_max')} > 0), 1\n)\n"
        f"or\n{suspects}\n/\n(sum by ({words.instance}) ({used} or -{orphaned}) > 0)"
    )


def _full(made: Made) -> str:
    """Return the pools that are full most of the time and make callers queue or time out; there are few.

    The median bridges a moment and lengthens nothing: after a restart it is gone as soon as it came.
    """
    window, words = made.over("Full.window"), made.words
    return (
        f"quantile_over_time(0.5, {recorded(words, 'saturation')}{window}) * {lately(words, 'processes')}"
        f" >= {made.text('Full.saturation')}\n"
        "and\n"
        f"(\n  quantile_over_time(0.5, {recorded(words, 'queued')}{window}) >= {made.text('Full.queued')}\n"
        f"  or\n  sum by ({words.instance}) (increase({words.metric('timeouts_total')}{window})) > 0\n)"
    )


def _served(made: Made) -> str:
    words = made.words
    rise = f"increase({words.metric('checkouts_total')}{made.over('Full.window')})"
    return f"sum by ({words.instance}) ({rise})"


def _mean_uses(made: Made) -> str:
    words = made.words
    rate = f"rate({words.metric('occupancy_seconds_total')}{words.over(RATE_SECONDS)})"
    return f"sum by ({words.instance}) ({rate})"


def _pools(made: Made) -> str:
    return f"count by ({made.words.target}) ({recorded(made.words, 'slots_taken')})"


def _derived(key: str, operation: str, expression: Expression) -> Recording:
    return Recording(key, "instance_pool", key, operation, expression, derived=True)


INSTANCE = (
    Recording("connections_max", "instance_pool", "connections_max", "sum", _instance_sum("connections_max")),
    Recording("processes", "instance_pool", "processes", "sum", _instance_sum("processes")),
    _derived("queued", "sum", _instance_sum("pending_requests", phase="queued")),
    _derived("opening", "sum", _instance_sum("pending_requests", phase="connecting|pinging")),
    _derived("served", "sum", _served),
    _derived("slots_taken", "sum", _slots_taken),
    _derived("saturation", "ratio", _saturation),
    Recording("mean_uses", "instance_pool", "occupancy_seconds_total", "rate5m", _mean_uses),
    _derived("leak_suspects", "sum", _instance_sum("overdue_uses", kind="idle|idle_in_transaction|orphaned")),
    _derived("leak_share", "ratio", _leak_share),
    _derived("full", "ratio", _full),
)
"""What the alerts are made of."""

PRESENCE = (Recording("pools", "instance", "pools", "count", _pools, derived=True),)
"""What tells later that an instance had pools: looked back over for hours, so recorded seldom."""


def _group_sum(metric: str, *labels: str) -> Expression:
    def expression(made: Made) -> str:
        return f"sum by ({_by(made, labels)}) ({made.words.metric(metric)})"

    return expression


def _group_max(metric: str) -> Expression:
    return lambda made: f"max by ({made.words.group}) ({made.words.metric(metric)})"


def _of_recorded(key: str, operation: str = "sum") -> Expression:
    return lambda made: f"{operation} by ({made.words.group}) ({recorded(made.words, key)})"


def _by(made: Made, labels: tuple[str, ...]) -> str:
    return ", ".join((made.words.group, *map(made.words.label, labels)))


def _group_rate(metric: str, *labels: str) -> Expression:
    def expression(made: Made) -> str:
        return (
            f"sum by ({_by(made, labels)}) (rate({made.words.metric(metric)}{made.words.over(RATE_SECONDS)}))"
        )

    return expression


def _rate(metric: str, *labels: str) -> Recording:
    key = f"{metric.removesuffix('_total')}_rate"
    return Recording(key, "job_pool", metric, "rate5m", _group_rate(metric, *labels))


def _histogram(metric: str) -> Recording:
    expression = _group_rate(f"{metric}_bucket", "le")
    return Recording(f"{metric}_bucket_rate", "job_pool", metric, "bucket_rate5m", expression)


def _server_maxima(made: Made) -> str:
    return _by_server(made, recorded(made.words, "connections_max"))


def _server_connections(made: Made) -> str:
    return _by_server(made, _instance_sum("connections")(made))


def _by_server(made: Made, each: str) -> str:
    """Return what each server gets of what each instance has; `info` says which it is, and has the value 1.

    One of an instance's: after a restart that changed it, what was pushed before may linger.
    """
    words = made.words
    server = words.label("server")
    return (
        f"sum by ({words.group}, {server}) (\n"
        f"  {each}\n"
        f"  * on ({words.instance}) group_left ({server})\n"
        f"  topk by ({words.instance}) (1, {words.metric('info')})\n"
        ")"
    )


def _of_group(key: str, metric: str, operation: str, expression: Expression) -> Recording:
    return Recording(key, "job_pool", metric, operation, expression, derived=True)


GROUP = (
    Recording("group_connections", "job_pool", "connections", "sum", _group_sum("connections", "state")),
    Recording("group_connections_max", "job_pool", "connections_max", "sum", _of_recorded("connections_max")),
    Recording(
        "group_pending", "job_pool", "pending_requests", "sum", _group_sum("pending_requests", "phase")
    ),
    Recording("group_overdue", "job_pool", "overdue_uses", "sum", _group_sum("overdue_uses", "kind")),
    Recording("group_mean_uses", "job_pool", "occupancy_seconds_total", "rate5m", _of_recorded("mean_uses")),
    _of_group("group_slots_taken", "slots_taken", "sum", _of_recorded("slots_taken")),
    _of_group("worst_saturation", "saturation", "max", _of_recorded("saturation", "max")),
    _of_group("instances", "instances", "count", _of_recorded("slots_taken", "count")),
    _of_group("server_connections_max", "server_connections_max", "sum", _server_maxima),
    _rate("acquires_total"),
    _rate("checkouts_total"),
    _rate("timeouts_total"),
    _rate("failed_acquires_total"),
    _rate("cancelled_acquires_total"),
    _rate("queue_seconds_total"),
    _rate("connects_total"),
    _rate("pre_ping_failures_total"),
    _rate("disconnects_total"),
)
"""What keeps dashboards off raw series, and what opt-in alerts look back over for long."""

FLEET = (
    Recording("oldest_use", "job_pool", "oldest_use_seconds", "max", _group_max("oldest_use_seconds")),
    Recording(
        "oldest_pending", "job_pool", "oldest_pending_seconds", "max", _group_max("oldest_pending_seconds")
    ),
    Recording("group_aged", "job_pool", "aged_uses", "sum", _group_sum("aged_uses", "age")),
    Recording("last_start", "job_pool", "start_time_seconds", "max", _group_max("start_time_seconds")),
    _of_group("server_connections", "server_connections", "sum", _server_connections),
    _rate("leaks_collected_total"),
)
"""What else the dashboard of all pools shows."""

REASONS = (_rate("closes_total", "reason"),)
HISTOGRAMS = (_histogram("wait_seconds"), _histogram("use_seconds"), _histogram("connect_seconds"))
"""Both the same, but by far the most series, so recorded less often, and each by itself."""

RECORDINGS = {one.key: one for one in (*INSTANCE, *PRESENCE, *GROUP, *FLEET, *REASONS, *HISTOGRAMS)}
"""Every recording, by the key that alerts and dashboards refer to it with."""
