"""Fit a committed dashboard to one installation: its selector, its grouping and the labels of its alerts.

A committed dashboard identifies a pool by `job` and `pool`, and narrows its series by nothing but its own
variables. The options of another installation change these places:

- before `job=~"$job"` in each series: the selector, and a matcher for each further variable
- into `label_values(metric, job)`, which has no matchers
- `job, pool` of `by (…)` and `on (…)`, and `{{job}} {{pool}}` of legends
- the matchers of `ALERTS`
- the links to another dashboard, which keep what the variables have chosen
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pool_exporter.catalogue.vocabularies import PROMETHEUS, Vocabulary

_ALERTS = "SQLAlchemyPool.+"
_FIRST_MATCHER = 'job=~"$job"'
_UNMATCHED = r"label_values\((?P<metric>\w[\w:]*), "
_LINK = (
    r"\$\{datasource:queryparam\}&\$\{traces:queryparam\}(?:&\$\{instance:queryparam\})?"
    r"(?=.*?\$\{(?P<source>__data\.fields|__field\.labels)\.)"
)


@dataclass(frozen=True, slots=True)
class Words:
    """Hold what one installation calls things.

    - `vocabulary`: how metrics and labels are spelled.
    - `selector`: matchers that every series must meet, in PromQL, such as `env="prod"`, of labels that an
      alert has too; "" for none.
    - `group_by`: the labels that make a pool, in the catalogue's words, `job` and `pool` among them.
    - `alert_labels`: labels that the rules give to each alert, by which alerts are found again.
    - `recorded`: whether the dashboard of all pools reads recorded series, which know no instance.
    """

    vocabulary: Vocabulary = PROMETHEUS
    selector: str = ""
    group_by: tuple[str, ...] = ("job", "pool")
    alert_labels: tuple[tuple[str, str], ...] = ()
    recorded: bool = False

    @property
    def extra(self) -> tuple[str, ...]:
        """Return the labels of `group_by` for which a dashboard gets a variable besides its own."""
        return tuple(label for label in self.group_by if label not in ("job", "pool"))

    @property
    def variables(self) -> tuple[str, ...]:
        """Return the variables that choose series, each narrowed by those before it."""
        return (*self.extra, "job", *(() if self.recorded else ("instance",)), "pool")

    @property
    def by(self) -> str:
        """Return the labels that make a pool, for `by (…)`."""
        return ", ".join(map(self.vocabulary.label, self.group_by))

    @property
    def legend(self) -> str:
        """Return the labels that make a pool, for a legend."""
        return " ".join(f"{{{{{self.vocabulary.label(label)}}}}}" for label in self.group_by)

    @property
    def alerts(self) -> str:
        """Return the firing alerts of this package's rules, by the variables that an alert has."""
        # One that has no pool, or another selector's labels, is found too.
        chosen = [f'{self.vocabulary.label(name)}=~"${name}|"' for name in self.group_by]
        labels = [f'{name}="{_escaped(value)}"' for name, value in self.alert_labels]
        matchers = [
            *(f'alertname=~"{_ALERTS}"', 'alertstate="firing"'),
            *(*self._selectors(), *labels, *chosen),
        ]
        return f"ALERTS{{{', '.join(matchers)}}}"

    def chosen(self, before: str | None = None) -> str:
        """Return the matchers that the selector and the variables make, of those `before` a variable alone."""
        variables = self.variables[: self.variables.index(before)] if before else self.variables
        return ", ".join(
            [*self._selectors(), *(f'{self.vocabulary.label(name)}=~"${name}"' for name in variables)]
        )

    def link(self, source: str) -> str:
        """Return what a link to another dashboard keeps of the variables; `source` is where Grafana has a row's labels."""
        names = ("datasource", "traces", *(() if self.recorded else ("instance",)))
        kept = [f"${{{name}:queryparam}}" for name in names]
        return "&".join([*kept, *(f"var-{name}=${{{source}.{name}:percentencode}}" for name in self.extra)])

    def fitted(self, text: str) -> str:
        """Return a text of a committed dashboard of this vocabulary as this installation has it."""
        committed = Words(self.vocabulary, recorded=self.recorded)
        narrowed = self.chosen("job")
        places = {
            committed.alerts: self.alerts,
            committed.by: self.by,
            committed.legend: self.legend,
            _FIRST_MATCHER: f"{narrowed}, {_FIRST_MATCHER}" if narrowed else _FIRST_MATCHER,
        }

        def put(found: re.Match[str]) -> str:
            if found["source"]:
                return self.link(found["source"])
            if found["metric"]:
                return f"label_values({found['metric']}{f'{{{narrowed}}}' if narrowed else ''}, "
            return places[found[0]]

        # One pass over the committed text: a selector may itself contain what looks like a place.
        return re.sub("|".join([*map(re.escape, places), _UNMATCHED, _LINK]), put, text)

    def _selectors(self) -> list[str]:
        return [self.selector] if self.selector else []


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
