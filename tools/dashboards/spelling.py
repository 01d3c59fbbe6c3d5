"""Spell what stands between `<<` and `>>` in the generator's dashboards: metrics, labels, groupings and links.

- `<<connections{state="used"}>>`: a metric of the catalogue with its labels, and with the matchers of
  the dashboard's variables; of a histogram with `_bucket`, `_count` or `_sum`.
- `<<job_pool:connections:sum{state="used"}>>`: what the rules record of a metric, for each pool of a job.
- `<<acquires_total before pool>>`: the same with the variables that come before one only.
- `<<ALERTS>>`: the firing alerts of this package's rules, by the variables that an alert has.
- `<<by>>`, `<<legend>>`: the labels that make a pool, for `by (…)` and for a legend.
- `<<.owner>>`: a label. `<<uid>>`, `<<title>>`, `<<vocabulary>>`: what differs between two vocabularies.
- `<<row>>`, `<<series>>`: the variables of a link that leads on to the pool of a table's row, or of a series.
"""

from __future__ import annotations

import re
from typing import Any

from pool_exporter.catalogue import CATALOGUE
from pool_exporter.catalogue.vocabularies import PROMETHEUS
from pool_exporter.monitoring.dashboards import Words
from pool_exporter.monitoring.rules import RECORDINGS
from pool_exporter.monitoring.rules.words import Words as RuleWords

_TOKEN = re.compile(r"<<(.+?)>>")
_METRIC = re.compile(
    r"(?P<name>\w+?)(?P<suffix>_bucket|_count|_sum)?(?:\{(?P<matchers>.+)\})?(?: before (?P<before>\w+))?"
)
_RECORDED = re.compile(
    r"job_pool:(?P<name>\w+):(?P<operation>\w+)(?:\{(?P<matchers>.+)\})?(?: before (?P<before>\w+))?"
)
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)("(?:[^"\\]|\\.)*")')
_RECORDINGS = {(one.metric, one.operation): one for one in RECORDINGS.values() if one.level == "job_pool"}
_HISTOGRAMS = {metric.name for metric in CATALOGUE if metric.kind == "histogram"}


def spelled(value: Any, words: Words) -> Any:
    """Return a text, list or mapping with each token as an installation has it. Raises `KeyError` for an unknown one."""
    if isinstance(value, str):
        return _TOKEN.sub(lambda found: _spelled(found[1], words), value)
    if isinstance(value, list):
        return [spelled(one, words) for one in value]
    if isinstance(value, dict):
        return {spelled(key, words): spelled(one, words) for key, one in value.items()}
    return value


def _spelled(token: str, words: Words) -> str:
    vocabulary = words.vocabulary
    if token.startswith("."):
        return vocabulary.label(token[1:])
    fixed = _fixed(words).get(token)
    if fixed is not None:
        return fixed
    found = _RECORDED.fullmatch(token)
    if found is not None:
        recording = _RECORDINGS[found["name"], found["operation"]]
        return recording.name(RuleWords(vocabulary, words.group_by, ())) + _braces(found, words)
    found = _METRIC.fullmatch(token)
    if found is None:
        raise KeyError(f"<<{token}>>: not a metric, label or word of a dashboard")
    name, suffix = found["name"], found["suffix"] or ""
    if name not in _HISTOGRAMS:
        name, suffix = name + suffix, ""
    return vocabulary.metric(name) + suffix + _braces(found, words)


def _braces(found: re.Match[str], words: Words) -> str:
    own = [
        f"{words.vocabulary.label(label)}{operator}{value}"
        for label, operator, value in _MATCHER.findall(found["matchers"] or "")
    ]
    matchers = ", ".join(filter(None, [words.chosen(found["before"]), *own]))
    return f"{{{matchers}}}" if matchers else ""


def _fixed(words: Words) -> dict[str, str]:
    through_collector = words.vocabulary is not PROMETHEUS
    return {
        "by": words.by,
        "legend": words.legend,
        "row": words.link("__data.fields"),
        "series": words.link("__field.labels"),
        "uid": "-otel" if through_collector else "",
        "title": " (OpenTelemetry)" if through_collector else "",
        "vocabulary": words.vocabulary.name,
        "ALERTS": words.alerts,
    }
