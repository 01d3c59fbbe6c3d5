"""The rule files and inhibition rules of `alerts/`: what `pool-exporter alerts` prints without further options."""

from __future__ import annotations

from pathlib import Path

from pool_exporter.catalogue.vocabularies import VOCABULARIES
from pool_exporter.monitoring.rules import RuleOptions, rendered, rendered_inhibition
from tools.imports import ROOT

ALERTS = ROOT / "alerts"


def files() -> dict[Path, str]:
    """Return the text of every rule file and of the inhibition rules, by path."""
    made = {}
    for vocabulary in VOCABULARIES:
        options = RuleOptions(vocabulary=vocabulary)
        made[ALERTS / f"{vocabulary}.rules.yml"] = rendered(options, "default")
        made[ALERTS / f"{vocabulary}.opt-in.rules.yml"] = rendered(options, "opt-in")
        prefix = "" if vocabulary == "prometheus" else f"{vocabulary}."
        made[ALERTS / f"{prefix}inhibit_rules.yml"] = rendered_inhibition(options)
    return made
