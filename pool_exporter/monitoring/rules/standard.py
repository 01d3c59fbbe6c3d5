"""Declare the six alerts that are on by default (pure)."""

from __future__ import annotations

from pool_exporter.monitoring.rules.alert import Alert, Made
from pool_exporter.monitoring.rules.conditions import exhausted_by_leak, full, leaking
from pool_exporter.monitoring.rules.numbers import percent
from pool_exporter.monitoring.rules.recording import lately, recorded
from pool_exporter.monitoring.rules.settings import holding, lasting, number, share, window
from pool_exporter.monitoring.rules.unreachable import UNREACHABLE
from pool_exporter.monitoring.rules.wording import (
    asked,
    behind,
    holders,
    instances,
    own,
    owners,
    the_pool,
    with_own,
)


def _leak_description(made: Made) -> str:
    words = made.words
    share = f"max_over_time({own(words, 'leak_share')}{made.over('Full.leak_window')})"
    full_ones = instances(words, f"{share} > 0", "humanizePercentage")
    return (
        f"{{{{ $value }}}} instance(s): {the_pool(words)} is full, callers queue or time out, and uses that do nothing hold "
        f"{percent(made.number('Full.leak_share'))} or more of its connections, or with several workers of those that one has. Largest share of late by instance: {full_ones}. {owners(words)}. "
        "Restarting an instance frees its pool until it leaks again; the owner's code has to give back."
    )


def _load(made: Made) -> str:
    """Return the full pools that are at work; connects are work where some come off, and else they hang."""
    words = made.words
    uses = recorded(words, "mean_uses")
    served = f"{recorded(words, 'served')} > 0"
    opening = f"(avg_over_time({recorded(words, 'opening')}{made.over('window')}) and {served})"
    busy = f"({uses} + {opening} or {uses})"
    return (
        f"count by ({words.group}) (\n{full(made)}\nand\n"
        f"{busy} * {lately(words, 'processes')} / ({lately(words, 'connections_max')} > 0)"
        f" >= {made.text('mean')}\nunless\n{leaking(made)}\n)"
    )


def _load_description(made: Made) -> str:
    words = made.words
    by_instance = words.label("instance")
    overdue = with_own(words.metric("overdue_uses", kind="idle|idle_in_transaction"))
    past = instances(words, f"sum by ({by_instance}) ({overdue}) > 0")
    quiet = with_own(words.metric("oldest_quiet_seconds"))
    longest = instances(
        words, f"max by ({by_instance}) ({quiet}) >= {1 / words.time_scale:g}", "humanizeDuration"
    )
    queued = instances(words, f"{own(words, 'queued')} > 0")
    return (
        f"{{{{ $value }}}} instance(s): {the_pool(words)} is full, callers queue or time out, and uses that are idle past the "
        f"LeakPolicy hold less than {percent(made.number('Full.leak_share'))} of its connections: more load or slower work "
        "than it can serve, or uses that are idle for less than that. "
        f"Idle past the LeakPolicy: {past}. Longest without activity: {longest}. "
        f"Callers queued: {queued}. Who holds them: {holders(words)}.{behind(made)}"
    )


def _idle(made: Made) -> str:
    suspects = recorded(made.words, "leak_suspects")
    at_least = made.text("uses")
    return (
        f"sum by ({made.words.group}) (\n"
        f"  {suspects} >= {at_least}\n"
        f"  and\n"
        f"  min_over_time({suspects}{made.over('window')}) >= {at_least}\n"
        f")"
    )


def _idle_description(made: Made) -> str:
    words = made.words
    return (
        f"{{{{ $value }}}} use(s) of {the_pool(words)} hold a connection and have done nothing with it past the "
        f"LeakPolicy. Instances: {instances(words, own(words, 'leak_suspects') + ' > 0')}. "
        f"{owners(words)}."
    )


def _collected(made: Made) -> str:
    rise = f"increase({made.words.metric('leaks_collected_total')}{made.over('window')})"
    return f"sum by ({made.words.group}) ({rise}) > 0"


