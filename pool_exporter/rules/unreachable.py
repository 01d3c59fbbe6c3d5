"""Declare the alert of a database that gives no connection (pure)."""

from __future__ import annotations

from pool_exporter.rules.alert import Alert, Made
from pool_exporter.rules.conditions import age
from pool_exporter.rules.recording import recorded
from pool_exporter.rules.settings import holding, lasting, window
from pool_exporter.rules.wording import asked, behind, instances, the_pool, with_own


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
        f"  and on ({words.group})\n  {recorded(words, 'checkouts_rate')} > 0\n)\n)"
    )


def _unreachable_description(made: Made) -> str:
    words, window = made.words, made.over("window")
    by = words.label("error")
    failing = f"sum by ({words.label('instance')}) (increase({with_own(words.metric('failed_acquires_total'))}{window}))"
    errors = f"sum by ({by}) (increase({with_own(words.metric('connect_errors_total'))}{window}))"
    each = "{{ $one.Labels." + by + " }}"
    return (
        f"{{{{ $value }}}} instance(s): {the_pool(words)} gets no connection: for "
        f"{words.duration(made.number('window'))} every acquire has failed, or hangs in a connect or a ping. "
        f"Failed: {instances(words, f'{failing} > 0', 'printf `%.0f`')}. "
        f"Connect errors: {asked(words, f'topk(3, {errors} > 0)', each, 'none counted')}.{behind(made)}"
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
    ),
    "A connection pool gets no connection from its database.",
    _unreachable,
    _unreachable_description,
)
"""In the default file."""
