"""Hold and check everything that can be chosen about the rules (pure)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pool_exporter.catalogue.vocabularies import VOCABULARIES
from pool_exporter.monitoring.rules.alert import PREFIX, Alert
from pool_exporter.monitoring.rules.checking import (
    DATABASE_LIMIT,
    check_scale,
    check_selector,
    check_url,
    checked_group,
    checked_interval,
    checked_labels,
    checked_limit,
)
from pool_exporter.monitoring.rules.conditions import FULL
from pool_exporter.monitoring.rules.conditions import SETTINGS as FULL_SETTINGS
from pool_exporter.monitoring.rules.contradictions import check_memory, check_waits
from pool_exporter.monitoring.rules.optional import OPTIONAL
from pool_exporter.monitoring.rules.selectors import Matcher, matchers_of
from pool_exporter.monitoring.rules.settings import Setting, Value
from pool_exporter.monitoring.rules.standard import STANDARD
from pool_exporter.monitoring.rules.words import Words

FORMATS = ("prometheus", "prometheusrule")
RUNBOOKS = "https://runbooks.example.com/pool_exporter"
DASHBOARD = "https://grafana.example.com/d/sqlalchemy-pool"

ALERTS: dict[str, Alert] = {alert.name: alert for alert in (*STANDARD, *OPTIONAL)}
"""Every alert by its name without `PREFIX`."""
SETTINGS: dict[str, Setting] = {
    **{f"{FULL}.{one.name}": one for one in FULL_SETTINGS},
    **{f"{alert.name}.{name}": one for alert in ALERTS.values() for name, one in alert.all_settings.items()},
}
"""Every setting by its full name, such as `LeakIdle.for`."""


@dataclass(frozen=True, slots=True)
class RuleOptions:
    """Choose what the rules are; each argument is an option of `pool-exporter alerts`.

    - `settings`: thresholds by their name, such as `{"LeakIdle.window": "20m"}` or, for every alert
      that has it, `{"*.keep_firing_for": 0}`; numbers of durations are seconds.
    - `off`: alerts to leave out, with or without `PREFIX`.
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
        object.__setattr__(self, "group_by", checked_group(self.group_by))
        check_selector(self.matchers, self.selector, self.group_by)
        object.__setattr__(self, "labels", checked_labels(self.labels, self.words))
        object.__setattr__(self, "interval", checked_interval(self.interval))
        check_scale(self.time_scale)
        object.__setattr__(self, "database_limit", checked_limit(self.database_limit))
        for name, url in (("runbooks", self.runbooks), ("dashboard", self.dashboard)):
            check_url(name, url)
        check_memory(self._seconds)
        check_waits(self._seconds, self.off)

    @property
    def dashboard_of_vocabulary(self) -> str:
        """Return the URL of the dashboard; the default one is that of the same names as the rules."""
        if self.dashboard == DASHBOARD and self.vocabulary == "opentelemetry":
            return DASHBOARD + "-otel"
        return self.dashboard

    @property
    def placeholders(self) -> tuple[str, ...]:
        """Return the URLs that nobody gave, so that they lead nowhere: `runbooks`, `dashboard`."""
        given = (("runbooks", self.runbooks, RUNBOOKS), ("dashboard", self.dashboard, DASHBOARD))
        return tuple(name for name, url, default in given if url == default)

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

    def _seconds(self, name: str) -> float:
        value = self._value(name)
        assert isinstance(value, float)  # noqa: S101 - asked for durations only
        return value


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
