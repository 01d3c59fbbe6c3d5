"""Write the templates of annotations: who, where and how much, asked at the moment of firing (pure)."""

from __future__ import annotations

from pool_exporter.monitoring.rules.alert import Made
from pool_exporter.monitoring.rules.recording import recorded
from pool_exporter.monitoring.rules.words import Words

MAX_LISTED = 5
"""Instances or owners that an annotation lists."""
NOT_KNOWN = 'not known (`detail="basic"`, or attribution is off)'
"""What stands in place of owners."""
BEHIND = (
    "That time goes by behind the pool (unless a stream waits for its reader): in the database, or in a proxy such as "
    "PgBouncer before it. pg_stat_activity shows what the database works on, PgBouncer's SHOW POOLS (cl_waiting) who "
    "waits there."
)
"""What is known of a use that is long at work, and how to learn the rest, which no pool can see."""


def label(words: Words, name: str) -> str:
    """Return a template of one of the alert's labels."""
    return "{{ $labels." + words.label(name) + " }}"


def the_pool(words: Words) -> str:
    """Return "pool P of job J", as far as the alert has these labels."""
    others = [f"{name} {label(words, name)}" for name in words.group_by if name != "pool"]
    return f"pool {label(words, 'pool')}" + (f" of {', '.join(reversed(others))}" if others else "")


def asked(words: Words, expression: str, each: str, otherwise: str, *, without_pool: bool = False) -> str:
    """Return a template that runs a query of its own and writes `each` for every answer.

    `expression` is PromQL with `<own>` where a selector takes the alert's own labels.
    """
    own = [name for name in words.group_by if not (without_pool and name == "pool")]
    matchers = ",".join(f"{words.label(name)}=%q" for name in own)
    count = expression.count("<own>")
    values = " ".join([f"$labels.{words.label(name)}" for name in own] * count)
    query = expression.replace("%", "%%").replace("<own>", matchers)
    assert "`" not in query  # noqa: S101 - it is quoted by them
    call = f"printf `{query}` {values}" if values else f"print `{query}`"
    return (
        "{{ with query (" + call + ") }}"
        "{{ range $index, $one := . }}{{ if $index }}, {{ end }}" + each + "{{ end }}"
        "{{ else }}" + otherwise + "{{ end }}"
    )


def own(words: Words, key: str, **labels: str) -> str:
    """Return a selector of a recorded series that takes the alert's own labels as well."""
    return with_own(recorded(words, key, **labels))


def with_own(selector: str) -> str:
    """Return a selector with room for the alert's own labels."""
    if selector.endswith("{}") or not selector.endswith("}"):
        return selector.removesuffix("{}") + "{<own>}"
    return selector[:-1] + ",<own>}"


def instances(words: Words, expression: str, form: str = "") -> str:
    """Return a template that lists the instances of a query, the worst first, with their values."""
    each = "{{ $one.Labels.instance }} ({{ $one.Value" + (f" | {form}" if form else "") + " }})"
    return asked(words, f"sort_desc(topk({MAX_LISTED}, {expression}))", each, "none at this moment")


def owners(words: Words) -> str:
    """Return a template that lists who has leaked, the largest holder first.

    A leak may be as old as the process, and the owner may have given it back: so it says "have leaked", and that the
    number is all that they hold.
    """
    by = words.label("owner")
    held = with_own(words.metric("owner_connections"))
    leaks = with_own(words.metric("owner_leaks_total"))
    holders = f"sum by ({by}) ({held} and on ({words.instance}, {by}) {leaks} > 0)"
    query = f"sort_desc(topk({MAX_LISTED}, {holders} > 0))"
    each = "{{ $one.Labels." + by + " }} ({{ $one.Value }})"
    listed = asked(words, query, each, NOT_KNOWN)
    return f"Owners that have leaked, with all connections that they hold now: {listed}"


def behind(made: Made) -> str:
    """Return a template that says where the time goes if slots wait for an answer; nothing if none does."""
    words = made.words
    busy = with_own(words.metric("overdue_uses", kind="busy"))
    opening = f"min_over_time({own(words, 'opening')}{made.over('Full.window')})"
    each = (
        " {{ $one.Value }} of its slots are in a long statement or stream, in a connect or in a ping. "
        + BEHIND
    )
    return asked(words, f"sum({busy} or {opening}) > 0", each, "")


def holders(words: Words) -> str:
    """Return a template that lists who holds connections now, the largest first."""
    by = words.label("owner")
    held = f"sum by ({by}) ({with_own(words.metric('owner_connections'))})"
    each = "{{ $one.Labels." + by + " }} ({{ $one.Value }})"
    return asked(words, f"sort_desc(topk({MAX_LISTED}, {held} > 0))", each, NOT_KNOWN)


def increases(made: Made, metric: str, window: str, by: str, **labels: str) -> str:
    """Return by how much a counter rose in the window that a setting names, summed by these labels."""
    return f"sum by ({by}) (increase({made.words.metric(metric, **labels)}{made.over(window)}))"


def increases_of(made: Made, metric: str, window: str, **labels: str) -> str:
    """Return a template that lists the instances where a counter rose, by how much."""
    selector = with_own(made.words.metric(metric, **labels))
    rise = f"sum by ({made.words.label('instance')}) (increase({selector}{made.over(window)}))"
    return instances(made.words, f"{rise} > 0", "printf `%.0f`")
