"""Make recording and alerting rules for Prometheus out of the catalogue, in either vocabulary."""

from __future__ import annotations

from pool_exporter.monitoring.rules.alert import PREFIX, Alert
from pool_exporter.monitoring.rules.files import rule_file
from pool_exporter.monitoring.rules.manifest import Manifest
from pool_exporter.monitoring.rules.options import ALERTS, SETTINGS, RuleOptions
from pool_exporter.monitoring.rules.recording import RECORDINGS, name_of, recorded
from pool_exporter.monitoring.rules.rendering import placeholder_note, rendered, rendered_inhibition

__all__ = [
    "ALERTS",
    "PREFIX",
    "RECORDINGS",
    "SETTINGS",
    "Alert",
    "Manifest",
    "RuleOptions",
    "name_of",
    "placeholder_note",
    "recorded",
    "rendered",
    "rendered_inhibition",
    "rule_file",
]
