"""Declare the opt-in alerts about connections and their database (pure)."""

from __future__ import annotations

from pool_exporter.monitoring.rules.alert import Alert, Made
from pool_exporter.monitoring.rules.conditions import age
from pool_exporter.monitoring.rules.numbers import percent
from pool_exporter.monitoring.rules.recording import RATE_SECONDS, recorded
from pool_exporter.monitoring.rules.settings import TINY, lasting, number, share, window
from pool_exporter.monitoring.rules.wording import (
    asked,
    increases,
    increases_of,
    instances,
    label,
    own,
    the_pool,
    with_own,
)

_DIED = "disconnect|pool_invalidated|pre_ping"
_WITHIN_REACH = ("job", "pool", "instance", "pod", "container", "process")
"""Labels whose bearers share a server; what else alerts are grouped by is a place, which has servers of its own."""


def _young(made: Made) -> str:
    """Return the instances that have started lately: they connect because they are new."""
    return f"{age(made)} < {made.seconds('young')}"


def _storm(made: Made) -> str:
    words = made.words
    died = increases(made, "closes_total", "window", words.instance, reason=_DIED)
    connects = increases(made, "connects_total", "window", words.instance)
    settled = f"{age(made)} >= {made.seconds('young')}"
    reconnecting = f"count by ({words.group}) (\n  {died} > 0\n  and\n  {connects} > 0\n  and\n  {settled}\n)"
    dead = f"sum by ({words.group}) ({recorded(words, 'closes_rate', reason=_DIED)})"
    seconds = f"{RATE_SECONDS / words.time_scale:g}"
    return (
        f"({reconnecting} >= {made.text('instances')})\n/\n(count by ({words.group}) ({settled}) > 0)\n"
        f">= {made.text('share')}\nand\n{dead} * {seconds} >= {made.text('connections')}"
    )


def _storm_description(made: Made) -> str:
    return (
        f"{{{{ $value | humanizePercentage }}}} of the instances of {the_pool(made.words)} lost connections and "
        "connected again at once. Connections found dead, by instance: "
        f"{increases_of(made, 'closes_total', 'window', reason=_DIED)}."
    )


def _stale(made: Made) -> str:
    words = made.words
    by_pings, in_use = (
        made.summed(recorded(words, key), "window") for key in ("pre_ping_failures_rate", "disconnects_rate")
    )
    # Each of the two may be missing: the first in reduced mode, the second until there is one.
    return f"(\n  {by_pings} + ({in_use})\n  or {by_pings}\n  or {in_use}\n)\n>= {made.text('failures')}"


def _stale_description(made: Made) -> str:
    return (
        f"About {{{{ $value | printf `%.0f` }}}} connection(s) of {the_pool(made.words)} were found dead, and that has "
        "gone on for hours: something behind the pool (the server, a firewall, a proxy such as PgBouncer) ends idle "
        f"connections before pool_recycle does. Found by pre-pings: {increases_of(made, 'pre_ping_failures_total', 'window')}. "
        f"Found in use, at the price of an error: {increases_of(made, 'disconnects_total', 'window')}."
    )


def _churn(made: Made) -> str:
    words = made.words

    def rate(key: str) -> str:
        return f"avg_over_time({recorded(words, key)}{made.over('window')})"

    unpooled = f"count by ({words.group}) ({words.metric('info', pool_class='NullPool')})"
    young = f"count by ({words.group}) ({_young(made)}) / ({recorded(words, 'instances')} > 0)"
    return (
        f"{rate('connects_rate')} / ({rate('checkouts_rate')} > 0) > {made.text('share')}\n"
        f"and\n{rate('connects_rate')} > {made.text('rate')}\n"
        f"unless\n{young} > {made.text('young_share')}\nunless\n{unpooled}"
    )


def _churn_description(made: Made) -> str:
    words, window = made.words, made.over("window")
    by = words.label("reason")
    closes = f"sum by ({by}) (avg_over_time({own(words, 'closes_rate')}{window}))"
    each = "{{ $one.Labels." + by + " }} ({{ $one.Value | printf `%.2f` }} a second)"
    reasons = asked(words, f"sort_desc(topk(3, {closes} > 0))", each, "not known")
    return (
        f"{{{{ $value | humanizePercentage }}}} of the acquires of {the_pool(words)} open a new connection. "
        f"Connections end because of: {reasons}."
    )


def _ping(made: Made) -> str:
    words, window = made.words, made.over("window")

    def rate(name: str) -> str:
        return f"sum by ({words.group}) (rate({words.metric(name)}{window}))"

    return (
        f"{rate('pre_ping_seconds_sum')}\n/\n({rate('wait_seconds_sum')} + {rate('use_seconds_sum')} > 0)\n"
        f"> {made.text('share')}\nand\n{rate('pre_ping_seconds_count')} > {made.text('rate')}"
    )


