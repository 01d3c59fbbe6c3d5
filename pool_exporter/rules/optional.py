"""Declare the alerts of the opt-in file (pure)."""

from __future__ import annotations

from pool_exporter.rules.alert import Alert

OPTIONAL: tuple[Alert, ...] = ()
"""The alerts of the opt-in file, in its order."""
