"""Put the truth about a SQLAlchemy connection pool on /metrics: `instrument(engine)`."""

from __future__ import annotations

from pool_exporter.instrument import instrument, snapshots
from pool_exporter.instrumentation import Instrumentation
from pool_exporter.records import HistogramSnapshot, PoolSnapshot
from pool_exporter.serving import MetricsServer, metrics_app, start_server

__all__ = [
    "HistogramSnapshot",
    "Instrumentation",
    "MetricsServer",
    "PoolSnapshot",
    "instrument",
    "metrics_app",
    "snapshots",
    "start_server",
]
