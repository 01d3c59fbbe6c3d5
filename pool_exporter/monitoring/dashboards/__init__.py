"""The Grafana dashboards, and how they are fitted to one installation."""

from __future__ import annotations

from pool_exporter.monitoring.dashboards.committed import (
    DIRECTORY,
    FROM_RECORDED,
    NAMES,
    dashboard,
    dashboards,
    text_of,
)
from pool_exporter.monitoring.dashboards.options import words_for
from pool_exporter.monitoring.dashboards.spelling import Words

__all__ = ["DIRECTORY", "FROM_RECORDED", "NAMES", "Words", "dashboard", "dashboards", "text_of", "words_for"]
