"""Define what can be set of an alert, and check what was given for it (pure)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pool_exporter.monitoring.rules.durations import duration_of, seconds_of
from pool_exporter.monitoring.rules.numbers import written

SEVERITIES = ("critical", "warning", "info")
LONGEST_SECONDS = 30 * 86400.0
TINY = 0.000001
"""The least of what has to be above 0."""
Value = float | str


@dataclass(frozen=True, slots=True)
class Setting:
    """Describe one setting of an alert: its default, its bounds and the reason for the default.

    A duration's value is in seconds. `least` and `most` are inclusive.
    """

    name: str
    kind: Literal["duration", "number", "severity"]
    default: Value
    reason: str
    least: float = 0.0
    most: float = math.inf

    def checked(self, given: object, argument: str) -> Value:
        """Return a given value, text as on a command line; raise `ValueError` that names `argument`."""
        if self.kind == "severity":
            if given in SEVERITIES:
                return str(given)
            raise ValueError(f"{argument}={given!r}: expected {', '.join(SEVERITIES)}")
        try:
            value = self._number(given)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{argument}={given!r}: {error}") from error
        if not self.least <= value <= self.most:
            raise ValueError(f"{argument}={given!r}: out of range; {self.range}")
        return value

    @property
    def range(self) -> str:
        """Return the bounds in words."""
        least, most = self.text(self.least), self.text(self.most)
        if 0 < self.least <= TINY:
            return "above 0" if math.isinf(self.most) else f"above 0, at most {most}"
        return f"at least {least}" if math.isinf(self.most) else f"from {least} to {most}"

    def text(self, value: Value) -> str:
        """Return a value as it is given on a command line."""
        if isinstance(value, str) or math.isinf(value):
            return str(value)
        return duration_of(value) if self.kind == "duration" else written(value)

    def _number(self, given: object) -> float:
        if isinstance(given, bool):
            raise TypeError("expected a number")
        if isinstance(given, (int, float)):
            value = float(given)
        elif isinstance(given, str) and self.kind == "duration":
            value = seconds_of(given.strip())
        elif isinstance(given, str):
            try:
                value = float(given)
            except ValueError:
                raise ValueError("expected a number") from None
        else:
            raise TypeError("expected a number")
        if not math.isfinite(value):
            raise ValueError("expected a finite number")
        return value


def lasting(seconds: float, reason: str) -> Setting:
    """Return the setting of how long a condition must hold before the alert fires."""
    return Setting("for", "duration", seconds, reason, most=LONGEST_SECONDS)


def holding(seconds: float, reason: str) -> Setting:
    """Return the setting of how long an alert fires on after its condition has gone."""
    return Setting("keep_firing_for", "duration", seconds, reason, most=LONGEST_SECONDS)


def window(seconds: float, reason: str, *, least: float = 60.0, name: str = "window") -> Setting:
    """Return the setting of a window to look back over."""
    return Setting(name, "duration", seconds, reason, least=least, most=LONGEST_SECONDS)


def number(name: str, default: float, reason: str, *, least: float = 0.0, most: float = math.inf) -> Setting:
    """Return the setting of a threshold."""
    return Setting(name, "number", default, reason, least=least, most=most)


def share(name: str, default: float, reason: str, *, most: float = 1.0) -> Setting:
    """Return the setting of a part of a whole, above 0."""
    return Setting(name, "number", default, reason, least=TINY, most=most)
