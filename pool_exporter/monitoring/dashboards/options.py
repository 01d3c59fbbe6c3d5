"""Check what a user chooses for the dashboards, and turn it into the words that they are spelled in (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pool_exporter.catalogue.vocabularies import VOCABULARIES
from pool_exporter.monitoring.dashboards.spelling import Words
from pool_exporter.monitoring.rules.checking import TEMPLATE
from pool_exporter.monitoring.rules.options import RuleOptions

TAKEN = frozenset({"alertstate", "datasource", "limit", "Time", "traces", "Value"})
"""Names of variables and columns that the dashboards have themselves."""
_VARIABLE = re.compile(r"\$\w+|\[\[\w+(?::\w+)?\]\]|\$\{\w[^}]*\}")
"""What Grafana takes for a variable: `$x`, `${x}`, `[[x]]`."""


def words_for(
    vocabulary: str = "prometheus",
    selector: str = "",
    group_by: Sequence[str] = ("job", "pool"),
    labels: Mapping[str, str] | None = None,
    recorded: bool = False,
) -> Words:
    """Return the words of one installation; each argument is an option of `pool-exporter dashboards`.

    They mean what they mean for the rules. Raises `ValueError` or `TypeError` that names the argument,
    the value and the remedy.
    """
    checked = RuleOptions(vocabulary=vocabulary, selector=selector, group_by=group_by, labels=labels or {})
    _refuse_variables(f"selector='{selector}'", selector, "put . for the $ into a regular expression")
    for label, value in checked.labels.items():
        if TEMPLATE.search(value):
            raise ValueError(
                f"labels['{label}']={value!r}: what the template gives is not known to the dashboards; leave the label out"
            )
        _refuse_variables(f"labels['{label}']={value!r}", value, "give the alerts another value")
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
    return Words(
        VOCABULARIES[vocabulary],
        ", ".join(matcher.spelled(matcher.label) for matcher in checked.matchers),
        tuple(checked.group_by),
        tuple(checked.labels.items()),
        recorded,
    )


def _refuse_variables(argument: str, text: str, remedy: str) -> None:
    """Refuse what Grafana would put the value of a variable in the place of."""
    found = _VARIABLE.search(text)
    if found is not None:
        raise ValueError(f"{argument}: {found[0]} would be a variable to Grafana; {remedy}")
