"""Define an alert: its settings, its expression and its words, in the catalogue's vocabulary (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pool_exporter.monitoring.rules.numbers import written
from pool_exporter.monitoring.rules.settings import SEVERITIES, Setting, Value
from pool_exporter.monitoring.rules.words import Words

PREFIX = "SQLAlchemyPool"
"""What every alert's name starts with."""


class Made(NamedTuple):
    """Hold what the text of an alert is made of: the words, and its settings' values."""

    words: Words
    values: Mapping[str, Value]
    database_limit: str
    interval_seconds: float
    """Between two evaluations, not scaled."""

    def number(self, name: str) -> float:
        """Return a threshold, or a duration's seconds, not scaled."""
        value = self.values[name]
        assert isinstance(value, float)  # noqa: S101 - the settings' kinds say so
        return value

    def text(self, name: str) -> str:
        """Return a threshold as PromQL has it."""
        return written(self.number(name))

    def over(self, name: str) -> str:
        """Return a window, such as `[5m]`."""
        return self.words.over(self.number(name))

    def summed(self, recorded_rate: str, name: str) -> str:
        """Return by how much a counter rose in a window, out of its recorded rate: a few series, however many pools.

        A sum and no mean: where the recorded series is younger than the window, that is less and not more.
        """
        return f"sum_over_time({recorded_rate}{self.over(name)}) * {written(self.interval_seconds / self.words.time_scale)}"

    def seconds(self, name: str) -> str:
        """Return a duration in scaled seconds, for comparison with a time."""
        return written(self.number(name) / self.words.time_scale)


@dataclass(frozen=True, slots=True)
class Alert:
    """Describe an alert; `name` is without `PREFIX`, which users may leave out too.

    `about` says which labels it has: those of a pool, those of its application alone, or a database server.
    """

    name: str
    severity: str
    settings: tuple[Setting, ...]
    summary: str
    expression: Callable[[Made], str]
    description: Callable[[Made], str]
    about: Literal["pool", "application", "server"] = "pool"

    @property
    def full_name(self) -> str:
        """Return the name that Prometheus and Alertmanager know."""
        return PREFIX + self.name

    @property
    def all_settings(self) -> dict[str, Setting]:
        """Return every setting by its name, the severity included."""
        severity = Setting(
            "severity", "severity", self.severity, f"{', '.join(SEVERITIES)}: page, ticket or neither"
        )
        return {one.name: one for one in (*self.settings, severity)}
