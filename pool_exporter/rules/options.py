"""Hold and check everything that can be chosen about the rules (pure)."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pool_exporter.catalogue import CATALOGUE
from pool_exporter.rules.alert import PREFIX, Alert
from pool_exporter.rules.conditions import FULL
from pool_exporter.rules.conditions import SETTINGS as FULL_SETTINGS
from pool_exporter.rules.durations import seconds_of
from pool_exporter.rules.optional import OPTIONAL
from pool_exporter.rules.selectors import LABEL, Matcher, matchers_of
from pool_exporter.rules.settings import Setting, Value
from pool_exporter.rules.standard import STANDARD
from pool_exporter.rules.words import Words
from pool_exporter.vocabularies import VOCABULARIES

FORMATS = ("prometheus", "prometheusrule")
RUNBOOKS = "https://runbooks.example.com/pool_exporter"
DASHBOARD = "https://grafana.example.com/d/sqlalchemy-pool"
DATABASE_LIMIT = "pg_settings_max_connections"
RESERVED_LABELS = ("alertname", "severity")

ALERTS: dict[str, Alert] = {alert.name: alert for alert in (*STANDARD, *OPTIONAL)}
"""Every alert by its name without `PREFIX`."""
SETTINGS: dict[str, Setting] = {
    **{f"{FULL}.{one.name}": one for one in FULL_SETTINGS},
    **{f"{alert.name}.{name}": one for alert in ALERTS.values() for name, one in alert.all_settings.items()},
}
"""Every setting by its full name, such as `LeakIdle.for`."""
_CATALOGUE_LABELS = {label for metric in CATALOGUE for label in metric.labels} | {"le"}
_SERIES = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(\{.*\})?")
_URL = re.compile(r"https?://[^\s{}\"'`]+")


@dataclass(frozen=True, slots=True)
class RuleOptions:
    """Choose what the rules are; each argument is an option of `pool-exporter alerts`.

    - `settings`: thresholds by their name, such as `{"LeakIdle.window": "20m"}` or, for every alert
      that has it, `{"*.keep_firing_for": 0}`; numbers of durations are seconds. `off`: alerts to leave out, with or without `PREFIX`.
    - `selector`: matchers put on every selector, of labels that are in `group_by`, `pool` aside.
    - `group_by`: the labels of an alert; all but `pool` are labels of the target.
    - `labels`: more labels for every alert. `runbooks`, `dashboard`: where their URLs begin.
    - `database_limit`: the number of connections that the database allows, or a series that holds it.
    - `time_scale`: divides every duration, for drills that play in fast motion. Ages that the
      exporter counts, such as those of the `LeakPolicy`, have to be scaled there.

    Raises `ValueError` or `TypeError` that names the argument, the value and the remedy.
    """

    vocabulary: str = "prometheus"
    settings: Mapping[str, float | str] = field(default_factory=dict)
    off: Collection[str] = ()
    selector: str = ""
    group_by: Sequence[str] = ("job", "pool")
    labels: Mapping[str, str] = field(default_factory=dict)
    database_limit: float | str = DATABASE_LIMIT
    format: Literal["prometheus", "prometheusrule"] = "prometheus"
    runbooks: str = RUNBOOKS
    dashboard: str = DASHBOARD
    interval: float | str = "30s"
    time_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.vocabulary not in VOCABULARIES:
            raise ValueError(f"vocabulary={self.vocabulary!r}: expected {' or '.join(VOCABULARIES)}")
        if self.format not in FORMATS:
            raise ValueError(f"format={self.format!r}: expected {' or '.join(FORMATS)}")
        object.__setattr__(self, "settings", _checked_settings(self.settings))
        object.__setattr__(
            self, "off", tuple(dict.fromkeys(alert_named(name, "off").name for name in self.off))
        )
        object.__setattr__(self, "group_by", _checked_group(self.group_by))
        _check_selector(self.matchers, self.selector, self.group_by)
        object.__setattr__(self, "labels", _checked_labels(self.labels, self.words))
        object.__setattr__(self, "interval", _checked_interval(self.interval))
        _check_scale(self.time_scale)
        object.__setattr__(self, "database_limit", _checked_limit(self.database_limit))
        for name, url in (("runbooks", self.runbooks), ("dashboard", self.dashboard)):
            _check_url(name, url)
        self._check_memory()

    @property
    def matchers(self) -> tuple[Matcher, ...]:
        """Return the matchers of `selector`."""
        return matchers_of(self.selector)

    @property
    def words(self) -> Words:
        """Return how the rules' words are spelled by these options."""
        return Words(
            VOCABULARIES[self.vocabulary], tuple(self.group_by), self.matchers, float(self.time_scale)
        )

    def values(self, alert: Alert) -> dict[str, Value]:
        """Return the values of an alert's settings, and of the conditions that several alerts share."""
        return {
            **{name: self._value(f"{alert.name}.{name}") for name in alert.all_settings},
            **self.shared_values,
        }

    @property
    def shared_values(self) -> dict[str, Value]:
        """Return the values of the settings that several alerts share, by their full names."""
        return {name: self._value(name) for name in (f"{FULL}.{one.name}" for one in FULL_SETTINGS)}

    def _value(self, name: str) -> Value:
        return self.settings.get(name, SETTINGS[name].default)

    def _check_memory(self) -> None:
        """A leak must be remembered for longer than its alert waits, or a pool at the limit goes unreported."""
        memory, waits = (
            self.settings.get(name, SETTINGS[name].default)
            for name in (f"{FULL}.leak_window", "ExhaustedByLeak.for")
        )
        if memory <= waits:  # type: ignore[operator]  # both are durations, thus numbers
            raise ValueError(
                f"settings['{FULL}.leak_window']: {memory:g} s must be more than the {waits:g} s of "
                "ExhaustedByLeak.for"
            )


