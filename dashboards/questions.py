"""Hold the expressions that several dashboards ask, so that one question has one answer everywhere."""

from __future__ import annotations

from dashboards.panels import RATE

USED = 'sum by (<<by>>) (<<connections{state="used"}>>)'
MAX = "sum by (<<by>>) (<<connections_max>>)"
QUEUED = 'sum by (<<by>>) (<<pending_requests{phase="queued"}>>)'
SUSPECTS = 'sum by (<<by>>) (<<overdue_uses{kind!="busy"}>>)'
"""Uses past the policy that do nothing: what looks like leaks."""
COLLECTED = f"sum by (<<by>>) (rate(<<leaks_collected_total>>[{RATE}]))"
FAILED = f"sum by (<<by>>) (rate(<<failed_acquires_total>>[{RATE}]))"

_TAKEN = 'sum by (<<by>>, instance) (<<connections{state="used"}>> or <<pending_requests{phase=~"connecting|pinging"}>>)'
SATURATION = f"max by (<<by>>) (({_TAKEN}) / (sum by (<<by>>, instance) (<<connections_max>>) > 0))"
"""How full the fullest process's pool is; connects that hang fill one too."""

_ENDED = " + ".join(
    f"sum(rate(<<{metric}>>[{RATE}]))"
    for metric in ("checkouts_total", "timeouts_total", "cancelled_acquires_total", "failed_acquires_total")
)
TIMEOUT_SHARE = f"sum(rate(<<timeouts_total>>[{RATE}])) / (({_ENDED}) > 0)"
"""The share of pool timeouts among acquires that ended; those begun would let it pass 1."""

FINE, BUSY, LOADED, FAILING, LEAKING, DRAINED = range(6)
STATES = {
    DRAINED: ("full by a leak", "dark-red"),
    LEAKING: ("leak, not full yet", "red"),
    FAILING: ("database fails", "purple"),
    LOADED: ("full by load", "orange"),
    BUSY: ("nearly full", "yellow"),
    FINE: ("fine", "green"),
}
_QUEUED_LATELY = f'sum by (<<by>>) (max_over_time(<<pending_requests{{phase="queued"}}>>[{RATE}]))'
"""Callers queue and are gone between two scrapes: a state that looked at one only would flip."""
STATE = " or ".join(
    [
        f"((({SUSPECTS}) > 0) and (({_QUEUED_LATELY}) > 0)) * 0 + {DRAINED}",
        f"(({SUSPECTS}) > 0) * 0 + {LEAKING}",
        f"(({COLLECTED}) > 0) * 0 + {LEAKING}",
        f"(({FAILED}) > 0) * 0 + {FAILING}",
        f"(({_QUEUED_LATELY}) > 0) * 0 + {LOADED}",
        f"(({SATURATION}) >= 0.8) * 0 + {BUSY}",
        f"({USED}) * 0 + {FINE}",
    ]
)
"""The state of each pool as a number of `STATES`, the worst that holds."""


def quantile(rank: float, histogram: str, by: str = "") -> str:
    """Return a quantile of a histogram of the catalogue, over all that is chosen or by some labels."""
    grouping = f"{by}, le" if by else "le"
    return f"histogram_quantile({rank:g}, sum by ({grouping}) (rate(<<{histogram}_bucket>>[{RATE}])))"


ESTIMATED = "Read off a histogram: between the bounds of a bucket it is estimated, so that it can lie above pool_timeout."
"""What the description of a quantile of waits says."""
WAIT_P99 = f"({quantile(0.99, 'wait_seconds')} >= 0) or max(<<oldest_pending_seconds>>)"
"""How long callers wait; where none gets a connection, how long the one that waits longest has waited."""


def total_rate(metric: str) -> str:
    """Return the rate of a counter over all that is chosen."""
    return f"sum(rate(<<{metric}>>[{RATE}]))"


def total_increase(metric: str) -> str:
    """Return by how much a counter rose in each interval, over all that is chosen."""
    return f"sum(increase(<<{metric}>>[{RATE}]))"
