"""Tell what came of an alert once its cause was over: that it is resolved, and what came after it (pure)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pool_exporter_lab.drill.verdict import Firing, firing_of
from pool_exporter_lab.drill.webhook import Notice


@dataclass(frozen=True, slots=True)
class Aftermath:
    """Hold how it ended.

    - `unresolved`: alerts that were to be resolved, and of which the last that was heard is that they fire.
    - `over_seconds`: when the last of the others was resolved, since the fault began; None if none was.
    - `later`: notifications after that which disturb somebody, repeated ones too.
    """

    unresolved: Sequence[str] = ()
    over_seconds: float | None = None
    later: Sequence[Firing] = ()

    @property
    def problems(self) -> list[str]:
        """Return in what this is no good end, a sentence each."""
        found = [f"{alert} was not resolved" for alert in self.unresolved]
        return found + [
            f"{one.alert} ({one.severity}) fired {one.seconds - (self.over_seconds or 0.0):.1f} s after all was over"
            for one in self.later
        ]


def aftermath(
    notices: Collection[Notice], subjects: Collection[str], began: float, alerts: Collection[str]
) -> Aftermath:
    """Return how it ended for these alerts about one of these jobs and servers."""
    heard = sorted(
        (notice for notice in notices if notice.subject in subjects), key=lambda notice: notice.received
    )
    last = {notice.alert: notice for notice in heard if notice.alert in alerts}
    unresolved = tuple(sorted(alert for alert, notice in last.items() if notice.firing))
    over = [notice.received for notice in last.values() if not notice.firing]
    if unresolved or not over:
        return Aftermath(unresolved)
    later = [firing_of(one, began) for one in heard if one.firing and one.received > max(over)]
    return Aftermath((), max(over) - began, tuple(one for one in later if one.disturbs))