def alert_named(name: object, argument: str) -> Alert:
    """Return an alert by its name, with or without `PREFIX`."""
    alert = ALERTS.get(str(name).removeprefix(PREFIX))
    if alert is None:
        raise ValueError(f"{argument}={name!r}: no alert of that name; there are {', '.join(ALERTS)}")
    return alert


def _checked_settings(settings: Mapping[str, float | str]) -> dict[str, Value]:
    if not isinstance(settings, Mapping):
        raise TypeError(f"settings={settings!r}: expected a mapping such as {{'LeakIdle.window': '20m'}}")
    checked = {}
    for given, value in settings.items():
        for full in _settings_named(str(given)):
            checked[full] = SETTINGS[full].checked(value, f"settings[{given!r}]")
    return checked


def _settings_named(given: str) -> list[str]:
    """Return the full names of what `LeakIdle.for` or `*.for` means."""
    subject, _, name = given.partition(".")
    subject = subject.removeprefix(PREFIX)
    if subject == "*":
        found = [full for full in SETTINGS if full.partition(".")[2] == name and not full.startswith(FULL)]
        known = sorted({full.partition(".")[2] for full in SETTINGS if not full.startswith(FULL)})
    else:
        if subject != FULL:
            alert_named(subject, "settings")
        found = [full for full in SETTINGS if full == f"{subject}.{name}"]
        known = [full for full in SETTINGS if full.startswith(subject + ".")]
    if not found:
        raise ValueError(f"settings[{given!r}]: no such setting; there are {', '.join(known)}")
    return found


def _checked_group(group_by: Sequence[str]) -> tuple[str, ...]:
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


def _check_selector(matchers: tuple[Matcher, ...], selector: str, group_by: Sequence[str]) -> None:
    """Refuse matchers on labels that the recorded series do not have: the series of two files would clash."""
    labels = [label for label in group_by if label != "pool"]
    for matcher in matchers:
        if matcher.label in ("pool", "instance") or matcher.label in _CATALOGUE_LABELS:
            raise ValueError(
                f"selector={selector!r}: {matcher.label!r} is told apart by the rules themselves; choose by labels "
                f"of the targets, such as {labels or ['job']}"
            )
        if matcher.label not in labels:
            raise ValueError(
                f"selector={selector!r}: the recorded series have no label {matcher.label!r}; add it to "
                f"group_by, as in {','.join((matcher.label, *group_by))}"
            )


def _checked_labels(labels: Mapping[str, str], words: Words) -> dict[str, str]:
    if not isinstance(labels, Mapping):
        raise TypeError(f"labels={labels!r}: expected a mapping such as {{'team': 'payments'}}")
    taken = {*RESERVED_LABELS, *map(words.label, words.group_by)}
    for label, value in labels.items():
        if not isinstance(label, str) or not LABEL.fullmatch(label) or label.startswith("__"):
            raise ValueError(f"labels[{label!r}]: no valid label name; give one such as team")
        if label in taken:
            raise ValueError(f"labels[{label!r}]: the alerts have this label already; choose another name")
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"labels[{label!r}]={value!r}: expected text, such as 'payments'")
    return dict(labels)


def _checked_interval(interval: object) -> float:
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


def _check_scale(scale: object) -> None:
    if isinstance(scale, bool) or not isinstance(scale, (int, float)):
        raise TypeError(f"time_scale={scale!r}: expected a number, 1 for real time")
    if not math.isfinite(scale) or not 0.01 <= scale <= 1000:
        raise ValueError(f"time_scale={scale!r}: out of range; from 0.01 to 1000, 1 for real time")


def _checked_limit(limit: object) -> float | str:
    if isinstance(limit, str):
        text = limit.strip()
        if _SERIES.fullmatch(text):
            selector = text.partition("{")[2]
            matchers_of("{" + selector if selector else "", "database_limit")
            return text
        try:
            limit = float(text)
        except ValueError:
            raise ValueError(
                f"database_limit={limit!r}: expected a number of connections, such as 100, or a series that holds "
                f"it, such as {DATABASE_LIMIT}"
            ) from None
    if isinstance(limit, bool) or not isinstance(limit, (int, float)):
        raise TypeError(f"database_limit={limit!r}: expected a number of connections or the name of a series")
    if not math.isfinite(limit) or limit < 1:
        raise ValueError(f"database_limit={limit!r}: out of range; at least 1 connection")
    return float(limit)


def _check_url(argument: str, url: object) -> None:
    if not isinstance(url, str) or not _URL.fullmatch(url):
        raise ValueError(f"{argument}={url!r}: expected a URL that begins with http:// or https://")
