"""Spell metrics, labels, selectors and windows for one vocabulary and one choice of labels (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pool_exporter.catalogue import CATALOGUE
from pool_exporter.catalogue.vocabularies import Vocabulary
from pool_exporter.monitoring.rules.durations import duration_of
from pool_exporter.monitoring.rules.selectors import Matcher

_METRICS = {metric.name: metric for metric in CATALOGUE}
_SUFFIXES = ("_bucket", "_sum", "_count")


@dataclass(frozen=True, slots=True)
class Words:
    """Spell what rules are made of: the catalogue's words go in, PromQL comes out.

    `group_by` are the labels that an alert has; `matchers` go on every selector.
    """

    vocabulary: Vocabulary
    group_by: tuple[str, ...]
    matchers: tuple[Matcher, ...]
    time_scale: float = 1.0

    def metric(self, name: str, **labels: str) -> str:
        """Return a selector of a catalogue's metric; a value with `|` is a choice.

        A histogram's name has its suffix: `wait_seconds_bucket`.
        """
        stem = name
        if name not in _METRICS:
            stem = next((name.removesuffix(end) for end in _SUFFIXES if name.endswith(end)), name)
        return self.series(self.vocabulary.metric(stem) + name.removeprefix(stem), **labels)

    def series(self, name: str, **labels: str) -> str:
        """Return a selector of a series by its full name, with the user's matchers and these labels."""
        return name + self._braces(
            [*(one.spelled(self.label(one.label)) for one in self.matchers), *self._of(labels)]
        )

    def presence(self) -> str:
        """Return a selector of what is 1 for each target that is there, whatever else it has."""
        return self.series(self.vocabulary.presence)

    def label(self, label: str) -> str:
        """Return a label's name."""
        return self.vocabulary.label(label)

    def labels(self, labels: Iterable[str]) -> str:
        """Return labels as they stand in a `by (…)` or `on (…)`."""
        return ", ".join(self.label(label) for label in labels)

    @property
    def group(self) -> str:
        """Return the labels of an alert."""
        return self.labels(self.group_by)

    @property
    def instance(self) -> str:
        """Return the labels of an alert and the instance."""
        return self.labels(dict.fromkeys((*self.group_by, "instance")))

    @property
    def target(self) -> str:
        """Return the labels of a target within an alert's group: without the pool."""
        return self.labels(label for label in dict.fromkeys((*self.group_by, "instance")) if label != "pool")

    @property
    def application(self) -> str:
        """Return the labels of an alert that is not about one pool."""
        return self.labels(label for label in self.group_by if label != "pool")

    def over(self, seconds: float) -> str:
        """Return a window, such as `[5m]`."""
        return f"[{self.duration(seconds)}]"

    def duration(self, seconds: float) -> str:
        """Return a duration, divided by the time scale."""
        return duration_of(seconds / self.time_scale)

    def _of(self, labels: dict[str, str]) -> list[str]:
        return [
            f'{self.label(label)}{"=~" if "|" in value else "="}"{value}"' for label, value in labels.items()
        ]

    @staticmethod
    def _braces(matchers: list[str]) -> str:
        return "{" + ",".join(matchers) + "}" if matchers else ""
