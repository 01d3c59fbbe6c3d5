"""Check what was chosen about the rules: one error that names the argument, the value and the remedy (pure)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from pool_exporter.catalogue import CATALOGUE
from pool_exporter.monitoring.rules.durations import seconds_of
from pool_exporter.monitoring.rules.selectors import LABEL, Matcher, matchers_of
from pool_exporter.monitoring.rules.words import Words

DATABASE_LIMIT = "pg_settings_max_connections"
RESERVED_LABELS = ("alertname", "severity")
_CATALOGUE_LABELS = {label for metric in CATALOGUE for label in metric.labels} | {"le", "process"}
"""Labels of ours; `process` is that of several workers behind one port, of which a target has none."""
TEMPLATE = re.compile(r"\{\{ \$labels\.([a-zA-Z_][a-zA-Z0-9_]*) \}\}")
"""A label of the alert, as a template of Prometheus writes it."""
_SERIES = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(\{.*\})?")
_LIMITS = (
    f"expected a number of connections, such as 100, or a series that holds it, such as {DATABASE_LIMIT}"
)
_KEYWORDS = (
    "and atan2 avg bool bottomk by count count_values end group group_left group_right ignoring inf limit_ratio limitk "
    "max min nan offset on or quantile start stddev stdvar sum topk unless without"
)
"""Words of PromQL, in any case; some of them may be the name of a series for one Prometheus and not for another."""
_URL = re.compile(r"https?://[^\s{}\"'`]+")


def checked_group(group_by: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of an alert, each once."""
    if isinstance(group_by, str) or not isinstance(group_by, Sequence):
        raise TypeError(f"group_by={group_by!r}: expected a sequence of labels, such as ('job', 'pool')")
    labels = tuple(dict.fromkeys(group_by))
    for label in labels:
        if not isinstance(label, str) or not LABEL.fullmatch(label) or label.startswith("__"):
            raise ValueError(
                f"group_by={label!r}: no valid label name; give some such as cluster,namespace,job,pool"
            )
        if label in _CATALOGUE_LABELS or label in RESERVED_LABELS:
            raise ValueError(
                f"group_by={label!r}: not a label of a target; give labels such as cluster,namespace,job,pool"
            )
    if "pool" not in labels:
        raise ValueError(
            f"group_by={','.join(labels)!r}: 'pool' is missing; alerts are about one pool, so add it, "
            "as in cluster,namespace,job,pool"
        )
    return labels


def check_selector(matchers: tuple[Matcher, ...], selector: str, group_by: Sequence[str]) -> None:
    """Refuse matchers on labels that the recorded series do not have: the series of two files would clash."""
    labels = [label for label in group_by if label != "pool"]
    for matcher in matchers:
        if matcher.label in ("pool", "instance") or matcher.label in _CATALOGUE_LABELS:
            raise ValueError(
                f"selector={selector!r}: {matcher.label!r} is told apart by the rules themselves; choose by labels "
                f"of the targets, such as {', '.join(labels) or 'job'}"
            )
        if matcher.label not in labels:
            raise ValueError(
                f"selector={selector!r}: the alerts have no label {matcher.label!r}; add it to "
                f"group_by, as in {','.join((matcher.label, *group_by))}"
            )


def checked_labels(labels: Mapping[str, str], words: Words) -> dict[str, str]:
    """Return further labels of the alerts."""
    if not isinstance(labels, Mapping):
        raise TypeError(f"labels={labels!r}: expected a mapping such as {{'team': 'payments'}}")
    own = [words.label(label) for label in words.group_by]
    taken = {
        *RESERVED_LABELS,
        *own,
        words.label("server"),
    }  # by which CapacityAboveDatabase tells its alerts apart
    for label, value in labels.items():
        if not isinstance(label, str) or not LABEL.fullmatch(label) or label.startswith("__"):
            raise ValueError(f"labels[{label!r}]: no valid label name; give one such as team")
        if label in taken:
            raise ValueError(f"labels[{label!r}]: the alerts have this label already; choose another name")
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"labels[{label!r}]={value!r}: expected text, such as 'payments'")
        if not value.isprintable():
            raise ValueError(
                f"labels[{label!r}]={value!r}: has characters that cannot be written; leave them out"
            )
        _check_templates(label, value, own)
    return dict(labels)


def _check_templates(label: str, value: str, own: Sequence[str]) -> None:
    """Refuse templates in a label's value, other than a label of the alert: Prometheus would not load the file."""
    named = TEMPLATE.findall(value)
    if "{{" in TEMPLATE.sub("", value) or not set(named) <= set(own):
        known = ", ".join(f"{{{{ $labels.{name} }}}}" for name in own)
        raise ValueError(
            f"labels[{label!r}]={value!r}: of templates a value may have labels of the alerts only, which are {known}"
        )


def checked_interval(interval: object) -> float:
    """Return the seconds between two evaluations."""
    if isinstance(interval, str):
        try:
            interval = seconds_of(interval)
        except ValueError as error:
            raise ValueError(f"interval={interval!r}: {error}") from error
    if isinstance(interval, bool) or not isinstance(interval, (int, float)):
        raise TypeError(f"interval={interval!r}: expected a duration, such as '30s', or seconds")
    if not 1 <= interval <= 60:
        raise ValueError(
            f"interval={interval!r}: out of range; from 1s to 60s, since the conditions look back over 2m and need "
            "two evaluations in it"
        )
    return float(interval)


def check_scale(scale: object) -> None:
    """Refuse a time scale that makes no sense."""
    if isinstance(scale, bool) or not isinstance(scale, (int, float)):
        raise TypeError(f"time_scale={scale!r}: expected a number, 1 for real time")
    if not math.isfinite(scale) or not 0.01 <= scale <= 1000:
        raise ValueError(f"time_scale={scale!r}: out of range; from 0.01 to 1000, 1 for real time")


def checked_limit(limit: object) -> float | str:
    """Return the number of connections that the database allows, or the series that holds it."""
    if isinstance(limit, str):
        text = limit.strip()
        if _SERIES.fullmatch(text):
            name = text.partition("{")[0]
            if name.lower() in _KEYWORDS.split():
                raise ValueError(f"database_limit={limit!r}: {name} is a word of PromQL; {_LIMITS}")
            selector = text.partition("{")[2]
            matchers_of("{" + selector if selector else "", "database_limit")
            return text
        try:
            limit = float(text)
        except ValueError:
            raise ValueError(f"database_limit={limit!r}: {_LIMITS}") from None
    if isinstance(limit, bool) or not isinstance(limit, (int, float)):
        raise TypeError(f"database_limit={limit!r}: expected a number of connections or the name of a series")
    if not math.isfinite(limit) or limit < 1:
        raise ValueError(f"database_limit={limit!r}: out of range; at least 1 connection, and {_LIMITS}")
    return float(limit)


def check_url(argument: str, url: object) -> None:
    """Refuse what does not look like an address."""
    if not isinstance(url, str) or not _URL.fullmatch(url):
        raise ValueError(f"{argument}={url!r}: expected a URL that begins with http:// or https://")
