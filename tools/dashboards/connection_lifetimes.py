"""The panels about a pool's connections: when do they begin, why do they end, and which die unnoticed?"""

from __future__ import annotations

from tools.dashboards.panels import RATE, Builder, Line, Words, graph
from tools.dashboards.queries import SCRAPED


def connects() -> Builder:
    """Return how many connections begin and end."""
    words = Words(
        "Connections established, and ended for any reason, a second.",
        "near 0 once the pool is warm.",
        "a steady rate is churn: the reasons beside say why, and pool_size or pool_recycle cures it.",
    )
    lines = [
        Line(SCRAPED.total_rate("connects_total"), "connects", "blue"),
        Line(SCRAPED.total_rate("closes_total"), "closes", "orange"),
    ]
    return graph("Connects and closes", words, "ops", lines)


def closes() -> Builder:
    """Return for which reasons connections end."""
    words = Words(
        "Why connections ended, a second: the five commonest reasons.",
        "overflow at peaks, recycle now and then.",
        "overflow all the time: raise pool_size. pre_ping or disconnect: the server or a proxy ends them. lost: a leak that the collector took.",
    )
    lines = [Line(f"topk(5, sum by (<<.reason>>) (rate(<<closes_total>>[{RATE}])) > 0)", "{{<<.reason>>}}")]
    return graph("Closes by reason", words, "ops", lines, bars=True, empty="Nothing closed")


def errors() -> Builder:
    """Return what the driver says when connecting fails, or a connection in use is dead."""
    words = Words(
        "Failed connects, and connections found dead while in use, a second, by the driver's exception.",
        "no bar.",
        "failed connects: is the database up, has it a free connection, is the password right? Disconnects: did it restart or fail over?",
    )
    lines = [
        Line(
            f"topk(3, sum by (<<.error>>) (rate(<<connect_errors_total>>[{RATE}])) > 0)",
            "connect: {{<<.error>>}}",
        ),
        Line(
            f"topk(2, sum by (<<.error>>) (rate(<<disconnects_total>>[{RATE}])) > 0)",
            "in use: {{<<.error>>}}",
        ),
    ]
    return graph("Connect errors and disconnects", words, "ops", lines, bars=True, empty="No errors")


def pings() -> Builder:
    """Return how many pre-pings find a dead connection."""
    words = Words(
        "Pre-pings that found a connection dead, a second.",
        "no bar, or a few after a restart of the database.",
        "a steady rate means that idle connections die: set pool_recycle below the age at which they do, see beside.",
    )
    lines = [Line(f"{SCRAPED.total_rate('pre_ping_failures_total')} > 0", "failed pre-pings", "red")]
    return graph("Dead at the pre-ping", words, "ops", lines, bars=True, empty="No errors")


def ping_cost() -> Builder:
    """Return what pre-pings cost, beside what is done in between."""
    words = Words(
        "Seconds a second that callers spend on pre-pings: the mean number of connections that are being checked.",
        "small against the uses of the pool.",
        "a large part means many short uses over a slow network: give connections back less often, or leave pre-ping out.",
    )
    lines = [
        Line(SCRAPED.total_rate("pre_ping_seconds_sum"), "pinging", "purple"),
        Line(SCRAPED.total_rate("use_seconds_sum"), "in use, of those that came back", "blue"),
    ]
    return graph("What pre-pings cost", words, "short", lines)


def stale() -> Builder:
    """Return how old and how long idle connections were that were found dead."""
    words = Words(
        "Of connections found dead, how long the first tenth had been idle and how old it was, and the pool_recycle that is set.",
        "nothing is found dead.",
        "set pool_recycle below the age; an idle time that is always the same is a timeout of the server, a proxy or a firewall.",
    )
    lines = [
        Line(SCRAPED.quantile(0.1, "stale_age_seconds"), "age, p10", "orange"),
        Line(SCRAPED.quantile(0.1, "stale_idle_seconds"), "idle, p10", "yellow"),
        Line("min(<<recycle_seconds>>)", "pool_recycle", "text", dashed=True),
    ]
    return graph("When connections die", words, "s", lines, empty="None found dead")
