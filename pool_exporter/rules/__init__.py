"""Make recording and alerting rules for Prometheus out of the catalogue, in either vocabulary."""

from __future__ import annotations

from pool_exporter.rules.alert import PREFIX, Alert
from pool_exporter.rules.files import rule_file
from pool_exporter.rules.options import ALERTS, SETTINGS, RuleOptions
from pool_exporter.rules.recording import RECORDINGS, name_of, recorded
from pool_exporter.rules.rendering import rendered, rendered_inhibition

__all__ = [
    "ALERTS",
    "PREFIX",
    "RECORDINGS",
    "SETTINGS",
    "Alert",
    "RuleOptions",
    "name_of",
    "recorded",
    "rendered",
    "rendered_inhibition",
    "rule_file",
]
