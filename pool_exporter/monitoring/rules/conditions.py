"""Say in PromQL what several alerts mean by full, by callers that queue and by a leak (pure)."""

from __future__ import annotations

from pool_exporter.monitoring.rules.alert import Made
from pool_exporter.monitoring.rules.recording import recorded
from pool_exporter.monitoring.rules.settings import number, share, window

FULL = "Full"
"""The name under which the settings of these conditions are set: `Full.saturation`."""

SETTINGS = (
    share(
        "saturation",
        1.0,
        "slots taken as a part of all, in the median over the window; with several worker processes behind "
        "one series it is asked of one of them, since one full worker is enough to make its callers wait",
    ),
    number(
        "queued",
        1.0,
        "callers that wait, in the median over the window; one that has timed out in it does as well, which with a short pool_timeout no scrape may have met in the queue",
        least=1.0,
    ),
    window(
        120.0,
        "what the medians are taken over: a connection that changes hands, a scrape that fails or a moment without a "
        "caller does not make a full pool look free",
    ),
    share(
        "leak_share",
        0.5,
        "overdue uses that do nothing, as a part of all uses, that make it a leak; with several worker processes behind one series as a part of the slots of one, since one may be leaked whole",
    ),
    window(
        300.0,
        "how long a leak is remembered: longer than ExhaustedByLeak.for, so that a share that moves about the "
        "limit cannot keep both alerts from firing",
        least=120.0,
        name="leak_window",
    ),
)


def full(made: Made) -> str:
    """Return the instances whose pool is full and makes callers queue or time out."""
    return recorded(made.words, "full")


def leaking(made: Made) -> str:
    """Return the instances where overdue uses that do nothing are most of what is used."""
    return (
        f"max_over_time({recorded(made.words, 'leak_share')}{made.over('Full.leak_window')})"
        f" >= {made.text('Full.leak_share')}"
    )


def exhausted_by_leak(made: Made) -> str:
    """Return the number of instances that leaks have filled, for each group that has one."""
    return f"count by ({made.words.group}) (\n{full(made)}\nand\n{leaking(made)}\n)"


def age(made: Made) -> str:
    """Return how long ago each instance started, in seconds; nothing where that is not known."""
    return f"time() - max by ({made.words.instance}) ({made.words.metric('start_time_seconds')})"
