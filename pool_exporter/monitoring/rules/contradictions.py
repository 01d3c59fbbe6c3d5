"""Refuse settings of the rules by which an alert could not fire (pure)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from pool_exporter.monitoring.rules.durations import duration_of

Seconds = Callable[[str], float]
"""Gives the value of a setting by its full name."""
PASSING = ("LeakCollected", "StrandedWaiters", "TelemetryErrors", "FailoverStorm", "TelemetryMissing")
"""Alerts whose condition one event makes true, for as long as it is in their window and no longer."""


def check_memory(seconds: Seconds) -> None:
    """A leak must be remembered for longer than its alert waits, or a pool at the limit goes unreported."""
    memory, waits = seconds("Full.leak_window"), seconds("ExhaustedByLeak.for")
    if memory <= waits:
        raise ValueError(
            f"settings['Full.leak_window']: {memory:g} s must be more than the {waits:g} s of ExhaustedByLeak.for; set "
            f"the one longer, as in Full.leak_window={duration_of(2 * waits)}, or the other shorter"
        )


def check_waits(seconds: Seconds, off: Collection[str]) -> None:
    """What is over when its window is must not be waited for any longer."""
    for name in PASSING:
        waits, window = seconds(f"{name}.for"), seconds(f"{name}.window")
        if waits >= window and name not in off:
            raise ValueError(
                f"settings['{name}.for']: {waits:g} s must be less than the {window:g} s of {name}.window, after which "
                f"the event is forgotten; set the one shorter, or the other longer, as in {name}.window="
                f"{duration_of(2 * waits)}"
            )


def check_storm(instances: float, group_by: Sequence[str], off: Collection[str]) -> None:
    """A storm is about several instances of a group, which is one alone where the group has the instance."""
    if "instance" in group_by and instances > 1 and "FailoverStorm" not in off:
        raise ValueError(
            f"group_by={','.join(group_by)!r}: FailoverStorm asks for {instances:g} instances, and with 'instance' each "
            "alert is about one; leave the label out, or the alert, with --off FailoverStorm"
        )
