"""Declare the opt-in alerts about a pool and its callers (pure)."""

from __future__ import annotations

from pool_exporter.monitoring.rules.alert import Alert, Made
from pool_exporter.monitoring.rules.conditions import full
from pool_exporter.monitoring.rules.recording import recorded
from pool_exporter.monitoring.rules.settings import TINY, holding, lasting, number, share, window
from pool_exporter.monitoring.rules.wording import (
    BEHIND,
    behind,
    holders,
    increases,
    increases_of,
    instances,
    own,
    the_pool,
    with_own,
)


def _timeouts(made: Made) -> str:
    """Return the pools that burn their budget; of the long window what is recorded, which is a few series."""
    words, long = made.words, made.over("window")
    limit = f"{made.number('burn') * made.number('budget'):g}"
    timeouts = f"sum_over_time({recorded(words, 'timeouts_rate')}{long})"
    acquires = f"sum_over_time({recorded(words, 'acquires_rate')}{long})"
    count = made.summed(recorded(words, "timeouts_rate"), "window")
    now = f"{recorded(words, 'timeouts_rate')} / ({recorded(words, 'acquires_rate')} > 0)"
    return (
        f"{timeouts} / ({acquires} > 0) > {limit}\nand\n{now} > {limit}\n"
        f"and\n{count} >= {made.text('timeouts')}"
    )


def _timeouts_description(made: Made) -> str:
    return (
        f"{{{{ $value | humanizePercentage }}}} of the acquires of {the_pool(made.words)} timed out, more than "
        f"{made.text('burn')} times what the budget allows. Timeouts by instance: "
        f"{increases_of(made, 'timeouts_total', 'window')}.{behind(made)}"
    )


def _stuck(made: Made) -> str:
    """Return the full pools where callers queue and none of them gets what comes back, since nothing does."""
    words = made.words
    served = increases(made, "checkouts_total", "window", words.instance)
    return f"count by ({words.group}) (\n  {full(made)}\n  unless\n  {served} > 0\n)"


def _stuck_description(made: Made) -> str:
    words = made.words
    return (
        f"{{{{ $value }}}} instance(s): {the_pool(words)} is full, callers queue or time out, and no connection has come back. "
        f"Callers queued: {instances(words, own(words, 'queued') + ' > 0')}. "
        f"Held by: {holders(words)}.{behind(made)}"
    )


def _slow(made: Made) -> str:
    busy = made.words.metric("overdue_uses", kind="busy")
    at_least = made.text("uses")
    return (
        f"sum by ({made.words.group}) (\n  {busy} >= {at_least}\n  and\n"
        f"  min_over_time({busy}{made.over('window')}) >= {at_least}\n)"
    )


def _slow_description(made: Made) -> str:
    words = made.words
    busy = f"sum by ({words.label('instance')}) ({with_own(words.metric('overdue_uses', kind='busy'))})"
    return (
        f"{{{{ $value }}}} use(s) of {the_pool(words)} have been in one statement or stream past the LeakPolicy's "
        f"busy time. {BEHIND} Instances: {instances(words, busy + ' > 0')}."
    )


def _stranded(made: Made) -> str:
    """Return the pools where callers slept on, and connects failed or were given up.

    A few sleep on for a moment where more connections come back at once than the pool keeps: no alarm.
    """
    by = made.words.group
    rise = increases(made, "stranded_waits_total", "window", by)
    failed = increases(made, "failed_acquires_total", "window", by)
    given_up = increases(made, "cancelled_acquires_total", "window", by)
    return f"{rise} >= {made.text('waits')}\nand\n({failed} > 0 or {given_up} > 0)"


def _stranded_description(made: Made) -> str:
    return (
        f"About {{{{ $value | printf `%.0f` }}}} caller(s) of {the_pool(made.words)} slept on in the queue although "
        f"capacity had come free, while others failed to connect. Instances: "
        f"{increases_of(made, 'stranded_waits_total', 'window')}."
    )


def _lost(made: Made) -> str:
    slots = made.words.metric("unaccounted_slots")
    return f"sum by ({made.words.group}) (\n  {slots} > 0\n  and\n  min_over_time({slots}{made.over('window')}) > 0\n)"


def _lost_description(made: Made) -> str:
    words = made.words
    slots = f"sum by ({words.label('instance')}) ({with_own(words.metric('unaccounted_slots'))})"
    return (
        f"{{{{ $value }}}} slot(s) of {the_pool(words)} are in nobody's hands and will not come back. "
        f"Instances: {instances(words, slots + ' > 0')}."
    )


def _errors(made: Made) -> str:
    return f"{increases(made, 'telemetry_errors_total', 'window', made.words.group)} > 0"


def _errors_description(made: Made) -> str:
    return (
        f"About {{{{ $value | printf `%.0f` }}}} failure(s) inside pool_exporter for {the_pool(made.words)}, kept from "
        "the application: its numbers may be wrong, and so may the other alerts. Instances: "
        f"{increases_of(made, 'telemetry_errors_total', 'window')}."
    )


POOL = (
    Alert(
        "Timeouts",
        "warning",
        (
            lasting(120.0, "the windows have waited long enough"),
            holding(300.0, "no second mail when the short window runs empty for a moment"),
            share("budget", 0.001, "part of the acquires that may time out: 99.9 % must not"),
            number(
                "burn", 14.4, "how many times faster than allowed: a month's budget in two days", least=1.0
            ),
            window(3600.0, "what the burn is judged over; that it goes on now, by the rate of five minutes"),
            number(
                "timeouts",
                5.0,
                "with little traffic, one timeout is a large part and means little",
                least=1.0,
            ),
        ),
        "Callers of a connection pool time out.",
        _timeouts,
        _timeouts_description,
    ),
    Alert(
        "Stuck",
        "critical",
        (
            lasting(120.0, "the window has waited long enough"),
            holding(600.0, "as long as Timeouts, which it mutes, and over a gap in the scrapes"),
            window(300.0, "in which nothing may have come back"),
        ),
        "A connection pool is full and nothing comes back.",
        _stuck,
        _stuck_description,
    ),
    Alert(
        "SlowUses",
        "info",
        (
            lasting(60.0, "two evaluations; the window has waited long enough"),
            window(600.0, "overdue at every moment of it"),
            number("uses", 1.0, "overdue uses of one instance", least=1.0),
        ),
        "Statements run for very long.",
        _slow,
        _slow_description,
    ),
    Alert(
        "StrandedWaiters",
        "warning",
        (
            lasting(0.0, "each has cost a caller time"),
            holding(900.0, "it is seen by whoever looks within that time"),
            window(300.0, "one is not missed in a gap of the scrapes that is as long"),
            number("waits", 1.0, "stranded waits in the window", least=TINY),
        ),
        "Callers wait in the queue although capacity is free.",
        _stranded,
        _stranded_description,
    ),
    Alert(
        "SlotsLost",
        "warning",
        (
            lasting(60.0, "two evaluations; the window has waited long enough"),
            window(600.0, "lost at every moment of it, which a return in progress is not"),
        ),
        "A connection pool has lost capacity for good.",
        _lost,
        _lost_description,
    ),
    Alert(
        "TelemetryErrors",
        "warning",
        (
            lasting(0.0, "one is a mistake"),
            holding(3600.0, "it is seen by whoever looks within the hour"),
            window(900.0, "one is not missed in a gap of the scrapes that is as long"),
        ),
        "pool_exporter has failed inside an application.",
        _errors,
        _errors_description,
    ),
)
