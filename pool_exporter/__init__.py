"""Put the truth about a SQLAlchemy connection pool on /metrics: `instrument(engine)`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pool_exporter.capture.attribution import Attribution
from pool_exporter.instrument import instrument, snapshots
from pool_exporter.instrumentation import Instrumentation
from pool_exporter.leaks import LeakPolicy
from pool_exporter.owners import owner
from pool_exporter.records import (
    Exemplar,
    HeldConnection,
    HistogramSnapshot,
    LeakReport,
    PoolSnapshot,
    TimeoutReport,
)

if TYPE_CHECKING:
    from pool_exporter.everywhere import AllInstrumentation, instrument_all
    from pool_exporter.middleware import OwnerMiddleware
    from pool_exporter.serving import MetricsServer, metrics_app, start_server
    from pool_exporter.status import status_app

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
    "AllInstrumentation": "pool_exporter.everywhere",
    "MetricsServer": "pool_exporter.serving",
    "OwnerMiddleware": "pool_exporter.middleware",
    "instrument_all": "pool_exporter.everywhere",
    "metrics_app": "pool_exporter.serving",
    "start_server": "pool_exporter.serving",
    "status_app": "pool_exporter.status",
}
"""What not every process needs, and where it is: imported when it is first asked for."""


def __getattr__(name: str) -> object:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
