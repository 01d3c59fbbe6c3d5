"""Spell what stands between `<<` and `>>` in a template: metrics, labels, groupings and links.

- `<<connections{state="used"}>>`: a metric of the catalogue with its labels, and with the matchers of
  the dashboard's variables; of a histogram with `_bucket`, `_count` or `_sum`.
- `<<job_pool:connections:sum{state="used"}>>`: what the rules record of a metric, for each pool of a job.
- `<<acquires_total before pool>>`: the same with the variables that come before one only.
- `<<ALERTS>>`: the firing alerts of this package's rules, by the variables that an alert has.
- `<<by>>`, `<<legend>>`: the labels that make a pool, for `by (…)` and for a legend.
- `<<.owner>>`: a label. `<<uid>>`, `<<title>>`, `<<vocabulary>>`: what tells two vocabularies apart.
- `<<row>>`, `<<series>>`: the variables of a link that leads on to the pool of a table's row, or of a
  series: what is chosen of all that does not make a pool, and of `group_by` what is not job or pool.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pool_exporter.catalogue import CATALOGUE
from pool_exporter.catalogue.vocabularies import PROMETHEUS, Vocabulary
from pool_exporter.monitoring.rules import RECORDINGS
from pool_exporter.monitoring.rules.words import Words as RuleWords

TOKEN = re.compile(r"<<(.+?)>>")
_METRIC = re.compile(
    r"(?P<name>\w+?)(?P<suffix>_bucket|_count|_sum)?(?:\{(?P<matchers>.+)\})?(?: before (?P<before>\w+))?"
)
_RECORDED = re.compile(
    r"job_pool:(?P<name>\w+):(?P<operation>\w+)(?:\{(?P<matchers>.+)\})?(?: before (?P<before>\w+))?"
)
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)("(?:[^"\\]|\\.)*")')
_RECORDINGS = {(one.metric, one.operation): one for one in RECORDINGS.values() if one.level == "job_pool"}
_HISTOGRAMS = {metric.name for metric in CATALOGUE if metric.kind == "histogram"}
_ALERTS = "SQLAlchemyPool.+"


@dataclass(frozen=True, slots=True)
class Words:
    """Hold what one installation calls things.

    - `vocabulary`: how metrics and labels are spelled.
    - `selector`: matchers that every series must meet, in PromQL, such as `env="prod"`, of labels that an
      alert has too; "" for none.
    - `group_by`: the labels that make a pool, in the catalogue's words, `job` and `pool` among them.
    - `alert_labels`: labels that the rules give to each alert, by which alerts are found again.
    - `recorded`: whether the dashboard of all pools asks recorded series, which know no instance.
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

    def spell(self, text: str) -> str:
        """Return a text of a template as this installation has it. Raises `KeyError` for an unknown metric."""
        return TOKEN.sub(lambda found: self._spelled(found[1]), text)

    def _spelled(self, token: str) -> str:
        if token.startswith("."):
            return self.vocabulary.label(token[1:])
        fixed = self._fixed().get(token)
        if fixed is not None:
            return fixed
        found = _RECORDED.fullmatch(token)
        if found is not None:
            recording = _RECORDINGS[found["name"], found["operation"]]
            return recording.name(RuleWords(self.vocabulary, self.group_by, ())) + self._braces(found)
        found = _METRIC.fullmatch(token)
        if found is None:
            raise KeyError(f"<<{token}>>: not a metric, label or word of a template")
        name, suffix = found["name"], found["suffix"] or ""
        if name not in _HISTOGRAMS:
            name, suffix = name + suffix, ""
        return self.vocabulary.metric(name) + suffix + self._braces(found)

    def _braces(self, found: re.Match[str]) -> str:
        own = [
            f"{self.vocabulary.label(label)}{operator}{value}"
            for label, operator, value in _MATCHER.findall(found["matchers"] or "")
        ]
        matchers = ", ".join([*self._selected(found["before"]), *own])
        return f"{{{matchers}}}" if matchers else ""

    def _fixed(self) -> dict[str, str]:
        labels = [self.vocabulary.label(label) for label in self.group_by]
        through_collector = self.vocabulary is not PROMETHEUS
        return {
            "by": ", ".join(labels),
            "legend": " ".join(f"{{{{{label}}}}}" for label in labels),
            "row": self._leading("__data.fields"),
            "series": self._leading("__field.labels"),
            "uid": "-otel" if through_collector else "",
            "title": " (OpenTelemetry)" if through_collector else "",
            "vocabulary": self.vocabulary.name,
            "ALERTS": f"ALERTS{{{', '.join(self._alerts())}}}",
        }

    def _leading(self, where: str) -> str:
        names = ("datasource", "traces", *(() if self.recorded else ("instance",)))
        kept = [f"${{{name}:queryparam}}" for name in names]
        return "&".join([*kept, *(f"var-{name}=${{{where}.{name}:percentencode}}" for name in self.extra)])

    def _selected(self, before: str | None) -> list[str]:
        """Return the matchers that the selector and the variables make."""
        variables = self.variables[: self.variables.index(before)] if before else self.variables
        chosen = [f'{self.vocabulary.label(name)}=~"${name}"' for name in variables]
        return [*([self.selector] if self.selector else []), *chosen]

    def _alerts(self) -> list[str]:
        """Return the matchers of alerts; one that has no pool, or another selector's labels, is found too."""
        chosen = [f'{self.vocabulary.label(name)}=~"$' + f'{name}|"' for name in self.group_by]
        labels = [f'{name}="{_escaped(value)}"' for name, value in self.alert_labels]
        return [
            *(f'alertname=~"{_ALERTS}"', 'alertstate="firing"'),
            *(*([self.selector] if self.selector else []), *labels, *chosen),
        ]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
