"""Put the truth about a SQLAlchemy connection pool on /metrics: `instrument(engine)`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pool_exporter.capture.callers.attribution import Attribution
from pool_exporter.capture.callers.owner import owner
from pool_exporter.instrumentation.instrument import instrument, snapshots
from pool_exporter.instrumentation.instrumentation import Instrumentation
from pool_exporter.ledger.leak_policy import LeakPolicy
from pool_exporter.records import (
    Exemplar,
    HeldConnection,
    HistogramSnapshot,
    LeakReport,
    PoolSnapshot,
    TimeoutReport,
)

if TYPE_CHECKING:
    from pool_exporter.capture.callers.middleware import OwnerMiddleware
    from pool_exporter.instrumentation.instrument_all import AllInstrumentation, instrument_all
    from pool_exporter.instrumentation.status import status_app
    from pool_exporter.serving import MetricsServer, metrics_app, start_server

__all__ = [
    "AllInstrumentation",
    "Attribution",
    "Exemplar",
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
    "instrument_all",
    "metrics_app",
    "owner",
    "snapshots",
    "start_server",
    "status_app",
]


_LATER = {
    "AllInstrumentation": "pool_exporter.instrumentation.instrument_all",
    "MetricsServer": "pool_exporter.serving",
    "OwnerMiddleware": "pool_exporter.capture.callers.middleware",
    "instrument_all": "pool_exporter.instrumentation.instrument_all",
    "metrics_app": "pool_exporter.serving",
    "start_server": "pool_exporter.serving",
    "status_app": "pool_exporter.instrumentation.status",
}
"""What not every process needs, and where it is: imported when it is first asked for."""


def __getattr__(name: str) -> object:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