def _ping_description(made: Made) -> str:
    words, window = made.words, made.over("window")
    spent = (
        f"sum by ({words.label('instance')}) (rate({with_own(words.metric('pre_ping_seconds_sum'))}{window}))"
    )
    return (
        f"Pre-pings take {{{{ $value | humanizePercentage }}}} of the time that callers of {the_pool(words)} "
        "spend on waiting for connections and using them. Seconds of pings a second, by instance: "
        f"{instances(words, f'{spent} > 0', 'printf `%.2f`')}."
    )


def _of_server(made: Made) -> tuple[str, ...]:
    """Return the labels that tell servers apart: of two clusters each may have a `db:5432`."""
    return (*(name for name in made.words.group_by if name not in _WITHIN_REACH), "server")


def _capacity(made: Made) -> str:
    words = made.words
    maxima = f"max_over_time({recorded(words, 'server_connections_max')}{made.over('window')})"
    by = words.labels(_of_server(made))
    return f"sum by ({by}) ({maxima}) > {made.text('share')} * {made.database_limit}"


def _capacity_description(made: Made) -> str:
    words, apart = made.words, _of_server(made)
    selector = f"{recorded(words, 'server_connections_max')}"
    selector = selector[:-1] + "," if selector.endswith("}") else selector + "{"
    selector += ",".join(f"{words.label(name)}=%q" for name in apart) + "}"
    by = ", ".join(words.label(name) for name in words.group_by)
    query = f"sort_desc(topk(5, sum by ({by}) (max_over_time({selector}{made.over('window')}))))"
    each = " ".join("{{ $one.Labels." + words.label(name) + " }}" for name in words.group_by)
    values = " ".join(f"$labels.{words.label(name)}" for name in apart)
    listed = (
        "{{ with query (printf `" + query + "` " + values + ") }}{{ range $index, $one := . }}"
        "{{ if $index }}, {{ end }}" + each + " ({{ $one.Value }}){{ end }}{{ else }}not known{{ end }}"
    )
    return (
        f"The pools may open {{{{ $value }}}} connections to {label(words, 'server')}, at the largest number of "
        f"instances of late, which is more than {percent(made.number('share'))} of what it allows. The largest: {listed}."
    )


DATABASE = (
    Alert(
        "FailoverStorm",
        "warning",
        (
            lasting(0.0, "it is over soon"),
            window(300.0, "at once means within it"),
            share("share", 0.5, "instances that reconnect, as a part of those that are not young"),
            number("instances", 2.0, "one instance alone is no storm", least=1.0),
            number(
                "connections",
                5.0,
                "connections found dead in all, so that a few stale ones are none",
                least=1.0,
            ),
            window(600.0, "an instance that started so lately is left out", name="young"),
        ),
        "Most instances lost their connections at once.",
        _storm,
        _storm_description,
    ),
    Alert(
        "StaleConnections",
        "info",
        (
            lasting(10800.0, "a failover is over by then"),
            window(3600.0, "no hour of it is without failures"),
            number(
                "failures", 2.0, "connections that a pre-ping or a use found dead, in the window", least=TINY
            ),
        ),
        "Idle connections die before they are recycled.",
        _stale,
        _stale_description,
    ),
    Alert(
        "ConnectionChurn",
        "warning",
        (
            lasting(900.0, "a burst that overflows is over by then"),
            window(900.0, "what the rates are taken over"),
            share("share", 0.2, "new connections as a part of the acquires"),
            number("rate", 0.1, "new connections a second; fewer cost nothing"),
            window(
                900.0,
                "an instance that started so lately is young, and connects because it is new",
                name="young",
            ),
            share("young_share", 0.1, "young instances, as a part of all, above which nothing is said"),
        ),
        "Connections are opened and thrown away.",
        _churn,
        _churn_description,
    ),
    Alert(
        "PrePingCost",
        "info",
        (
            lasting(1800.0, "a slow moment of the network is over by then"),
            window(300.0, "what the rates are taken over"),
            share("share", 0.1, "time of pings as a part of the time of waits and uses"),
            number("rate", 0.1, "pings a second; fewer cost nothing"),
        ),
        "Pre-pings take much of the callers' time.",
        _ping,
        _ping_description,
    ),
    Alert(
        "CapacityAboveDatabase",
        "warning",
        (
            lasting(
                900.0,
                "nothing is in a hurry; it spares no overlap of old and new instances, which the window remembers and which takes connections too",
            ),
            window(86400.0, "the largest number of instances in it counts"),
            share("share", 0.95, "a few connections are the administrator's", most=10.0),
        ),
        "Pools may open more connections than their database allows.",
        _capacity,
        _capacity_description,
        about="server",
    ),
)
