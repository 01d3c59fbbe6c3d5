"""Say which alert mutes which other of the same pool: the cause its symptoms (pure)."""

from __future__ import annotations

from typing import Any

from pool_exporter.monitoring.rules.alert import PREFIX
from pool_exporter.monitoring.rules.options import RuleOptions

MUTES: dict[str, tuple[str, ...]] = {
    "DatabaseUnreachable": (
        "ExhaustedByLoad",
        "Stuck",
        "Timeouts",
        "FailedAcquires",
        "StrandedWaiters",
        "FailoverStorm",
        "ConnectionChurn",
    ),
    "ExhaustedByLeak": ("LeakIdle", "Stuck", "Timeouts"),
    "Stuck": ("ExhaustedByLoad", "Timeouts"),
    "ExhaustedByLoad": ("Timeouts",),
    "FailoverStorm": ("StaleConnections", "ConnectionChurn"),
}
"""The cause and the symptoms that it explains; what is to be done about these is what ends the cause."""


def inhibit_rules(options: RuleOptions) -> dict[str, Any]:
    """Return Alertmanager's `inhibit_rules` for the alerts of these options."""
    words = options.words
    rules = []
    for cause, symptoms in MUTES.items():
        left = [one for one in symptoms if one not in options.off]
        if cause in options.off or not left:
            continue
        rules.append(
            {
                "source_matchers": [f'alertname="{PREFIX}{cause}"'],
                "target_matchers": [f'alertname=~"{PREFIX}({"|".join(left)})"'],
                "equal": [words.label(label) for label in words.group_by],
            }
        )
    return {"inhibit_rules": rules}
