"""Declare the alerts of a database that gives no connection, or not to all who ask (pure)."""

from __future__ import annotations

from pool_exporter.monitoring.rules.alert import Alert, Made
from pool_exporter.monitoring.rules.conditions import age
from pool_exporter.monitoring.rules.recording import RATE_SECONDS, recorded
from pool_exporter.monitoring.rules.settings import holding, lasting, number, share, window
from pool_exporter.monitoring.rules.wording import asked, behind, increases_of, the_pool, with_own


def _unreachable(made: Made) -> str:
    """Return the instances that get no connection though they try: attempts fail, are given up, or hang.

    Those that hang may end in nothing that is counted: callers run into the pool timeout beside them. An instance
    that has just started is given time, but not where nobody gets a connection: then it may start again and again.
    """
    words, window = made.words, made.over("window")

    def rises(metric: str) -> str:
        return f"sum by ({words.instance}) (increase({words.metric(metric)}{window})) > 0"

    hanging = recorded(words, "opening")
    return (
        f"count by ({words.group}) (\n"
        f"(\n  {rises('failed_acquires_total')}\n"
        f"  or\n  (\n    {rises('cancelled_acquires_total')}\n"
        f"    and\n    max_over_time({hanging}{window}) > 0\n  )\n"
        f"  or\n  quantile_over_time(0.5, {hanging}{window}) > 0\n)\n"
        f"unless\n{rises('checkouts_total')}\n"
        f"unless\n(\n  {age(made)} < {made.seconds('grace')}\n"
        f"  and on ({words.group})\n  {recorded(words, 'checkouts_rate')} > 0\n)\n)\n"
        f"or\n(\n{_unreachable_when_quiet(made)}\n)"
    )


def _unreachable_when_quiet(made: Made) -> str:
    """Return the pools that ask seldom and get nothing: failures go on, and nobody gets a connection for long.

    Failures in both of the last two windows are no job that tries a few times in a row.
    """
    words, long = made.words, made.over("quiet_window")
    failed, checkouts = recorded(words, "failed_acquires_rate"), recorded(words, "checkouts_rate")
    return (
        f"  {recorded(words, 'instances')}\n"
        f"  and {made.summed(failed, 'quiet_window')} >= {made.text('quiet_failures')}\n"
        f"  and {failed} > 0\n  and {failed} offset {words.duration(RATE_SECONDS)} > 0\n"
        f"  unless sum_over_time({checkouts}{long}) > 0"
    )


def _unreachable_description(made: Made) -> str:
    words = made.words
    by = words.label("server")
    servers = f"count by ({by}) ({with_own(words.metric('info'))})"
    listed = asked(words, servers, "{{ $one.Labels." + by + " }}", "its database")
    return (
        f"{{{{ $value }}}} instance(s): {the_pool(words)} gets no connection from {listed}: for "
        f"{words.duration(made.number('window'))} every acquire has failed, or hangs in a connect or a ping. "
        f"Failed in {words.duration(made.number('quiet_window'))}: "
        f"{increases_of(made, 'failed_acquires_total', 'quiet_window')}. "
        f"Connect errors: {_errors(made, 'quiet_window')}.{behind(made)}"
    )


def _errors(made: Made, window: str) -> str:
    """Return a template that lists the driver's exceptions that connects ended in."""
    by = made.words.label("error")
    selector = with_own(made.words.metric("connect_errors_total"))
    errors = f"sum by ({by}) (increase({selector}{made.over(window)}))"
    return asked(made.words, f"topk(3, {errors} > 0)", "{{ $one.Labels." + by + " }}", "none counted")


def _failed(made: Made) -> str:
    """Return the pools where a part of the acquires fails, for long and now; not where all do."""
    words, long = made.words, made.over("window")
    failed, acquires = (recorded(words, key) for key in ("failed_acquires_rate", "acquires_rate"))
    limit = made.text("share")
    return (
        f"sum_over_time({failed}{long}) / (sum_over_time({acquires}{long}) > 0) > {limit}\n"
        f"and\n{failed} / ({acquires} > 0) > {limit}\n"
        f"and\n{made.summed(failed, 'window')} >= {made.text('failures')}\n"
        f"unless on ({words.group})\n{words.series('ALERTS', alertname=UNREACHABLE.full_name)}"
    )


def _failed_description(made: Made) -> str:
    words = made.words
    return (
        f"{{{{ $value | humanizePercentage }}}} of the acquires of {the_pool(words)} failed for good in "
        f"{words.duration(made.number('window'))}, and others got a connection: neither a pool timeout nor given up "
        f"by their callers. Failed by instance: {increases_of(made, 'failed_acquires_total', 'window')}. "
        f"Connect errors: {_errors(made, 'window')}."
    )


UNREACHABLE = Alert(
    "DatabaseUnreachable",
    "critical",
    (
        lasting(120.0, "as long as the window, so that one failure of a quiet application is none"),
        holding(
            1200.0,
            "as long as StrandedWaiters, which it mutes as it does Timeouts: nobody is called after the recovery",
        ),
        window(120.0, "no acquire may have succeeded in it; attempts that hang do so in the median of it"),
        window(
            60.0,
            "an instance that started so lately may have to wait for a proxy beside it; it counts nevertheless where "
            "no other gets a connection",
            least=0.0,
            name="grace",
        ),
        window(
            900.0,
            "of an application that asks seldom: no acquire may have succeeded in it",
            name="quiet_window",
        ),
        number("quiet_failures", 3.0, "acquires that failed in it, more than minutes apart", least=1.0),
    ),
    "A connection pool gets no connection from its database.",
    _unreachable,
    _unreachable_description,
)
"""In the default file."""

FAILED_ACQUIRES = Alert(
    "FailedAcquires",
    "warning",
    (
        lasting(900.0, "a restart of the database or of the instances, one after another, is over by then"),
        holding(300.0, "no second mail when the short window runs empty for a moment"),
        share("share", 0.01, "acquires that fail, as a part of all: one tenant's database of a hundred"),
        window(900.0, "what the share is judged over; that it goes on now, by the rate of five minutes"),
        number(
            "failures", 5.0, "with little traffic, one failure is a large part and means little", least=1.0
        ),
    ),
    "Acquires of a connection pool fail.",
    _failed,
    _failed_description,
)
"""In the opt-in file."""
