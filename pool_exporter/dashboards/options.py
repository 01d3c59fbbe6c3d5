"""Check what a user chooses for the dashboards, and turn it into the words that they are spelled in (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pool_exporter.dashboards.spelling import Words
from pool_exporter.rules.options import RuleOptions
from pool_exporter.rules.selectors import matchers_of
from pool_exporter.vocabularies import VOCABULARIES

TAKEN = frozenset({"alertstate", "datasource", "limit", "Time", "traces", "Value"})
"""Names of variables and columns that the dashboards have themselves."""


def words_for(
    vocabulary: str = "prometheus",
    selector: str = "",
    group_by: Sequence[str] = ("job", "pool"),
    labels: Mapping[str, str] | None = None,
) -> Words:
    """Return the words of one installation; each argument is an option of `pool-exporter dashboards`.

    They mean what they mean for the rules, but that `selector` may name any label. Raises
    `ValueError` or `TypeError` that names the argument, the value and the remedy.
    """
    checked = RuleOptions(vocabulary=vocabulary, group_by=group_by, labels=labels or {})
    names = VOCABULARIES[vocabulary]
    if "job" not in checked.group_by:
        raise ValueError(
            f"group_by={','.join(checked.group_by)!r}: 'job' is missing; the dashboards lead from pool to pool by it, "
            "so add it, as in cluster,namespace,job,pool"
        )
    if "instance" in checked.group_by:
        raise ValueError(
            f"group_by={','.join(checked.group_by)!r}: 'instance' is chosen on the dashboards already; leave it out"
        )
    taken = [
        label for label in checked.group_by if label in TAKEN or (label != "job" and label.lower() == "job")
    ]
    if taken:
        raise ValueError(
            f"group_by={taken[0]!r}: the dashboards have a variable or a column of that name; leave it out, or give "
            "the targets the label by another name"
        )
    matchers = matchers_of(selector)
    spelled = {matcher: matcher.spelled(names.label(matcher.label)) for matcher in matchers}
    of_alerts = tuple(spelled[matcher] for matcher in matchers if matcher.label in checked.group_by)
    return Words(
        names,
        ", ".join(spelled.values()),
        tuple(checked.group_by),
        tuple(checked.labels.items()),
        of_alerts,
    )
