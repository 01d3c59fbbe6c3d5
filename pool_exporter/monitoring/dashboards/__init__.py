"""Hold the Grafana dashboards as templates in the catalogue's words, and spell them for one installation."""

from __future__ import annotations

from pool_exporter.monitoring.dashboards.options import words_for
from pool_exporter.monitoring.dashboards.spelling import Words
from pool_exporter.monitoring.dashboards.templates import (
    FROM_RECORDED,
    NAMES,
    TEMPLATES,
    dashboard,
    dashboards,
    text_of,
)

__all__ = ["FROM_RECORDED", "NAMES", "TEMPLATES", "Words", "dashboard", "dashboards", "text_of", "words_for"]
