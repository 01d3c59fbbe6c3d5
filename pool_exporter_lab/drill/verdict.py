"""Compare what fired in a drill with what was to fire (pure)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pool_exporter_lab.drill.webhook import Notice

HARMLESS = frozenset({"info", "none"})
"""Severities that nobody is disturbed by: an innocent scenario may fire these."""
PAGE = "the status page"


@dataclass(frozen=True, slots=True)
class Firing:
    """Hold the first notification of an alert; `seconds` since the fault began, below 0 if before."""

    alert: str
    severity: str
    seconds: float
    description: str

    @property
    def disturbs(self) -> bool:
        """Tell whether somebody is called or gets a ticket."""
        return self.severity not in HARMLESS


@dataclass(frozen=True, slots=True)
class Expectation:
    """Hold what a scenario is to fire: all of `alerts`, of `also` any or none, and nothing else above info.

    - `says`: the verdicts of the status page of which one must be given; empty for any.
    - `tells`: words that the description of an alert must have, by its name, or the text of the verdict, by `PAGE`.
    - `denies`: words that they must not have.
    - `ends`: what is wrong ends by itself: `alerts` are resolved, and afterwards nobody is told of anything.
    """

    alerts: frozenset[str] = frozenset()
    also: frozenset[str] = frozenset()
    says: frozenset[str] = frozenset()
    tells: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    denies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ends: bool = False


def first_firings(notices: Collection[Notice], subjects: Collection[str], began: float) -> list[Firing]:
    """Return the first firing of each alert about one of these jobs and servers, in the order in which they came."""
    firings: dict[str, Firing] = {}
    for notice in sorted(notices, key=lambda notice: notice.received):
        if notice.subject in subjects and notice.firing and notice.alert not in firings:
            firings[notice.alert] = firing_of(notice, began)
    return list(firings.values())


def firing_of(notice: Notice, began: float) -> Firing:
    """Return a notification that an alert fires, by the clock of the fault."""
    return Firing(notice.alert, notice.severity, notice.received - began, notice.description)


def problems(
    expectation: Expectation,
    firings: Sequence[Firing],
    undelivered: Collection[str],
    said: tuple[str, str] | None,
    receiver: str = "the receiver",
) -> list[str]:
    """Return in what a drill differs from its expectation, a sentence each; nothing if it passed.

    `said` are state and words of the status page, None if it did not answer; `receiver` says where notifications go.
    """
    found = []
    came = {firing.alert for firing in firings}
    found += [f"{alert} did not fire" for alert in sorted(expectation.alerts - came - {*undelivered})]
    wanted = expectation.alerts | expectation.also
    for firing in firings:
        if firing.alert in wanted and firing.seconds < 0:
            found.append(f"{firing.alert} fired {-firing.seconds:.1f} s before the fault began")
        elif firing.alert not in wanted and firing.disturbs:
            found.append(
                f"{firing.alert} ({firing.severity}) fired after {firing.seconds:.1f} s and was not expected"
            )
    found += [
        f"{alert} fired in Prometheus, and no notification of it came to {receiver}"
        for alert in sorted(undelivered)
    ]
    state = said[0] if said else None
    if expectation.says and state not in expectation.says:
        found.append(f"{PAGE} said {state!r}, not {' or '.join(sorted(expectation.says))}")
    return found + _untold(expectation, firings, said)


def _untold(expectation: Expectation, firings: Sequence[Firing], said: tuple[str, str] | None) -> list[str]:
    """Return which words are missing or wrong, in what came; of an alert that did not come that is said already."""
    told = {firing.alert: firing.description for firing in firings} | {PAGE: said[1] if said else ""}
    missing = [
        f"{subject} does not say {words!r}, but {told[subject]!r}"
        for subject, all_words in expectation.tells.items()
        for words in all_words
        if subject in told and words not in told[subject]
    ]
    return missing + [
        f"{subject} says {words!r}, which is wrong here: {told[subject]!r}"
        for subject, all_words in expectation.denies.items()
        for words in all_words
        if words in told.get(subject, "")
    ]


def muted(alerts: Collection[str], mutes: Mapping[str, Collection[str]]) -> set[str]:
    """Return the alerts that Alertmanager keeps to itself when `alerts` fire; `mutes`: causes to symptoms."""
    return {symptom for alert in alerts for symptom in mutes.get(alert, ())}
