"""Every metric once: what a snapshot field is called in each vocabulary, and what it means."""

from __future__ import annotations

from pool_exporter.catalogue.buckets import resolve_buckets
from pool_exporter.catalogue.metric import PREFIX, Detail, Kind, Merging, Metric, OpenTelemetryKind
from pool_exporter.catalogue.metrics import (
    AGES_SECONDS,
    CATALOGUE,
    CLOSE_REASONS,
    INVALIDATION_KINDS,
    MAX_ERROR_LABELS,
    MAX_OWNERS,
    OTHER,
    OVERDUE_KINDS,
    PHASES,
    STATES,
    SUSPICION_KINDS,
    opentelemetry_metrics,
    prometheus_metrics,
    series_per_pool,
)

__all__ = [
    "AGES_SECONDS",
    "CATALOGUE",
    "CLOSE_REASONS",
    "INVALIDATION_KINDS",
    "MAX_ERROR_LABELS",
    "MAX_OWNERS",
    "OTHER",
    "OVERDUE_KINDS",
    "PHASES",
    "PREFIX",
    "STATES",
    "SUSPICION_KINDS",
    "Detail",
    "Kind",
    "Merging",
    "Metric",
    "OpenTelemetryKind",
    "opentelemetry_metrics",
    "prometheus_metrics",
    "resolve_buckets",
    "series_per_pool",
]