def _collected_description(made: Made) -> str:
    words, window = made.words, made.over("window")
    by_instance = f"sum by ({words.label('instance')})"
    rise = f"{by_instance} (increase({with_own(words.metric('leaks_collected_total'))}{window}))"
    by = words.label("owner")
    owner = f"sum by ({by}) (increase({with_own(words.metric('owner_leaks_total'))}{window}))"
    each = "{{ $one.Labels." + by + " }}"
    listed = asked(words, f"sort_desc(topk(5, {owner} > 0))", each, "not known")
    return (
        f"About {{{{ $value | printf `%.0f` }}}} connection(s) of {the_pool(words)} were dropped without close() and "
        f"found by the garbage collector. Instances: {instances(words, f'{rise} > 0', 'printf `%.0f`')}. "
        f"Owners with leaks in this time: {listed}."
    )


def _missing(made: Made) -> str:
    words = made.words
    here, now = f"{words.presence()} == 1", recorded(words, "slots_taken")
    had = f"present_over_time({recorded(words, 'pools')}{made.over('window')})"

    def lost(labels: str) -> str:
        return (
            f"count by ({words.application}) (\n"
            f"  {here}\n  and on ({labels}) {had}\n  unless on ({labels}) {now}\n)"
        )

    return f"{lost(words.target)}\nor\n{lost(words.application)}"


def _missing_description(made: Made) -> str:
    words = made.words
    presence, now = with_own(words.presence()), with_own(recorded(words, "slots_taken"))
    without = f"topk(5, {presence} == 1 unless on ({words.target}) {now})"
    listed = asked(words, without, "{{ $one.Labels.instance }}", "none at this moment", without_pool=True)
    return (
        f"{{{{ $value }}}} instance(s) are up and show no pool any more, so that no alert about their pools can fire. "
        f"Instances up without a pool: {listed}."
    )


STANDARD = (
    Alert(
        "ExhaustedByLeak",
        "critical",
        (
            lasting(
                120.0, "a pool that leaks fill does not empty by itself; two minutes tell it from a burst"
            ),
            holding(
                900.0,
                "a gap in the scrapes or a restart that leaks again pages once, and what callers met is muted for as "
                "long as it is in the windows of Timeouts",
            ),
        ),
        "A connection pool is full because connections are leaked.",
        exhausted_by_leak,
        _leak_description,
    ),
    Alert(
        "ExhaustedByLoad",
        "warning",
        (
            lasting(180.0, "bursts and cold starts are over by then"),
            holding(600.0, "as long as Timeouts, which it mutes, and over a gap in the scrapes"),
            share(
                "mean",
                0.5,
                "mean uses, exact by the rate of occupancy, as a part of the slots: a job that fills the pool at the "
                "very moments of the scrapes is not taken for load",
            ),
            window(
                300.0,
                "what connects and pre-pings in progress are averaged over; they count as work where some come off",
            ),
        ),
        "A connection pool is full because of load.",
        _load,
        _load_description,
    ),
    UNREACHABLE,
    Alert(
        "LeakIdle",
        "warning",
        (
            lasting(60.0, "two evaluations; the window has waited long enough"),
            holding(300.0, "a restart of the scraped process or a failed scrape does not send a second mail"),
            window(600.0, "overdue at every moment of it, which what recovers by itself is not"),
            number("uses", 1.0, "overdue uses of one instance", least=1.0),
        ),
        "Connections are held and nothing is done with them.",
        _idle,
        _idle_description,
    ),
    Alert(
        "LeakCollected",
        "warning",
        (
            lasting(0.0, "one is a certain leak"),
            holding(3600.0, "it is seen by whoever looks within the hour"),
            window(900.0, "one is not missed in a gap of the scrapes that is as long"),
        ),
        "Connections are dropped without being closed.",
        _collected,
        _collected_description,
    ),
    Alert(
        "TelemetryMissing",
        "warning",
        (
            lasting(900.0, "a restart is over by then"),
            window(21600.0, "how long ago the pools may have been seen last"),
        ),
        "Connection pool metrics are gone while their application is up.",
        _missing,
        _missing_description,
        about="application",
    ),
)
"""The alerts of the default file, in its order."""
