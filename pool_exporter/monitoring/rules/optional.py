"""Declare the alerts of the opt-in file (pure)."""

from __future__ import annotations

from pool_exporter.monitoring.rules.alert import Alert
from pool_exporter.monitoring.rules.optional_database import DATABASE
from pool_exporter.monitoring.rules.optional_pool import POOL
from pool_exporter.monitoring.rules.unreachable import FAILED_ACQUIRES

OPTIONAL: tuple[Alert, ...] = (*POOL, FAILED_ACQUIRES, *DATABASE)
"""The alerts of the opt-in file, in its order."""
