"""Put the truth about a SQLAlchemy connection pool on /metrics: `instrument(engine)`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pool_exporter.capture.attribution import Attribution
from pool_exporter.instrument import instrument, snapshots
from pool_exporter.instrumentation import Instrumentation
from pool_exporter.leaks import LeakPolicy
from pool_exporter.middleware import OwnerMiddleware
from pool_exporter.owners import owner
from pool_exporter.records import HeldConnection, HistogramSnapshot, LeakReport, PoolSnapshot, TimeoutReport
from pool_exporter.serving import MetricsServer, metrics_app, start_server

if TYPE_CHECKING:
    from pool_exporter.status import status_app

__all__ = [
    "Attribution",
    "HeldConnection",
    "HistogramSnapshot",
    "Instrumentation",
    "LeakPolicy",
    "LeakReport",
    "MetricsServer",
    "OwnerMiddleware",
    "PoolSnapshot",
    "TimeoutReport",
    "instrument",
    "metrics_app",
    "owner",
    "snapshots",
    "start_server",
    "status_app",
]


def __getattr__(name: str) -> object:
    # The page is more code than all the rest, and few processes serve it.
    if name == "status_app":
        return import_module("pool_exporter.status").status_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
